// SPDX-License-Identifier: Apache-2.0

// Package plot draws how something grows, as SVG: charts side by side, both axes
// logarithmic, a line with its points for each series. It is all that docs need,
// without fonts or scripts, and readable on white and on black.
package plot

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Point is one measurement; both are above zero.
type Point struct{ X, Y float64 }

// Series is a line.
type Series struct {
	Name   string
	Points []Point
}

// Chart is one of the charts that stand side by side.
type Chart struct {
	Title  string // what grows to the right
	Series []Series
}

const (
	width, height = 300, 260 // of a chart
	left, right   = 68, 14   // margins
	top, bottom   = 30, 40
)

var colours = []string{"#c2410c", "#2563eb", "#15803d"}

// Draw draws charts that share the scale of their y axes, in the unit given.
func Draw(unit string, charts []Chart) string {
	low, high := math.Inf(1), math.Inf(-1)
	var names []string
	for _, c := range charts {
		for _, s := range c.Series {
			if !slices.Contains(names, s.Name) {
				names = append(names, s.Name)
			}
			for _, p := range s.Points {
				low, high = min(low, p.Y), max(high, p.Y)
			}
		}
	}
	y := axis{low: math.Pow(10, math.Floor(math.Log10(low))), high: math.Pow(10, math.Ceil(math.Log10(high))), from: height - bottom, to: top}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11" fill="#777">`+"\n", width*len(charts), height+24)
	for i, c := range charts {
		fmt.Fprintf(&b, `<g transform="translate(%d 0)">`+"\n", i*width)
		c.draw(&b, y, unit, names)
		fmt.Fprintln(&b, "</g>")
	}
	for i, name := range names {
		fmt.Fprintf(&b, `<circle cx="%d" cy="%d" r="4" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n",
			left+i*160, height+8, colours[i%len(colours)], left+i*160+10, height+12, html.EscapeString(name))
	}
	fmt.Fprintln(&b, "</svg>")
	return b.String()
}

// axis places values between two places, by their logarithms.
type axis struct{ low, high, from, to float64 }

func (a axis) at(v float64) float64 {
	return a.from + (a.to-a.from)*math.Log(v/a.low)/math.Log(a.high/a.low)
}

func (c *Chart) draw(b *strings.Builder, y axis, unit string, names []string) {
	var values []float64
	for _, s := range c.Series {
		for _, p := range s.Points {
			values = append(values, p.X)
		}
	}
	slices.Sort(values)
	values = slices.Compact(values)
	x := axis{low: values[0] / 1.15, high: values[len(values)-1] * 1.15, from: left, to: width - right}
	fmt.Fprintf(b, `<text x="%d" y="16" text-anchor="middle">%s</text>`+"\n", (left+width-right)/2, html.EscapeString(c.Title))
	for v := y.low; v <= y.high*1.01; v *= 10 {
		fmt.Fprintf(b, `<path d="M%d %.1fH%d" stroke="#777" stroke-opacity="0.3"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, y.at(v), width-right, left-6, y.at(v)+4, number(v)+" "+unit)
	}
	for _, v := range values {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x.at(v), height-bottom+16, number(v))
	}
	for _, s := range c.Series {
		colour := colours[slices.Index(names, s.Name)%len(colours)]
		var line strings.Builder
		for i, p := range s.Points {
			fmt.Fprintf(&line, "%s%.1f %.1f", []string{"M", "L"}[min(i, 1)], x.at(p.X), y.at(p.Y))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x.at(p.X), y.at(p.Y), colour)
		}
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", line.String(), colour)
	}
}

// number is a value without an exponent.
func number(v float64) string {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64) // of its own text
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

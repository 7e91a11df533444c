// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kindred/bench/fleets"
	"kindred/bench/placement"
	"kindred/bench/plot"
	"kindred/bench/serving"
)

// run is one comparison.
type run struct {
	dir    string
	limit  int
	fleets int // so far
	rows   []row
}

func (r *run) empty() string { return filepath.Join(r.dir, "empty") }

// row is one question, asked of both.
type row struct {
	size         fleets.Size
	devices      int
	makes        int // that come into question; 0: the fleet is of one
	ready        int // hosts
	theirs, ours []time.Duration
	wanted       string
}

// wanted are the questions about plain fleets that have goals, by hosts and
// devices.
var wanted = map[[2]int]string{{1000, 1}: "at least 500", {100, 4}: "at least 10000"}

// all asks about one fleet after the other: more hosts, more types, more devices
// of one VM; and one of many makes.
func (r *run) all(ctx context.Context) error {
	const seed = 1
	for _, c := range []struct {
		size fleets.Size
		most int // devices of the VM
	}{
		{fleets.Size{Hosts: 100, Types: 16, Plain: true, Devices: 4}, 4},
		{fleets.Size{Hosts: 300, Types: 16, Plain: true, Devices: 1}, 1},
		{fleets.Size{Hosts: 1000, Types: 16, Plain: true, Devices: 1}, 1},
		{fleets.Size{Hosts: 2000, Types: 16, Plain: true, Devices: 1}, 1},
		{fleets.Size{Hosts: 300, Types: 4, Plain: true, Devices: 1}, 1},
		{fleets.Size{Hosts: 300, Types: 32, Plain: true, Devices: 1}, 1},
		{fleets.Size{Hosts: 300, Types: 16}, 2},
	} {
		made, err := fleets.New(seed, c.size)
		if err != nil {
			return err
		}
		if err := r.onFleet(ctx, made, c.most); err != nil {
			return fmt.Errorf("%d hosts × %d types: %w", c.size.Hosts, c.size.Types, err)
		}
	}
	return nil
}

func (r *run) onFleet(ctx context.Context, made *fleets.Fleet, most int) (err error) {
	r.fleets++
	dir := filepath.Join(r.dir, fmt.Sprint("fleet", r.fleets))
	authority, key, err := serving.Prepare(dir, made)
	if err != nil {
		return err
	}
	if err := os.Link(filepath.Join(r.dir, "kindredd"), filepath.Join(dir, "kindredd")); err != nil {
		return err
	}
	server, err := serving.Start(ctx, dir, authority, "--timeout", "1h")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if err := errors.Join(server.Learn(ctx, key, made), server.Report(ctx, made)); err != nil {
		return err
	}
	peer, err := placement.Start(ctx, r.empty(), filepath.Join(dir, "placement"), made)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.Stop()) }()
	q, err := newQuestions(made, server, peer)
	if err != nil {
		return err
	}
	for n := 1; n <= most; n++ {
		one, err := q.compare(ctx, n, r.limit)
		if err != nil {
			return fmt.Errorf("%d devices: %w", n, err)
		}
		if made.Size.Plain {
			one.wanted = wanted[[2]int{made.Size.Hosts, n}]
		}
		r.rows = append(r.rows, *one)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// times are how many there are, the quickest and the median.
func times(list []time.Duration) string {
	sorted := slices.Sorted(slices.Values(list))
	return fmt.Sprintf("%d | %s | %s", len(list), digits(sorted[0]), digits(sorted[len(sorted)/2]))
}

// digits is milliseconds, as exactly as they can be meant.
func digits(d time.Duration) string {
	if v := ms(d); v < 100 {
		return fmt.Sprintf("%.3g", v)
	}
	return fmt.Sprintf("%.0f", ms(d))
}

func (w *row) faster() float64 { return ms(slices.Min(w.theirs)) / ms(slices.Min(w.ours)) }

func (r *run) table() string {
	var b strings.Builder
	b.WriteString("| hosts×parents×types | devices of the VM | makes asked for | hosts with room | Placement: questions | quickest, ms | median | " +
		"Kindred: questions | quickest, ms | median | times as fast | wanted |\n")
	b.WriteString(strings.Repeat("|---", 12) + "|\n")
	for i := range r.rows {
		w := &r.rows[i]
		makes := "all"
		if w.makes > 0 {
			makes = fmt.Sprint(w.makes)
		}
		fmt.Fprintf(&b, "| %d×%d×%d | %d | %s | %d | %s | %s | %.0f | %s |\n", w.size.Hosts, w.size.Parents, w.size.Types, w.devices, makes, w.ready,
			times(w.theirs), times(w.ours), w.faster(), w.wanted)
	}
	return b.String()
}

// charts show how the quickest times grow on plain fleets.
func (r *run) charts() []plot.Chart {
	chart := func(title string, of func(*row) (x int, ok bool)) plot.Chart {
		theirs, ours := plot.Series{Name: "Placement"}, plot.Series{Name: "Kindred"}
		for i := range r.rows {
			w := &r.rows[i]
			if x, ok := of(w); ok && w.size.Plain {
				theirs.Points = append(theirs.Points, plot.Point{X: float64(x), Y: ms(slices.Min(w.theirs))})
				ours.Points = append(ours.Points, plot.Point{X: float64(x), Y: ms(slices.Min(w.ours))})
			}
		}
		less := func(a, b plot.Point) int { return int(a.X - b.X) }
		slices.SortFunc(theirs.Points, less)
		slices.SortFunc(ours.Points, less)
		return plot.Chart{Title: title, Series: []plot.Series{theirs, ours}}
	}
	return []plot.Chart{
		chart("hosts (8 parents × 16 types, one device)", func(w *row) (int, bool) { return w.size.Hosts, w.devices == 1 && w.size.Types == 16 }),
		chart("types (300 hosts, one device)", func(w *row) (int, bool) { return w.size.Types, w.size.Hosts == 300 }),
		chart("devices of one VM (100 hosts × 8 × 16)", func(w *row) (int, bool) { return w.devices, w.size.Hosts == 100 }),
	}
}

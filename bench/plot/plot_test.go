// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"encoding/xml"
	"io"
	"strconv"
	"strings"
	"testing"
)

// TestDraw: a drawing is XML, and every point is in its chart: what is larger
// stands higher and further to the right.
func TestDraw(t *testing.T) {
	text := Draw("ms", []Chart{
		{"hosts & more", []Series{{"slow", []Point{{100, 60}, {1000, 600}}}, {"fast", []Point{{100, 0.2}, {1000, 0.3}}}}},
		{"types", []Series{{"slow", []Point{{1, 7}, {2, 8}, {4, 9000}}}}},
	})
	var xs, ys []float64
	for dec := xml.NewDecoder(strings.NewReader(text)); ; {
		token, err := dec.Token()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		e, ok := token.(xml.StartElement)
		if !ok || e.Name.Local != "circle" {
			continue
		}
		at := make(map[string]string)
		for _, a := range e.Attr {
			at[a.Name.Local] = a.Value
		}
		x, err := strconv.ParseFloat(at["cx"], 64)
		y, err2 := strconv.ParseFloat(at["cy"], 64)
		if err != nil || err2 != nil || x < 0 || y < 0 {
			t.Fatalf("a point at %q, %q", at["cx"], at["cy"])
		}
		if at["r"] == "3" {
			xs, ys = append(xs, x), append(ys, y)
			if x < left || x > width-right || y < top || y > height-bottom {
				t.Errorf("a point outside of its chart: %v, %v", x, y)
			}
		}
	}
	if len(xs) != 7 {
		t.Fatalf("%d points in\n%s", len(xs), text)
	}
	if !(xs[0] < xs[1] && ys[0] > ys[1] && ys[2] > ys[3] && ys[2] > ys[0] && xs[4] < xs[5] && xs[5] < xs[6] && ys[6] < ys[5]) {
		t.Errorf("points at %v, %v", xs, ys)
	}
	// Twice as much is as far wherever it is.
	if d := (xs[6] - xs[5]) - (xs[5] - xs[4]); d > 0.2 || d < -0.2 {
		t.Errorf("steps of one factor differ by %v", d)
	}
}

// SPDX-License-Identifier: Apache-2.0

package domain

import (
	"errors"
	"fmt"
	"html"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// published is libvirt's own description of a domain, as Debian installs it.
const published = "/usr/share/doc/libvirt-doc/html/formatdomain.html"

// TestPublished: the examples of assigned devices that libvirt publishes are
// read, and get other devices and their own again with nothing else touched.
func TestPublished(t *testing.T) {
	page, err := os.ReadFile(published)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("libvirt's examples are not installed (apt-get install libvirt-doc)")
	}
	if err != nil {
		t.Fatal(err)
	}
	met := make(map[string]int)
	for _, example := range examples(string(page)) {
		text := in(example)
		doc, err := Parse([]byte(text))
		if err != nil {
			t.Errorf("%v in\n%s", err, text)
			continue
		}
		for _, h := range doc.Hostdevs {
			met[string(h.Kind)+h.Model]++
			t.Run(h.Device, func(t *testing.T) { elsewhereAndBack(t, doc, h) })
		}
		if len(doc.Hostdevs) > 0 && strings.Contains(example, "<interface type='hostdev'") {
			met["interface"]++
		}
	}
	// Of each of these the page has an example since 4.4.0.
	for _, kind := range []string{"mdevvfio-pci", "mdevvfio-ccw", "pci", "interface"} {
		if met[kind] == 0 {
			t.Errorf("%s: no example of %s was found among %v", published, kind, met)
		}
	}
}

// elsewhereAndBack gives the domain another device in the place of h, and h
// again.
func elsewhereAndBack(t *testing.T, doc *Document, h Hostdev) {
	other := "11111111-2222-4333-8444-555555555555"
	if h.Kind == PCI {
		other = "1ace:7b:1d.6"
	}
	moved, err := doc.Rewrite(map[string]string{h.Device: other})
	if err != nil {
		t.Fatal(err)
	}
	before, after := strings.Split(string(doc.text), "\n"), strings.Split(string(moved), "\n")
	if len(before) != len(after) {
		t.Fatalf("%d lines became %d", len(before), len(after))
	}
	for i := range before {
		if changed := before[i] != after[i]; changed != (i+1 == h.Line) {
			t.Errorf("line %d: %q became %q; the address is on line %d", i+1, before[i], after[i], h.Line)
		}
	}
	again, err := Parse(moved)
	if err != nil {
		t.Fatal(err)
	}
	back, err := again.Rewrite(map[string]string{other: h.Device})
	if err != nil {
		t.Fatal(err)
	}
	if string(back) != string(doc.text) {
		t.Errorf("with its own device again the domain is\n%s\nand was\n%s", back, doc.text)
	}
}

var (
	preformatted = regexp.MustCompile(`(?s)<pre[^>]*>(.*?)</pre>`)
	markup       = regexp.MustCompile(`<[^>]*>`)
)

// examples are what the page shows of a domain's devices, without the dots for
// what is left out.
func examples(page string) []string {
	var list []string
	for _, block := range preformatted.FindAllStringSubmatch(page, -1) {
		text := html.UnescapeString(markup.ReplaceAllString(block[1], ""))
		text = strings.NewReplacer("...", "", "<devices>", "", "</devices>", "").Replace(text)
		if strings.Contains(text, "<hostdev ") || strings.Contains(text, "<interface type='hostdev'") {
			list = append(list, fmt.Sprintf("\n%s\n", strings.TrimSpace(text)))
		}
	}
	return list
}

// SPDX-License-Identifier: Apache-2.0

package domain

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func load(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestParse: what a domain is, and which of the host's devices it has.
func TestParse(t *testing.T) {
	for name, want := range map[string]*Document{
		"mdev.xml": {Name: "desk & chair", UUID: "4dea22b3-1d52-d8f3-2516-782e98ab3fa0", Hostdevs: []Hostdev{
			{Kind: Mdev, Device: "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", Model: "vfio-pci", Line: 16},
			{Kind: Mdev, Device: "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002", Model: "vfio-pci", Line: 24},
		}},
		"pci.xml": {Name: "net", UUID: "c7a5fdbd-edaf-9455-926a-d65c16db1809", Hostdevs: []Hostdev{
			{Kind: PCI, Device: "0000:06:12.5", Driver: "vfio", Line: 10},
			{Kind: PCI, Device: "0000:41:02.1", Line: 18},
			{Kind: PCI, Device: "0001:42:00.2", Driver: "vfio", Line: 25},
		}},
		"s390.xml": {Name: "z", UUID: "11111111-2222-3333-4444-555555555555", Hostdevs: []Hostdev{
			{Kind: Mdev, Device: "9063cba3-ecef-47b6-abcf-3fef4fdcad85", Model: "vfio-ccw", Line: 7},
			{Kind: Mdev, Device: "8bf6a2c1-0c40-4f4d-8d1a-6f0f6d6a0f3e", Model: "vfio-ap", Line: 12},
		}},
	} {
		doc, err := Parse(load(t, name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, doc, cmpopts.IgnoreUnexported(Document{}, Hostdev{})); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
	}
}

// TestRewrite: the same bytes but for the addresses. What is replaced is said
// here a second time, by where it stands in the text.
func TestRewrite(t *testing.T) {
	for _, c := range []struct {
		file    string
		devices map[string]string
		replace []string // old, new, old, new
	}{
		{"mdev.xml", nil, nil},
		{"mdev.xml", map[string]string{"83b8f4f2-509f-382f-3c1e-e6bfe0fa1002": "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002"}, nil},
		{"mdev.xml", map[string]string{"83b8f4f2-509f-382f-3c1e-e6bfe0fa1001": "aa18f4f2-509f-382f-3c1e-e6bfe0fa1001"},
			[]string{"<address uuid='83b8f4f2-509f-382f-3c1e-e6bfe0fa1001'/>", "<address uuid='aa18f4f2-509f-382f-3c1e-e6bfe0fa1001'/>"}},
		{"mdev.xml", map[string]string{ // each other's
			"83b8f4f2-509f-382f-3c1e-e6bfe0fa1001": "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002",
			"83b8f4f2-509f-382f-3c1e-e6bfe0fa1002": "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001",
		}, []string{
			"uuid='83b8f4f2-509f-382f-3c1e-e6bfe0fa1001'", "uuid='83b8f4f2-509f-382f-3c1e-e6bfe0fa1002'",
			`uuid = "83B8F4F2509F382F3C1EE6BFE0FA1002"`, `uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"`,
		}},
		{"pci.xml", map[string]string{"0000:06:12.5": "0000:06:12.6"}, []string{
			"<address domain='0x0000' bus='0x06' slot='0x12' function='0x5'/>", "<address domain='0x0000' bus='0x06' slot='0x12' function='0x6'/>"}},
		{"pci.xml", map[string]string{"0000:41:02.1": "0003:c1:02.7", "0001:42:00.2": "0000:42:1f.2"}, []string{
			"<address bus='65' slot='2' function='01'/>", `<address domain="0x0003" bus='0xc1' slot='2' function='0x7'/>`,
			"<address type='pci' domain='0x0001' bus='0x42' slot='0x00' function='0x2'/>", "<address type='pci' domain='0x0000' bus='0x42' slot='0x1f' function='0x2'/>"}},
		{"s390.xml", map[string]string{"8bf6a2c1-0c40-4f4d-8d1a-6f0f6d6a0f3e": "00000000-0c40-4f4d-8d1a-6f0f6d6a0f3e"}, []string{
			"8bf6a2c1-0c40-4f4d-8d1a-6f0f6d6a0f3e", "00000000-0c40-4f4d-8d1a-6f0f6d6a0f3e"}},
	} {
		text := load(t, c.file)
		want := string(text)
		for i := 0; i < len(c.replace); i += 2 {
			if n := strings.Count(string(text), c.replace[i]); n != 1 {
				t.Fatalf("%s has %q %d times", c.file, c.replace[i], n)
			}
		}
		want = strings.NewReplacer(c.replace...).Replace(want)
		doc, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := doc.Rewrite(c.devices)
		if err != nil {
			t.Errorf("%s, %v: %v", c.file, c.devices, err)
			continue
		}
		if string(got) != want {
			t.Errorf("%s, %v:\n%s", c.file, c.devices, cmp.Diff(want, string(got)))
		}
		if !bytes.Equal(text, load(t, c.file)) {
			t.Errorf("%s was changed in its place", c.file)
		}
	}
}

// TestRewriteRefuses: devices that cannot be put there.
func TestRewriteRefuses(t *testing.T) {
	const one, two = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002"
	for _, c := range []struct {
		file    string
		devices map[string]string
		says    string
	}{
		{"mdev.xml", map[string]string{"0000:06:12.5": "0000:06:12.6"}, "has no device 0000:06:12.5"},
		{"mdev.xml", map[string]string{one: "0000:06:12.6"}, "is no UUID"},
		{"mdev.xml", map[string]string{one: two}, "assigned twice"},
		{"mdev.xml", map[string]string{one: `"/><x y="`}, "is no UUID"},
		{"pci.xml", map[string]string{"0000:06:12.5": one}, "is no PCI address"},
		{"pci.xml", map[string]string{"0000:06:12.5": "0000:06:32.5"}, "is no PCI address"},
		{"pci.xml", map[string]string{"0000:06:12.5": "0000:06:12"}, "is no PCI address"},
	} {
		doc, err := Parse(load(t, c.file))
		if err != nil {
			t.Fatal(err)
		}
		if out, err := doc.Rewrite(c.devices); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s, %v: %v, and %d bytes", c.file, c.devices, err, len(out))
		}
	}
}

// in puts devices into a domain.
func in(devices string) string {
	return "<domain><name>a</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid><devices>" + devices + "</devices></domain>"
}

const someMdev = `<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='83b8f4f2-509f-382f-3c1e-e6bfe0fa1001'/></source></hostdev>`

// TestHostile: texts that mean one thing to one reader and another to the next,
// and texts that are made to cost.
func TestHostile(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"nothing":            {"", "it is no domain"},
		"another thing":      {"<network><name>a</name></network>", "<network> instead of <domain>"},
		"two":                {"<domain/><domain/>", "<domain> instead of <domain>"},
		"cut short":          {in(someMdev)[:100], "unexpected EOF"},
		"crossed":            {"<domain><a></domain></a>", "closed by"},
		"an entity declared": {`<!DOCTYPE d [<!ENTITY u "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001">]>` + in(strings.Replace(someMdev, "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", "&u;", 1)), "document type"},
		"an outer entity":    {`<!DOCTYPE d [<!ENTITY u SYSTEM "file:///etc/shadow">]><domain><name>&u;</name></domain>`, "document type"},
		"an entity unknown":  {"<domain><name>&u;</name></domain>", "entity"},
		"laughs":             {`<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><domain><name>&b;</name></domain>`, "document type"},
		"deep":               {"<domain>" + strings.Repeat("<a>", MaxDepth+1), "more than 256 elements"},
		"long":               {"<domain>" + strings.Repeat(" ", MaxSize) + "</domain>", "at most 4194304"},
		"another encoding":   {`<?xml version="1.0" encoding="UTF-16"?>` + in(someMdev), "UTF-16"},
		"broken UTF-8":       {"<domain><name>\xff</name></domain>", "UTF-8"},
		"two names":          {"<domain><name>a</name><name>b</name></domain>", "second <name>"},
		"a UUID that is not": {"<domain><uuid>c7a5fdbd</uuid></domain>", "is no UUID"},
		"twice the same":     {in(someMdev + someMdev), "assigned twice"},
		"no address":         {in("<hostdev mode='subsystem' type='mdev'><source/></hostdev>"), "no source address"},
		"two addresses":      {in("<hostdev mode='subsystem' type='mdev'><source><address uuid='83b8f4f2-509f-382f-3c1e-e6bfe0fa1001'/><address uuid='83b8f4f2-509f-382f-3c1e-e6bfe0fa1002'/></source></hostdev>"), "two addresses"},
		"two sources":        {in("<hostdev mode='subsystem' type='mdev'><source><address uuid='83b8f4f2-509f-382f-3c1e-e6bfe0fa1001'/></source><source><address uuid='83b8f4f2-509f-382f-3c1e-e6bfe0fa1002'/></source></hostdev>"), "two addresses"},
		"an attribute twice": {in(strings.Replace(someMdev, "uuid=", "uuid='83b8f4f2-509f-382f-3c1e-e6bfe0fa1002' uuid=", 1)), "twice"},
		"a type twice":       {in(strings.Replace(someMdev, "type='mdev'", "type='mdev' type='pci'", 1)), "twice"},
		"an odd UUID":        {in(strings.Replace(someMdev, "83b8", "83b", 1)), "is no UUID"},
		"no bus":             {in("<hostdev type='pci'><source><address function='1'/></source></hostdev>"), "no bus and no slot"},
		"too far":            {in("<hostdev type='pci'><source><address bus='0x100' slot='1'/></source></hostdev>"), "no part of a PCI address"},
		"Go's own numbers":   {in("<hostdev type='pci'><source><address bus='0b1' slot='1'/></source></hostdev>"), "no part of a PCI address"},
		"a wrong address":    {in("<hostdev type='pci'><source><address type='usb' bus='1' slot='1'/></source></hostdev>"), "address of type"},
	} {
		if doc, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q; %+v", name, err, c.says, doc)
		}
	}
	// As many devices as fit in: each is looked at once.
	var many strings.Builder
	for i := 0; many.Len() < MaxSize-1000; i++ {
		fmt.Fprintf(&many, "<hostdev type='mdev'><source><address uuid='83b8f4f2-509f-382f-3c1e-%012x'/></source></hostdev>", i)
	}
	if doc, err := Parse([]byte(in(many.String()))); err != nil || len(doc.Devices()) < 40_000 {
		t.Errorf("many devices: %v", err)
	}
	// Allowed, and to be found in the place where libvirt finds it.
	for name, text := range map[string]string{
		"an entity that all know": in(strings.Replace(someMdev, "83b8", "&#x38;3b8", 1)),
		"mode left out":           in(strings.Replace(someMdev, "mode='subsystem' ", "", 1)),
		"one that is unplugged":   in(someMdev + "<interface type='hostdev'><source><address type='pci' bus='1' slot='1'/></source><teaming type='transient' persistent='ua-backup0'/></interface>"),
		"elsewhere too":           "<domain><metadata><devices>" + someMdev + "</devices></metadata><devices>" + someMdev + "</devices></domain>",
	} {
		doc, err := Parse([]byte(text))
		if err != nil || len(doc.Hostdevs) != 1 || doc.Hostdevs[0].Device != "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001" {
			t.Errorf("%s: %+v, %v", name, doc, err)
		}
	}
}

// TestAnyDevices: whatever the order, the quotes, the space between and the
// number of devices, what comes out is what went in with other addresses.
func TestAnyDevices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		space := rapid.SampledFrom([]string{" ", "\n\t", "  "})
		quote := rapid.SampledFrom([]string{"'", `"`})
		filler := rapid.SampledFrom([]string{"", "<!-- <hostdev/> -->", "<![CDATA[<address uuid='1'/>]]>", "<alias name='ua-1'/>", "<address type='pci' bus='0x01' slot='0x02'/>", "<driver name='vfio'/>"})
		write := func(devices []string) string {
			var b strings.Builder
			for _, d := range devices {
				q, s := quote.Draw(t, "quote"), space.Draw(t, "space")
				typ, address := "mdev", "uuid="+q+d+q
				if n, err := split(d); err == nil {
					typ = "pci"
					address = fmt.Sprintf("domain=%s0x%04x%s%sbus=%s0x%02x%s slot=%s0x%02x%s%sfunction=%s0x%x%s", q, n[0], q, s, q, n[1], q, q, n[2], q, s, q, n[3], q)
				}
				fmt.Fprintf(&b, "%s<hostdev%stype=%s%s%s>%s<source><address%s%s/></source>%s</hostdev>\n",
					filler.Draw(t, "between"), s, q, typ, q, filler.Draw(t, "before"), s, address, filler.Draw(t, "after"))
			}
			return b.String()
		}
		old := rapid.SliceOfNDistinct(rapid.OneOf(
			rapid.StringMatching("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
			rapid.StringMatching("[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]")), 0, 6, rapid.ID[string]).Draw(t, "devices")
		text := in(write(old))
		doc, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		to := make(map[string]string)
		want := text
		var pairs []string
		for i, d := range old {
			if len(d) != 36 {
				continue // its form in the text is libvirt's, not one string
			}
			to[d] = fmt.Sprintf("ffffffff-0000-0000-0000-%012x", i)
			pairs = append(pairs, d, to[d])
		}
		want = strings.NewReplacer(pairs...).Replace(want)
		got, err := doc.Rewrite(to)
		if err != nil || string(got) != want {
			t.Fatalf("%v\n got %s\nwant %s", err, got, want)
		}
	})
}

// FuzzParse: no text makes it fail in another way than with an error, and what it
// took it can give back.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"mdev.xml", "pci.xml", "s390.xml"} {
		f.Add(load(f, name))
	}
	f.Add([]byte(in(someMdev)))
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := Parse(text)
		if err != nil {
			return
		}
		same, err := doc.Rewrite(nil)
		if err != nil || !bytes.Equal(same, text) {
			t.Fatalf("not the same: %v", err)
		}
		for i := range doc.Hostdevs {
			h := &doc.Hostdevs[i]
			to := map[Kind]string{Mdev: "00000000-0000-0000-0000-0000000000aa", PCI: "fffe:fe:1e.7"}[h.Kind]
			if doc.Device(to) != nil {
				continue
			}
			changed, err := doc.Rewrite(map[string]string{h.Device: to})
			if err != nil {
				t.Fatalf("%s: %v", h.Device, err)
			}
			again, err := Parse(changed)
			if err != nil || again.Hostdevs[i].Device != to {
				t.Fatalf("%v", err)
			}
			back, err := again.Rewrite(map[string]string{to: h.Device})
			if err != nil {
				t.Fatal(err)
			}
			if doc2, err := Parse(back); err != nil || cmp.Diff(doc.Devices(), doc2.Devices()) != "" {
				t.Fatalf("and back: %v", err)
			}
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func attributes(namesAndValues ...string) Attributes {
	a := Attributes{Complete: true}
	for i := 0; i < len(namesAndValues); i += 2 {
		a.Set(namesAndValues[i], namesAndValues[i+1])
	}
	return a
}

// rich has every field set at least once, and every state.
func rich() *Inventory {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	three := 3
	pci := &PCI{
		Address: "0000:41:00.0", Vendor: Of("0x10de"), Device: Of("0x2235"), SubsystemVendor: Of("0x10de"), SubsystemDevice: Of("0x145a"),
		Class: Of("0x030200"), Revision: Of("0xa1"), BARs: Of("1000000,0,2000000"), PF: None(), TotalVFs: Of("32"), NumVFs: Of("0"), Override: None(),
	}
	some := attributes("name", "GRID A40-4Q", "empty", "", "odd <&> \u2028 \"quoted\"", "tab\tnew\nline")
	some.Values["gone"] = None()
	some.Unread = []string{"secret"}
	return &Inventory{
		Schema: Schema, Origin: FromTree, Taken: at,
		Host: Host{
			Name:   "one",
			Kernel: Kernel{Release: Of("6.12.3"), Version: Of("#1 SMP"), Arch: Of("x86_64"), BuildID: Of("ab12")},
			OS:     OS{ID: Of("debian"), VersionID: None()},
			QEMU:   Of("9.1.0"), Libvirt: None(),
			Facts: Facts{"ecc": {Of("on"), "/etc/kindred/facts.d/a.yaml"}, "mig": {None(), "/etc/kindred/facts.d/a.yaml"}},
		},
		Modules: []Module{
			{Name: "nvidia", Version: Of("550"), SrcVersion: Of("S"), BuildID: Of("B"), Taint: Of("POE"), Parameters: some},
			{Name: "vfio", BuiltIn: true, SrcVersion: None(), BuildID: Of("C"), Taint: Of(""), Parameters: Attributes{Complete: true}},
		},
		Parents: []Parent{
			{
				Name: "0000:41:00.0", Path: "sys/devices/pci0000:40/0000:41:00.0", Kind: VGPUParent, Namespace: "nvidia", Driver: Of("nvidia"), Modules: []string{"nvidia", "vfio"},
				PCI: pci, NUMANode: Of("-1"), Group: None(), Firmware: attributes("fw.version", "1.2.3"), Attributes: some,
				Facts: Facts{"ecc": {Of("off"), "x"}},
				Types: []Type{
					{TypeName: TypeName{"nvidia", "1"}, Label: Of("Q"), DeviceAPI: Of("vfio-pci"), Description: None(), Available: &three, Creatable: Yes, ListedBy: ListedByKernel, Attributes: some, Migration: &Migration{Yes, "debugfs", []string{"stop-copy", "p2p"}}},
					{TypeName: TypeName{"nvidia", "2"}, Creatable: Unknown, ListedBy: ListedByConfig, ListedAt: &at, ListedIn: "vgpuConfig.xml", Facts: Facts{"a": {Of("b"), "c"}}},
				},
			},
			{Name: "mtty", Path: "sys/devices/virtual/mtty/mtty", Kind: MdevParent, Namespace: "mtty", Driver: None(), Types: []Type{}},
		},
		Devices: []Device{
			{
				ID: "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", Kind: VGPU, Parent: "0000:41:00.0", Type: TypeName{"nvidia", "1"}, Driver: Of("nvidia"), Modules: []string{"nvidia"}, PCI: pci,
				Group: Of("12"), Node: Of("vfio3"), InUse: Yes, Ours: true, Attributes: some, Migration: &Migration{Can: No, Source: "probe"},
				Contract: &Contract{Type: TypeName{"nvidia", "1"}, Label: Of("Q"), DeviceAPI: Of("vfio-pci"), TypeAttributes: some, DeviceAttributes: attributes(), Host: "zero", Recorded: at},
			},
			{ID: "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002", Kind: Mdev, Parent: "mtty", Type: TypeName{"mtty", "1"}, InUse: No, ContractUnread: true},
		},
		Warnings: []Warning{{"sys/x", "permission denied"}},
	}
}

func encode(t testing.TB, inv *Inventory) []byte {
	t.Helper()
	data, err := Encode(inv)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var values = cmp.AllowUnexported(Value{})

func TestRoundTrip(t *testing.T) {
	first := encode(t, rich())
	decoded, err := Decode(first)
	if err != nil {
		t.Fatal(err)
	}
	want := rich()
	want.Sort()
	if diff := cmp.Diff(want, decoded, values, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-encoded +decoded):\n%s", diff)
	}
	if second := encode(t, decoded); !bytes.Equal(first, second) {
		t.Errorf("encoded again it differs:\n%s", cmp.Diff(string(first), string(second)))
	}
	if !bytes.HasSuffix(first, []byte("}\n")) || bytes.Contains(first, []byte("\\u003c")) {
		t.Error("the document has no final newline, or escapes what needs no escape")
	}
}

// TestEncodeIsOrdered: equal hosts are equal bytes, whatever order they were
// read in.
func TestEncodeIsOrdered(t *testing.T) {
	a, b := rich(), rich()
	b.Modules[0], b.Modules[1] = b.Modules[1], b.Modules[0]
	b.Parents[0], b.Parents[1] = b.Parents[1], b.Parents[0]
	b.Parents[1].Types[0], b.Parents[1].Types[1] = b.Parents[1].Types[1], b.Parents[1].Types[0]
	b.Devices[0], b.Devices[1] = b.Devices[1], b.Devices[0]
	if diff := cmp.Diff(string(encode(t, a)), string(encode(t, b))); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyListsAreLists(t *testing.T) {
	data := encode(t, &Inventory{Schema: Schema, Origin: FromKernel, Host: Host{Name: "one"}})
	for _, want := range []string{`"modules": []`, `"parents": []`, `"devices": []`, `"warnings": []`} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("no %s in\n%s", want, data)
		}
	}
	if _, err := Decode(data); err != nil {
		t.Error(err)
	}
}

// replaced is the rich document with one text in it replaced by another.
func replaced(t testing.TB, old, with string) []byte {
	t.Helper()
	data := encode(t, rich())
	if !bytes.Contains(data, []byte(old)) {
		t.Fatalf("no %s in\n%s", old, data)
	}
	return bytes.Replace(data, []byte(old), []byte(with), 1)
}

// lineOf is the line on which a text stands.
func lineOf(data []byte, text string) int {
	before, _, _ := bytes.Cut(data, []byte(text))
	return bytes.Count(before, []byte("\n")) + 1
}

func TestDecodeRefuses(t *testing.T) {
	whole := encode(t, rich())
	dup := rich()
	dup.Devices[1].ID = dup.Devices[0].ID
	twins := rich()
	twins.Parents[1].Name = twins.Parents[0].Name
	orphan := rich()
	orphan.Devices[1].Parent = "nobody"
	twoTypes := rich()
	twoTypes.Parents[0].Types[1].TypeName = twoTypes.Parents[0].Types[0].TypeName
	modules := rich()
	modules.Modules[1].Name = "nvidia"
	minus := rich()
	*minus.Parents[0].Types[0].Available = -1
	for _, c := range []struct {
		name  string
		data  []byte
		words string
		line  int    // 0: the place is named
		where string // part of the named place
	}{
		{"nothing", nil, "empty", 1, ""},
		{"white space", []byte(" \n\n"), "empty", 3, ""},
		{"cut short", whole[:len(whole)/2], "cut short", bytes.Count(whole[:len(whole)/2], []byte("\n")) + 1, ""},
		{"cut before the last brace", bytes.TrimRight(whole, "}\n"), "cut short", bytes.Count(whole, []byte("\n")) - 1, ""},
		{"not JSON", []byte("hello\n"), "invalid character", 1, ""},
		{"a list", []byte("[]"), "array", 1, ""},
		{"null", []byte("null"), "missing", 0, "schema"},
		{"no schema", []byte("{}"), "missing", 0, "schema"},
		{"another schema", replaced(t, `kindred.inventory/v1`, `kindred.inventory/v2`), "v2", 0, "schema"},
		{"schema of another type", replaced(t, `"kindred.inventory/v1"`, `1`), "number", 2, ""},
		{"text after", append(bytes.Clone(whole), "{}"...), "after", bytes.Count(whole, []byte("\n")) + 1, ""},
		{"a stray comma", replaced(t, `"ours": true,`, `"ours": true,,`), "invalid character", lineOf(whole, `"ours": true,`), ""},
		{"text for a bool", replaced(t, `"ours": true`, `"ours": "yes"`), "string", lineOf(whole, `"ours": true`), ""},
		{"an object for a list", replaced(t, `"types": []`, `"types": {}`), "object", lineOf(whole, `"types": []`), ""},
		{"a fraction", replaced(t, `"available": 3`, `"available": 3.5`), "number", lineOf(whole, `"available": 3`), ""},
		{"no host", replaced(t, `"name": "one"`, `"name": ""`), "empty", 0, "host.name"},
		{"unknown origin", replaced(t, `"origin": "tree"`, `"origin": "dream"`), "dream", 0, "origin"},
		{"duplicate device", unchecked(t, dup), "twice", 0, "device 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"},
		{"duplicate parent", unchecked(t, twins), "twice", 0, "parents[1]"},
		{"unknown parent", unchecked(t, orphan), "nobody", 0, "device 83b8f4f2-509f-382f-3c1e-e6bfe0fa1002"},
		{"duplicate type", unchecked(t, twoTypes), "twice", 0, "parent 0000:41:00.0"},
		{"duplicate module", unchecked(t, modules), "twice", 0, "modules[1]"},
		{"fewer than none", unchecked(t, minus), "-1", 0, "parent 0000:41:00.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inv, err := Decode(c.data)
			e, ok := errors.AsType[*Error](err)
			if !ok || inv != nil {
				t.Fatalf("%v, %v", inv, err)
			}
			if !strings.Contains(err.Error(), c.words) || e.Line != c.line || !strings.Contains(e.Where, c.where) || c.line > 0 && e.Column < 1 {
				t.Errorf("want %q at line %d of %q: line %d, column %d, where %q: %v", c.words, c.line, c.where, e.Line, e.Column, e.Where, err)
			}
		})
	}
}

// unchecked is what Encode would write if it did not refuse.
func unchecked(t *testing.T, inv *Inventory) []byte {
	t.Helper()
	data, err := json.MarshalIndent(inv, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestUnknownKeyIsRefused(t *testing.T) {
	for _, data := range [][]byte{
		replaced(t, `"ours": true`, `"theirs": true`),
		replaced(t, `"origin"`, `"colour": "red", "origin"`),
		replaced(t, `"unread"`, `"unseen"`),
	} {
		if _, err := Decode(data); err == nil || !strings.Contains(err.Error(), "unknown key") {
			t.Error(err)
		}
	}
}

func TestAttributes(t *testing.T) {
	a := attributes("a", "1", "b", "2")
	for name, want := range map[string]State{"a": Present, "c": Absent} {
		if got := a.Get(name).State(); got != want {
			t.Errorf("%s is %s", name, got)
		}
		a.Forget(name)
		a.Forget(name)
		if got := a.Get(name).State(); got != NotObserved {
			t.Errorf("%s, forgotten, is %s", name, got)
		}
	}
	if diff := cmp.Diff([]string{"a", "c"}, a.Unread); diff != "" {
		t.Error(diff)
	}
	var none Attributes
	none.Forget("a")
	if !none.IsZero() || none.Get("a").State() != NotObserved || a.IsZero() || (Attributes{Complete: true}).IsZero() {
		t.Error("a place nobody looked at is not told from one that is empty")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, rich()))
	f.Add(encode(f, &Inventory{Schema: Schema, Origin: FromKernel, Host: Host{Name: "one"}}))
	const head = `{"schema":"kindred.inventory/v1","origin":"tree","host":{"name":"a"`
	for _, rest := range []string{
		`}}`, `,"qemu":null}}`, `,"facts":{"a":{"value":null,"source":"s"}}}}`, `},"modules":[{"name":"m","parameters":{"values":{"a":null},"unread":["b"],"complete":true}}]}`,
		`},"parents":[{"name":"p","types":[{"namespace":"n","name":"t","creatable":"no","listed_by":"kernel"}]}],"devices":[{"id":"d","parent":"p","in_use":"no","contract":null}]}`,
		`},"parents":null}`, `},"taken":"2026-01-02T03:04:05.5+01:00"}`, `,"name":5}}`, `}} x`,
	} {
		f.Add([]byte(head + rest))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		inv, err := Decode(data)
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok || inv != nil {
				t.Errorf("%v, %v", inv, err)
			}
			return
		}
		first, err := Encode(inv)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(first)
		if err != nil {
			t.Fatalf("what was encoded is refused: %v\n%s", err, first)
		}
		if diff := cmp.Diff(inv, again, values, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("decoded (-) and decoded again (+):\n%s", diff)
		}
		if second := encode(t, again); !bytes.Equal(first, second) {
			t.Errorf("encoded again it differs:\n%s", cmp.Diff(string(first), string(second)))
		}
	})
}

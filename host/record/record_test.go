// SPDX-License-Identifier: Apache-2.0

//go:build linux

package record

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindred/host/tree"
	"kindred/inventory"
)

func card(devices ...inventory.Device) *inventory.Inventory {
	return &inventory.Inventory{
		Taken: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC),
		Parents: []inventory.Parent{{Name: "0000:41:00.0", Kind: inventory.VGPUParent, Types: []inventory.Type{{
			TypeName: inventory.TypeName{Namespace: "nvidia", Name: "1148"}, Label: inventory.Of("L40S-2Q"), Available: new(24), Creatable: inventory.Yes, ListedBy: inventory.ListedByKernel,
		}}}},
		Devices: devices,
	}
}

// TestIdle remembers what an idle card offers, and fills a full one from it.
func TestIdle(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "sys"), 0o755); err != nil {
		t.Fatal(err)
	}
	files, err := RememberIdle(root, card(inventory.Device{ID: "x", Parent: "0000:41:00.0"}))
	if err != nil || len(files) != 0 {
		t.Errorf("a card in use was remembered: %v, %v", files, err)
	}
	if files, err = RememberIdle(root, card()); err != nil || len(files) != 1 {
		t.Fatalf("remembered %v, %v", files, err)
	}
	full := card()
	full.Parents[0].Types = nil
	d, err := tree.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	Apply(d, full, func(name string, err error) { t.Errorf("%s: %v", name, err) })
	want := card().Parents[0].Types
	want[0].ListedBy, want[0].ListedIn, want[0].ListedAt = inventory.ListedByIdle, "var/lib/kindred/idle/0000:41:00.0.json", new(card().Taken)
	want[0].Available, want[0].Creatable = new(0), inventory.No
	if diff := cmp.Diff(want, full.Parents[0].Types, cmp.AllowUnexported(inventory.Value{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// What the kernel lists now is newer.
	now := card()
	Apply(d, now, func(name string, err error) { t.Errorf("%s: %v", name, err) })
	if diff := cmp.Diff(card(), now, cmp.AllowUnexported(inventory.Value{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestIdleStays: nothing is written outside the root, of a card that was not
// read whole, or of facts, which are the operator's.
func TestIdleStays(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(root, "var")); err != nil {
		t.Fatal(err)
	}
	if files, err := RememberIdle(root, card()); err == nil {
		t.Errorf("wrote %v through a link out of the root", files)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("outside there are %v, %v", left, err)
	}
	open := card()
	open.Parents[0].TypesUnread = true
	if files, err := RememberIdle(t.TempDir(), open); err != nil || len(files) != 0 {
		t.Errorf("a card with a function unread was remembered: %v, %v", files, err)
	}
	root = t.TempDir()
	stated := card()
	stated.Parents[0].Types[0].Facts = inventory.Facts{"ecc": {Value: inventory.Of("on")}}
	for range 2 { // the second time over the first
		files, err := RememberIdle(root, stated)
		if err != nil || len(files) != 1 {
			t.Fatalf("remembered %v, %v", files, err)
		}
		if data, err := os.ReadFile(filepath.Join(root, files[0])); err != nil || strings.Contains(string(data), "ecc") {
			t.Errorf("%v: facts were written down:\n%s", err, data)
		}
	}
}

// TestContract: a record is a contract, no record is none, and a record that
// cannot be read leaves it open.
func TestContract(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("devices/kept.json", `{"ours": true, "contract": {"type": {"namespace": "n", "name": "t"}, "recorded": "2026-11-01T00:00:00Z"}}`)
	write("devices/broken.json", `{"ours": true, `)
	write("devices/unknown.json", `{"theirs": true}`)
	write("devices/..!..!etc.json", `{"ours": true, "contract": null}`)
	d, err := tree.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	inv := &inventory.Inventory{Devices: []inventory.Device{{ID: "kept"}, {ID: "broken"}, {ID: "unknown"}, {ID: "none"}, {ID: "../../etc"}}}
	var warned []string
	Apply(d, inv, func(name string, err error) { warned = append(warned, filepath.Base(name)) })
	var got []string
	for _, dev := range inv.Devices {
		state := "none"
		if dev.Contract != nil {
			state = dev.Contract.Type.Full()
		}
		if dev.ContractUnread {
			state = "unread"
		}
		if dev.Ours {
			state += ", ours"
		}
		got = append(got, dev.ID+": "+state)
	}
	want := []string{"kept: n-t, ours", "broken: unread", "unknown: unread", "none: none", "../../etc: none, ours"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if strings.Join(warned, " ") != "broken.json unknown.json" {
		t.Errorf("warned of %v", warned)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"ours": true, "contract": {"type": {"namespace": "n", "name": "t"}, "recorded": "2026-11-01T00:00:00Z"}}`))
	f.Add([]byte(`{"taken": "2026-11-01T00:00:00Z", "types": [{"namespace": "n", "name": "t", "creatable": "yes", "listed_by": "kernel"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var dev Device
		var idle Idle
		_, _ = parse(data, &dev), parse(data, &idle)
	})
}

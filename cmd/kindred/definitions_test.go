// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"kindred/definition"
	"kindred/inventory"
)

// uuids are of definitions that a store in a test has on parent p.
var uuids = []string{"11111111-0000-4000-8000-00000000000a", "22222222-0000-4000-8000-00000000000b", "33333333-0000-4000-8000-00000000000c"}

func storeOf(t *testing.T) (*definition.Store, string) {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, definition.Dir, "p")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, id := range uuids {
		if err := os.WriteFile(filepath.Join(dir, id), []byte(`{"mdev_type":"t-1","start":"auto"}`), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	store, err := definition.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store, dir
}

// TestUndefine: one that cannot be undefined does not keep the others from it,
// and all that failed is told.
func TestUndefine(t *testing.T) {
	store, dir := storeOf(t)
	var said strings.Builder
	cmd := new(cobra.Command)
	cmd.SetErr(&said)
	left := func() (n int) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	ctx, cancel := context.WithCancel(t.Context())
	refs := []string{"none", uuids[0], "44444444-0000-4000-8000-00000000000d", "2222", uuids[1]}
	err := undefine(ctx, cmd, store, "", refs, func(string, error) {})
	exit, ok := errors.AsType[*exitError](err)
	if !ok || exit.code != exitNoSuch || !strings.Contains(err.Error(), "44444444") || !strings.Contains(said.String(), "kindred: device none: not defined") {
		t.Errorf("%v; %s", err, said.String())
	}
	if left() != 1 {
		t.Errorf("%d definitions are left", left())
	}
	cancel()
	err = undefine(ctx, cmd, store, "", uuids[2:], func(string, error) {})
	if exit, ok := errors.AsType[*exitError](err); !ok || exit.code != exitInterrupt || left() != 1 {
		t.Errorf("interrupted: %v, %d left", err, left())
	}
	if err := undefine(t.Context(), cmd, store, "", uuids[2:], func(string, error) {}); err != nil || left() != 0 {
		t.Errorf("%v, %d left", err, left())
	}
}

// TestModifyRefuses: what could be started nowhere is not written.
func TestModifyRefuses(t *testing.T) {
	store, dir := storeOf(t)
	outside := filepath.Join(t.TempDir(), "outside.json")
	if err := os.WriteFile(outside, []byte(`{"mdev_type":"../x","start":"auto"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		opts modifyOptions
		code int
	}{
		{modifyOptions{device: deviceFlags{typ: "../../x"}}, exitUsage},
		{modifyOptions{device: deviceFlags{attrs: []string{"../../x=1"}}}, exitUsage},
		{modifyOptions{json: outside}, exitInput},
		{modifyOptions{device: deviceFlags{typ: "t-2", attrs: []string{"vendor/knob=1"}}}, exitOK},
		{modifyOptions{auto: true}, exitOK},
	} {
		cmd := new(cobra.Command)
		change, err := c.opts.change(cmd)
		if err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(filepath.Join(dir, uuids[0]))
		_, err = modify(t.Context(), cmd, &c.opts, store, uuids[0], change, func(string, error) {})
		after, _ := os.ReadFile(filepath.Join(dir, uuids[0]))
		exit, _ := errors.AsType[*exitError](err)
		if c.code == exitOK && err != nil || c.code != exitOK && (exit == nil || exit.code != c.code || string(before) != string(after)) {
			t.Errorf("%+v: %v; the file is %s", c.opts, err, after)
		}
	}
}

// TestRuns: a device of another type, or on another parent, is not the one
// that is defined.
func TestRuns(t *testing.T) {
	d := &definition.Definition{UUID: uuids[0], Parent: "p", Type: "t-1"}
	for want, dev := range map[string]*inventory.Device{
		"no":     nil,
		"yes":    {ID: uuids[0], Parent: "p", Type: inventory.TypeName{Namespace: "t", Name: "1"}},
		"as t-2": {ID: uuids[0], Parent: "p", Type: inventory.TypeName{Namespace: "t", Name: "2"}},
		"as 3":   {ID: uuids[0], Parent: "p", Type: inventory.TypeName{Name: "3"}},
	} {
		data := asData(d, dev)
		if got := data.runsText(); got != want || data.Running != (want == "yes") || (data.RunsAs == nil) != (dev == nil) {
			t.Errorf("%q, %+v; want %q", got, data, want)
		}
	}
	other := &inventory.Device{ID: uuids[0], Parent: "q", Type: inventory.TypeName{Namespace: "t", Name: "1"}}
	if data := asData(d, other); data.runsText() != "no" {
		t.Errorf("on another parent it is %q", data.runsText())
	}
}

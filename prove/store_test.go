// SPDX-License-Identifier: Apache-2.0

//go:build linux

package prove

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/inventory"
)

func store(t *testing.T) *Store {
	dir := t.TempDir()
	return &Store{Dir: filepath.Join(dir, "proofs"), Keys: dir, Site: filepath.Join(dir, "site")}
}

func someProof(build string) *compat.Proof {
	typ := inventory.TypeName{Namespace: "acme", Name: "q1"}
	return &compat.Proof{SourceType: typ, TargetType: typ, SourceBuild: "a", TargetBuild: build, Grade: compat.WorkingState, Result: compat.Accepted, Time: time.Unix(1_700_000_000, 0).UTC()}
}

func TestStore(t *testing.T) {
	s := store(t)
	if entries, err := s.Entries(); err != nil || len(entries) != 0 {
		t.Fatalf("an empty store: %v, %v", entries, err)
	}
	file, err := s.Add(someProof("b"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Add(someProof("b"))
	if err != nil || again != file {
		t.Errorf("the same proof twice: %s, %v, want %s", again, err, file)
	}
	if _, err := s.Add(someProof("c")); err != nil {
		t.Fatal(err)
	}
	entries, err := s.Entries()
	if err != nil || len(entries) != 2 || len(Counting(entries)) != 2 {
		t.Fatalf("%+v, %v", entries, err)
	}
	if mode, err := os.Stat(filepath.Join(s.Keys, "proof.key")); err != nil || mode.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", mode, err)
	}

	// What is foreign, changed or broken does not count, and does not hide the rest.
	foreign, err := WriteKey(filepath.Join(s.Keys, "foreign.key"), "foreign")
	if err != nil {
		t.Fatal(err)
	}
	f := &proofs.File{Proofs: []compat.Proof{*someProof("d")}}
	if err := f.Sign(foreign); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(f); !errors.Is(err, ErrNotTrusted) {
		t.Errorf("imported what nobody vouches for: %v", err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(data), `"accepted"`, `"rejected"`, 1)
	for name, text := range map[string]string{"changed.json": changed, "broken.json": "{", "other.txt": "x"} {
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err = s.Entries(); err != nil || len(entries) != 4 || len(Counting(entries)) != 2 {
		t.Fatalf("%d entries, %d count, %v", len(entries), len(Counting(entries)), err)
	}

	// The site comes to trust it.
	if err := os.MkdirAll(s.Site, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(s.Keys, "foreign.pub"), filepath.Join(s.Site, "foreign.pub")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(f); err != nil {
		t.Error(err)
	}
	if entries, err = s.Entries(); err != nil || len(Counting(entries)) != 3 {
		t.Errorf("%d count, %v", len(Counting(entries)), err)
	}
	if err := os.WriteFile(filepath.Join(s.Site, "bad.pub"), []byte("what\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Entries(); err == nil || !strings.Contains(err.Error(), "bad.pub: line 1") {
		t.Errorf("a broken key is told as %v", err)
	}
}

// TestKey: many processes need the first key at once and get one; a crash
// between its two files is mended.
func TestKey(t *testing.T) {
	s := store(t)
	keys := make([]*proofs.PrivateKey, 20)
	var group sync.WaitGroup
	for i := range keys {
		group.Go(func() {
			var err error
			if keys[i], err = s.Key(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	for _, k := range keys {
		if *k != *keys[0] {
			t.Fatal("two keys")
		}
	}
	public := filepath.Join(s.Keys, "proof.pub")
	before, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(public); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Key(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(public); err != nil || string(after) != string(before) {
		t.Errorf("%q, %v", after, err)
	}
	if _, err := WriteKey(filepath.Join(s.Keys, "proof.key"), "other"); !errors.Is(err, os.ErrExist) {
		t.Errorf("a key was replaced: %v", err)
	}
}

func TestLedger(t *testing.T) {
	l := ledger{filepath.Join(t.TempDir(), "canaries")}
	var removed []string
	fail := errors.New("still open")
	remove := func(_ context.Context, id string) error {
		if id == "stubborn" {
			return fail
		}
		removed = append(removed, id)
		return nil
	}
	ctx := context.Background()
	if swept, err := l.sweep(ctx, remove); err != nil || len(swept) > 0 || l.busy() {
		t.Fatalf("an empty ledger: %v, %v", swept, err)
	}
	used, err := l.write("used")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.write("used"); err == nil {
		t.Error("one id twice")
	}
	for _, id := range []string{"left", "stubborn"} {
		e, err := l.write(id)
		if err != nil {
			t.Fatal(err)
		}
		e.file.Close() // its process ended
	}
	swept, err := l.sweep(ctx, remove)
	if !errors.Is(err, fail) || !slices.Equal(swept, []string{"left"}) || !slices.Equal(removed, swept) {
		t.Errorf("swept %v, removed %v, %v", swept, removed, err)
	}
	if err := used.erase(); err != nil {
		t.Error(err)
	}
	fail = nil
	if swept, err = l.sweep(ctx, remove); err != nil || !slices.Equal(swept, []string{"stubborn"}) || l.busy() {
		t.Errorf("swept %v, %v, busy %v", swept, err, l.busy())
	}
}

// TestReadFileBounded: a file without end is not read to its end.
func TestReadFileBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sparse.json")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 1<<40); err != nil {
		t.Skip(err)
	}
	if e := ReadFile(name, nil); e.Err == nil || !strings.Contains(e.Err.Error(), "16777217 bytes: a file of proofs has at most 16777216") {
		t.Error(e.Err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

func openTest(t *testing.T) *Store {
	t.Helper()
	s, err := Embedded{Dir: t.TempDir(), Unsynced: true, Log: "/dev/null"}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func commit(t *testing.T, s *Store, txn Txn, wantOK bool) int64 {
	t.Helper()
	rev, ok, err := s.Commit(t.Context(), txn)
	if err != nil || ok != wantOK {
		t.Fatalf("committed %v, %v; want %v", ok, err, wantOK)
	}
	return rev
}

// TestCommit: a guard that does not hold leaves everything as it was.
func TestCommit(t *testing.T) {
	s := openTest(t)
	first := commit(t, s, Txn{If: []Guard{{"claim/a", 0}}, Then: []Write{{Key: "claim/a", Value: []byte("1")}, {Key: "room/x", Value: []byte("a")}}}, true)
	commit(t, s, Txn{If: []Guard{{"claim/a", 0}}, Then: []Write{{Key: "room/x", Value: []byte("b")}}}, false)
	commit(t, s, Txn{If: []Guard{{"room/x", first}, {"claim/a", first + 1}}, Then: []Write{{Key: "room/x", Value: []byte("c")}}}, false)
	r, err := s.Get(t.Context(), "room/x")
	if err != nil || string(r.Value) != "a" || r.Revision != first || r.Created != first {
		t.Fatalf("%+v, %v", r, err)
	}
	second := commit(t, s, Txn{If: []Guard{{"room/x", first}}, Then: []Write{{Key: "room/x", Value: []byte("d")}, {Key: "claim/a", Delete: true}}}, true)
	if r, err := s.Get(t.Context(), "room/x"); err != nil || r.Created != first || r.Revision != second {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := s.Get(t.Context(), "claim/a"); err != nil || r != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestCommitEach: of several transactions each holds or does not for itself, and
// what is written is written at once.
func TestCommitEach(t *testing.T) {
	s := openTest(t)
	first := commit(t, s, Txn{Then: []Write{{Key: "host/a", Value: []byte("1")}, {Key: "host/b", Value: []byte("1")}, {Key: "host/c", Value: []byte("1")}}}, true)
	commit(t, s, Txn{Then: []Write{{Key: "host/b", Value: []byte("2")}}}, true)
	var list []Txn
	for _, name := range []string{"host/a", "host/b", "host/c", "host/d"} {
		guard := Guard{name, first}
		if name == "host/d" {
			guard.Revision = 0
		}
		list = append(list, Txn{If: []Guard{guard}, Then: []Write{{Key: name, Value: []byte("3")}}})
	}
	list[2].Then = []Write{{Key: "host/c", Delete: true}}
	revision, ok, err := s.CommitEach(t.Context(), list)
	if err != nil || fmt.Sprint(ok) != "[true false true true]" {
		t.Fatalf("%v, %v", ok, err)
	}
	got := ""
	at, err := s.Read(t.Context(), "host/", func(r Record) error {
		got += fmt.Sprintf("%s=%s at %d;", r.Key, r.Value, r.Revision-first)
		return nil
	})
	if want := "host/a=3 at 2;host/b=2 at 1;host/d=3 at 2;"; err != nil || got != want || at != revision {
		t.Errorf("%q at %d, %v; want %q at %d", got, at, err, want, revision)
	}
}

// TestWatch: all changes, in order, those of one revision together.
func TestWatch(t *testing.T) {
	s := openTest(t)
	before := commit(t, s, Txn{Then: []Write{{Key: "host/a", Value: []byte("0")}}}, true)
	commit(t, s, Txn{Then: []Write{{Key: "host/a", Value: []byte("1")}, {Key: "host/b", Value: []byte("1")}, {Key: "other", Value: []byte("1")}}}, true)
	last := commit(t, s, Txn{Then: []Write{{Key: "host/a", Delete: true}}}, true)
	var got []string
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := s.Watch(ctx, "host/", before, func(changes []Record, rev int64) error {
		text := ""
		for _, c := range changes {
			text += fmt.Sprintf("%s=%s %v %d;", c.Key, c.Value, c.Gone, c.Revision-before)
			if c.Revision == last {
				cancel()
			}
		}
		got = append(got, text)
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// etcd may put several revisions into one answer, never one into several.
	all := fmt.Sprint(got)
	if all != "[host/a=1 false 1;host/b=1 false 1; host/a= true 2;]" && all != "[host/a=1 false 1;host/b=1 false 1;host/a= true 2;]" {
		t.Error(all)
	}
}

// TestCatchUp: a watch that begins far back says of each part how far it is, and
// not how far the store is: who goes on from there misses nothing.
func TestCatchUp(t *testing.T) {
	s := openTest(t)
	var last int64
	const n = 3000 // more revisions than etcd sends at once
	for i := range n {
		last = commit(t, s, Txn{Then: []Write{{Key: "host/a", Value: fmt.Appendf(nil, "%d", i)}}}, true)
	}
	begin := last - n
	seen, parts := 0, 0
	at := begin
	enough := errors.New("enough")
	for seen < n { // a new watch after each part
		err := s.Watch(t.Context(), "host/", at, func(changes []Record, revision int64) error {
			for _, c := range changes {
				if c.Revision <= at || c.Revision > revision {
					t.Fatalf("revision %d in a part from %d to %d", c.Revision, at, revision)
				}
				seen++
			}
			at = revision
			return enough
		})
		if !errors.Is(err, enough) {
			t.Fatal(err)
		}
		parts++
	}
	if seen != n || parts < 2 {
		t.Errorf("%d of %d changes, in %d parts", seen, n, parts)
	}
}

// TestBackup: a restored store has every record, and its revisions go on above
// all that were given before.
func TestBackup(t *testing.T) {
	s := openTest(t)
	var last int64
	for i := range 3000 { // more than a page
		last = commit(t, s, Txn{Then: []Write{{Key: fmt.Sprintf("host/%04d", i), Value: fmt.Appendf(nil, "%d", i)}}}, true)
	}
	var file bytes.Buffer
	if n, err := s.Backup(t.Context(), &file); err != nil || n != 3000 {
		t.Fatalf("%d records, %v", n, err)
	}
	if _, err := s.Restore(t.Context(), bytes.NewReader(file.Bytes())); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("restored over what is there: %v", err)
	}
	dir := t.TempDir()
	open := func() *Store {
		other, err := Embedded{Dir: dir, Unsynced: true, Log: "/dev/null"}.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return other
	}
	other := open()
	if _, err := other.Restore(t.Context(), bytes.NewReader(file.Bytes()[:file.Len()/2])); err == nil {
		t.Error("half a backup was restored")
	}
	if n, err := other.Restore(t.Context(), bytes.NewReader(file.Bytes())); err != nil || n != 3000 {
		t.Fatalf("%d records, %v", n, err)
	}
	for range 2 { // also after a restart
		r, err := other.Get(t.Context(), "host/2999")
		if err != nil || string(r.Value) != "2999" || r.Created <= last {
			t.Fatalf("%+v, %v; created after %d", r, err, last)
		}
		if rev := commit(t, other, Txn{If: []Guard{{"host/2999", r.Revision}}, Then: []Write{{Key: "host/2999", Value: []byte("2999")}}}, true); rev <= r.Revision {
			t.Errorf("revision %d after %d", rev, r.Revision)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		other = open()
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}

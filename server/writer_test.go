// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
	"testing"

	"kindred/api"
	"kindred/inventory"
	"kindred/server/store"
)

// TestBatch: writes of one record, and more than the store takes at once, go one
// after the other in the order in which they came; the others together.
func TestBatch(t *testing.T) {
	of := func(size int, guard string, writes ...string) *write {
		w := &write{txn: store.Txn{If: []store.Guard{{Key: guard}}}}
		for _, key := range writes {
			w.txn.Then = append(w.txn.Then, store.Write{Key: key, Value: make([]byte, size)})
		}
		return w
	}
	all := []*write{
		of(1, "a", "a"), of(1, "b", "b", "c"), of(1, "c", "d"), of(1, "d", "e"), of(1, "f", "f"),
		of(mostBytes, "g", "g"), of(1, "h", "h"), of(2*mostBytes, "i", "i"), of(1, "g", "h"),
	}
	want := []string{"a b f h", "c", "d", "g", "i", "g"}
	waiting := all
	var got []string
	for len(waiting) > 0 && len(got) < 10 {
		b := newBatch(waiting)
		text, sep := "", ""
		for _, w := range b.now {
			text, sep = text+sep+w.txn.If[0].Key, " "
		}
		got = append(got, text)
		waiting = b.later
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestLargeReports: many long reports at once are more than the store takes in
// one transaction.
func TestLargeReports(t *testing.T) {
	var machines []*machine
	for i := range 30 {
		machines = append(machines, newMachine(fmt.Sprint("h", i), 4))
	}
	r := newRig(t, machines...)
	s := r.start(r.open())
	r.report(s, "h0") // the static part is known
	var all sync.WaitGroup
	for _, m := range machines {
		noise := make([]byte, 150<<10)
		if _, err := rand.Read(noise); err != nil {
			t.Fatal(err)
		}
		static, own := inventory.Split(m.inventory())
		digest, err := static.Digest()
		if err != nil {
			t.Fatal(err)
		}
		own.Static = digest
		own.Warnings = []inventory.Warning{{Path: "x", Problem: base64.StdEncoding.EncodeToString(noise)}}
		all.Go(func() {
			if _, err := s.Report(t.Context(), m.name, &api.Report{Own: own, Version: "long", Mode: api.Observe}); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		})
	}
	all.Wait()
	if n := len(s.Hosts("", 0).Hosts); n != len(machines) {
		t.Errorf("%d hosts of %d", n, len(machines))
	}
}

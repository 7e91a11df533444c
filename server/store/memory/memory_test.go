// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindred/server/store"
)

// both is what a server uses of a store.
type both interface {
	Get(ctx context.Context, key string) (*store.Record, error)
	Read(ctx context.Context, begin string, yield func(store.Record) error) (int64, error)
	Commit(ctx context.Context, t store.Txn) (int64, bool, error)
	Watch(ctx context.Context, begin string, after int64, yield func(changes []store.Record, revision int64) error) error
	Revision(ctx context.Context) (int64, error)
}

// TestLikeEtcd does the same to etcd and to memory, by chance, and sees the same.
func TestLikeEtcd(t *testing.T) {
	etcd, err := store.Embedded{Dir: t.TempDir(), Unsynced: true, Log: "/dev/null"}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	stores := []both{etcd, new(Store)}
	var base [2]int64
	for i, s := range stores {
		if base[i], err = s.Revision(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	dice := rand.New(rand.NewPCG(1, 2))
	key := func() string { return fmt.Sprintf("%s/%d", []string{"a", "b"}[dice.IntN(2)], dice.IntN(4)) }
	known := make(map[string][2]int64) // revisions to guard by
	done := 0
	for n := range 400 {
		var txn store.Txn
		used := make(map[string]bool)
		for range dice.IntN(3) {
			k := key()
			txn.If = append(txn.If, store.Guard{Key: k, Revision: known[k][0]})
		}
		for range dice.IntN(4) {
			if k := key(); !used[k] {
				used[k] = true
				txn.Then = append(txn.Then, store.Write{Key: k, Value: fmt.Append(nil, n), Delete: dice.IntN(3) == 0})
			}
		}
		var said [2]string
		for i, s := range stores {
			mine := store.Txn{Then: txn.Then}
			for _, g := range txn.If {
				mine.If = append(mine.If, store.Guard{Key: g.Key, Revision: known[g.Key][i]})
			}
			revision, ok, err := s.Commit(t.Context(), mine)
			if i == 0 && ok {
				done++
			}
			said[i] = fmt.Sprint(revision-base[i], ok, err)
		}
		if said[0] != said[1] {
			t.Fatalf("%d: %+v: etcd says %s, memory %s", n, txn, said[0], said[1])
		}
		if k := key(); dice.IntN(2) == 0 { // what is not looked at again is old
			var at [2]int64
			for i, s := range stores {
				if r, err := s.Get(t.Context(), k); err != nil {
					t.Fatal(err)
				} else if r != nil {
					at[i] = r.Revision
				}
			}
			known[k] = at
		}
	}
	if done < 50 || done > 350 {
		t.Errorf("%d of 400 transactions were done", done)
	}
	var read, told [2][]string
	for i, s := range stores {
		text := func(r store.Record) string {
			if r.Gone { // etcd does not tell when what is gone came to be
				r.Value, r.Created = nil, base[i]
			}
			return fmt.Sprintf("%s=%s created %d, revision %d, gone %v", r.Key, r.Value, r.Created-base[i], r.Revision-base[i], r.Gone)
		}
		last, err := s.Read(t.Context(), "a/", func(r store.Record) error {
			read[i] = append(read[i], text(r))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := s.Commit(t.Context(), store.Txn{Then: []store.Write{{Key: "a/end"}}}); err != nil || !ok {
			t.Fatal(ok, err)
		}
		enough := errors.New("enough")
		err = s.Watch(t.Context(), "a/", base[i], func(changes []store.Record, revision int64) error {
			for _, r := range changes {
				told[i] = append(told[i], text(r))
			}
			if revision > last {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(read[0], read[1]); diff != "" || len(read[0]) == 0 {
		t.Errorf("read (-etcd +memory):\n%s", diff)
	}
	if diff := cmp.Diff(told[0], told[1]); diff != "" || len(told[0]) == 0 {
		t.Errorf("watched (-etcd +memory):\n%s", diff)
	}
}

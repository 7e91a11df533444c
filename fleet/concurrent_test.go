// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"sync"
	"testing"

	"kindred/inventory"
)

// TestReadersDoNotWait asks while hosts change: under the race detector this
// shows that nothing a reader sees is written to. Each reader's fleet adds up.
func TestReadersDoNotWait(t *testing.T) {
	s := newSmall(5)
	for len(s.inventories) < 12 {
		s.inventories = append(s.inventories, s.host(len(s.inventories)))
	}
	x := NewIndex(s.engine)
	var owns []*inventory.Own
	for _, inv := range s.inventories {
		static, own := inventory.Split(inv)
		digest, err := x.Static(static)
		if err != nil {
			t.Fatal(err)
		}
		own.Static = digest
		owns = append(owns, own)
	}
	if err := x.Put(owns...); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				f := x.Fleet()
				for h := range f.hosts.all {
					for at := range h.devices {
						answer := f.Targets(&Source{h, at}, Options{Policy: Spread, Limit: 2})
						n := 0
						for _, count := range answer.Counts {
							n += count
						}
						if n != f.Hosts()-1 {
							t.Errorf("%d hosts counted of %d others", n, f.Hosts()-1)
							return
						}
					}
				}
				f.Reach(false)
			}
		})
	}
	for i := range 2000 {
		own := *owns[i%len(owns)]
		own.Available = append([]int(nil), own.Available...)
		for k := range own.Available {
			own.Available[k] = (i + k) % 4
		}
		if i%97 == 0 {
			x.Remove(own.Host)
		}
		if err := x.Put(&own); err != nil {
			t.Error(err)
		}
	}
	close(done)
	all.Wait()
}

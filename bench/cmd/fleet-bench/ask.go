// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"kindred/bench/fleets"
	"kindred/fleet"
)

func ask(x *fleet.Index, made *fleets.Fleet) error {
	heap("memory held")
	if err := askTargets(x, made); err != nil {
		return err
	}
	return askUpdates(x, made)
}

// heap tells how much is alive.
func heap(what string) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	row(what, fmt.Sprintf("%.0f MB of heap, %.0f MB from the system", float64(m.HeapAlloc)/1e6, float64(m.Sys)/1e6), "at most 1.5 GB")
}

// sources are devices of hosts drawn anew in each run.
func sources(f *fleet.Fleet, made *fleets.Fleet, n int) ([]*fleet.Source, error) {
	r := rand.New(rand.NewPCG(7, 7))
	var list []*fleet.Source
	for len(list) < n {
		own := made.Host(r.IntN(made.Size.Hosts))
		if len(own.Devices) == 0 {
			continue
		}
		s, err := f.Source(own.Host + "/" + own.Devices[r.IntN(len(own.Devices))].ID)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func askTargets(x *fleet.Index, made *fleets.Fleet) error {
	f := x.Fleet()
	list, err := sources(f, made, 3000)
	if err != nil {
		return err
	}
	for _, policy := range fleet.Policies {
		for range 2 { // the first round meets classes that were never asked for
			var times []time.Duration
			for _, s := range list {
				begin := time.Now()
				f.Targets(s, fleet.Options{Policy: policy, Limit: 100})
				times = append(times, time.Since(begin))
			}
			if policy == fleet.ByName {
				policies("targets, best 100 and counts, "+string(policy), times)
			} else {
				policies("targets, best 100 and counts, "+string(policy), times)
			}
		}
	}
	return nil
}

func policies(what string, times []time.Duration) {
	slices.Sort(times)
	row(what+", p50", times[len(times)/2], "at most 100 µs")
	row(what+", p99", times[len(times)*99/100], "at most 1 ms")
}

// askUpdates takes news of hosts: other counters, as after a device was made.
func askUpdates(x *fleet.Index, made *fleets.Fleet) error {
	r := rand.New(rand.NewPCG(9, 9))
	var times []time.Duration
	for range 20_000 {
		own := made.Host(r.IntN(made.Size.Hosts))
		own.Taken = own.Taken.Add(time.Hour)
		p, left := r.IntN(made.Size.Parents), r.IntN(17)
		for t := range made.Size.Types {
			own.Available[p*made.Size.Types+t] = left >> (t % 4)
		}
		begin := time.Now()
		if err := x.Put(own); err != nil {
			return err
		}
		times = append(times, time.Since(begin))
	}
	slices.Sort(times)
	row("news of one host, p50", times[len(times)/2], "at most 50 µs")
	row("news of one host, p99", times[len(times)*99/100], "")
	return nil
}

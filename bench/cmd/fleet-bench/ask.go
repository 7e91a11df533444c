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
	if err := askJoint(x, made); err != nil {
		return err
	}
	if err := askUpdates(x, made); err != nil {
		return err
	}
	askReach(x)
	if err := askDrain(x, made); err != nil {
		return err
	}
	if err := askWhatIf(x); err != nil {
		return err
	}
	heap("memory held after these questions")
	askEach(x)
	runtime.KeepAlive(x)
	return nil
}

// once measures one question.
func once(what, wanted string, question func() (string, error)) error {
	runtime.GC()
	begin := time.Now()
	answer, err := question()
	row(what+" ("+answer+")", time.Since(begin), wanted)
	return err
}

func askJoint(x *fleet.Index, made *fleets.Fleet) error {
	f := x.Fleet()
	for _, n := range []int{2, 4} {
		for i := range made.Size.Hosts {
			own := made.Host(i)
			if len(own.Devices) < n {
				continue
			}
			var list []*fleet.Source
			for d := range n {
				s, err := f.Source(own.Host + "/" + own.Devices[d].ID)
				if err != nil {
					return err
				}
				list = append(list, s)
			}
			if err := once(fmt.Sprintf("targets of %d devices together, best 100 and counts", n), "", func() (string, error) {
				answer, err := f.Joint(list, fleet.Options{Policy: fleet.Pack, Limit: 100})
				if err != nil {
					return "", err
				}
				return fmt.Sprintf("%d ready, %d full", answer.Counts[fleet.Ready], answer.Counts[fleet.Full]), nil
			}); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

func askReach(x *fleet.Index) {
	for range 2 {
		_ = once("reach of all devices", "at most 10 s for 500,000 devices", func() (string, error) {
			r := x.Fleet().Reach(false)
			return fmt.Sprintf("%d devices of %d kinds, %d stranded, %d one host from it", r.Devices, len(r.Kinds), len(r.Stranded), len(r.OneLeft)), nil
		})
	}
	_ = once("choices before creating", "", func() (string, error) {
		return fmt.Sprintf("%d types", len(x.Fleet().Choices().Types)), nil
	})
}

func askEach(x *fleet.Index) {
	_ = once("reach, every device with its ways", "", func() (string, error) {
		return fmt.Sprint(len(x.Fleet().Reach(true).Each)), nil
	})
}

func askDrain(x *fleet.Index, made *fleets.Fleet) error {
	for _, c := range []struct {
		devices int
		wanted  string
	}{{1000, "at most 200 ms"}, {20_000, "at most 10 s"}} {
		for range 2 {
			var hosts []string
			for i, n := 0, 0; i < made.Size.Hosts/4 && n < c.devices; i++ {
				own := made.Host(i)
				hosts = append(hosts, own.Host)
				n += len(own.Devices)
			}
			if err := once(fmt.Sprintf("drain of %d devices", c.devices), c.wanted, func() (string, error) {
				p, err := x.Fleet().Drain(hosts, fleet.DrainOptions{AtOnce: 50})
				if err != nil {
					return "", err
				}
				return fmt.Sprintf("%d hosts, %d owners, %d moved, at most %d", len(p.Hosts), p.Owners, p.Moved, p.Bound), nil
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

func askWhatIf(x *fleet.Index) error {
	return once("what if a quarter of the hosts got another build", "", func() (string, error) {
		w, err := x.Fleet().WhatIf(fleet.Supposition{Changes: []fleet.Change{{Kind: fleet.SetBuild, Hosts: "r???[0-4]-h*", Name: "acme", Value: "ffff"}}})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d stranded, %d freed, %d canaries", len(w.Stranded), len(w.Freed), len(w.Canaries)), nil
	})
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
			policies("targets, best 100 and counts, "+string(policy), times)
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

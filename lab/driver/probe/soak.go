// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"kindred/lab/driver/internal/raw"
)

// memory is what the kernel holds: objects of each slab cache and free pages.
type memory struct {
	Slabs map[string]int
	Each  map[string]int // objects of one slab
	Free  int            // KiB, with page cache dropped
	Slab  int            // KiB that cannot be reclaimed
}

// settled reads the kernel's memory when what it put off is done: caches are dropped,
// frees that wait for a grace period have had one.
func settled() (memory, error) {
	debug.FreeOSMemory()
	for range 3 {
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
			return memory{}, err
		}
		time.Sleep(300 * time.Millisecond)
	}
	// What a processor keeps of a slab for itself counts as in use until it is given back.
	shrinks, err := filepath.Glob("/sys/kernel/slab/*/shrink")
	if err != nil {
		return memory{}, err
	}
	for _, file := range shrinks {
		if err := os.WriteFile(file, []byte("1"), 0); err != nil {
			return memory{}, err
		}
	}
	m := memory{Slabs: map[string]int{}, Each: map[string]int{}}
	data, err := os.ReadFile("/proc/slabinfo")
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		if n, err := strconv.Atoi(f[1]); err == nil {
			m.Slabs[f[0]] = n
			m.Each[f[0]], err = strconv.Atoi(f[4])
			if err != nil {
				return m, err
			}
		}
	}
	if data, err = os.ReadFile("/proc/meminfo"); err != nil {
		return m, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		switch f[0] {
		case "MemFree:":
			m.Free, err = strconv.Atoi(f[1])
		case "SUnreclaim:":
			m.Slab, err = strconv.Atoi(f[1])
		}
		if err != nil {
			return m, err
		}
	}
	return m, nil
}

// report is what a soak prints, for the test that asked for it.
type report struct {
	Done          int
	Seconds       float64
	Before, After memory
	Note          string `json:",omitempty"`
}

// measured does something n times, after a tenth as many that do not count.
func measured(n int, note string, do func(i int) error) error {
	for i := range n/10 + 10 {
		if err := do(i); err != nil {
			return fmt.Errorf("warming up, %d: %w", i, err)
		}
	}
	r := report{Done: n, Note: note}
	var err error
	if r.Before, err = settled(); err != nil {
		return err
	}
	started := time.Now()
	for i := range n {
		if err := do(i); err != nil {
			return fmt.Errorf("%d: %w", i, err)
		}
	}
	r.Seconds = time.Since(started).Seconds()
	if r.After, err = settled(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func firstType(namespace string) (raw.Type, error) {
	types, err := raw.Types(namespace)
	if err != nil {
		return raw.Type{}, err
	}
	if len(types) == 0 {
		return raw.Type{}, fmt.Errorf("no type of namespace %s", namespace)
	}
	return types[0], nil
}

// cycles creates and removes; every eighth device is opened and used in between.
func cycles(namespace string, n int) error {
	t, err := firstType(namespace)
	if err != nil {
		return err
	}
	return measured(n, "", func(i int) error {
		uuid := raw.UUID(i)
		if err := t.Create(uuid); err != nil {
			return err
		}
		if i%8 == 0 {
			d, err := raw.Open(uuid)
			if err != nil {
				return err
			}
			err = work(d, uint64(i))
			d.Close()
			if err != nil {
				return err
			}
		}
		return raw.Remove(uuid)
	})
}

// transfers moves one device's life to and fro between two. Every move is checked:
// what the guest sees, and that the counter goes on.
func transfers(namespace string, n int) error {
	t, err := firstType(namespace)
	if err != nil {
		return err
	}
	var devices [2]*raw.Device
	for i := range devices {
		if err := t.Create(raw.UUID(i)); err != nil {
			return err
		}
		if devices[i], err = raw.Open(raw.UUID(i)); err != nil {
			return err
		}
	}
	buf := make([]byte, 1<<20)
	var moved int
	var took time.Duration
	err = measured(n, "", func(i int) error {
		from, to := devices[i%2], devices[1-i%2]
		if err := work(from, uint64(i)); err != nil {
			return err
		}
		before, err := visible(from)
		if err != nil {
			return err
		}
		started := time.Now()
		stream, _, err := save(from, buf, nil)
		if err != nil {
			return err
		}
		if err := load(to, stream, 1<<20); err != nil {
			return err
		}
		if _, err := to.SetState(raw.Running); err != nil {
			return err
		}
		took += time.Since(started)
		moved += len(stream)
		after, err := visible(to)
		if err != nil {
			return err
		}
		if before != after {
			return fmt.Errorf("the guest's device changed on the way")
		}
		return from.Reset()
	})
	for i, d := range devices {
		d.Close()
		if e := raw.Remove(raw.UUID(i)); err == nil {
			err = e
		}
	}
	fmt.Fprintf(os.Stderr, "%.1f MiB moved, %.1f ms each\n", float64(moved)/(1<<20), float64(took.Milliseconds())/float64(n+n/10+10))
	return err
}

// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Op is one thing that is asked of a device, as its interface has them.
type Op string

const (
	OpOpen        Op = "open"
	OpInfo        Op = "info"
	OpMigration   Op = "migration"
	OpState       Op = "state"
	OpSetState    Op = "set-state"
	OpDataSize    Op = "data-size"
	OpReadRegion  Op = "read-region"
	OpWriteRegion Op = "write-region"
	OpReset       Op = "reset"
	OpClose       Op = "close"
	OpRead        Op = "read"    // of a session
	OpWrite       Op = "write"   // of a session
	OpPrecopy     Op = "precopy" // of a session
	OpEnd         Op = "end"     // a session's Close
)

// Fault makes one operation go wrong.
type Fault struct {
	Op Op         // empty: any
	N  int        // the N-th of those operations fails, from 1; 0: each of them
	At uint64     // of OpRead and OpWrite when N is 0: the one that goes beyond this many bytes
	As unix.Errno // what it returns; 0 with OpRead and At: the stream ends there

	// Stall lets the operation wait until its session or device is closed. It
	// ends with As then, or EINTR.
	Stall bool
	// Lost puts the device into ERROR as well, as a driver does that lost its
	// hardware.
	Lost bool
}

// Faults counts the operations on a machine's devices and lets chosen ones
// fail. The zero value counts. It is safe for concurrent use.
type Faults struct {
	mu     sync.Mutex
	list   []Fault
	counts map[Op]int
	total  int
	// reached is closed when an operation stalls.
	reached chan struct{}
}

// Set replaces the faults and begins to count anew. The channel is closed when
// an operation stalls for the first time.
func (f *Faults) Set(list ...Fault) (stalled <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list, f.counts, f.total = slices.Clone(list), nil, 0
	f.reached = make(chan struct{})
	return f.reached
}

// Counts is how often each operation was asked for since Set.
func (f *Faults) Counts() map[Op]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.counts)
}

// Total is how many operations were asked for since Set.
func (f *Faults) Total() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

// hit counts an operation, which moves the stream from byte at to at+size if
// it is one of a session, and returns the fault that strikes it.
func (f *Faults) hit(op Op, at, size uint64) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil {
		f.counts = make(map[Op]int)
	}
	f.counts[op]++
	f.total++
	for i := range f.list {
		fault := &f.list[i]
		n := f.counts[op]
		if fault.Op == "" {
			n = f.total
		} else if fault.Op != op {
			continue
		}
		if fault.N != 0 && fault.N != n || fault.N == 0 && (op == OpRead || op == OpWrite) && at+size <= fault.At {
			continue
		}
		if fault.Stall && f.reached != nil {
			select {
			case <-f.reached:
			default:
				close(f.reached)
			}
		}
		return fault
	}
	return nil
}

// upTo is how much of a read from a byte of the stream on may be given: a fault
// at a byte lets through what is before it. It is 0 where the stream is to end.
func (f *Faults) upTo(at, size uint64) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.list {
		fault := &f.list[i]
		switch {
		case fault.Op != OpRead || fault.N != 0:
		case at < fault.At:
			size = min(size, fault.At-at)
		case fault.As == 0 && !fault.Stall && !fault.Lost:
			return 0
		}
	}
	return size
}

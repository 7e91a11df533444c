// SPDX-License-Identifier: Apache-2.0

//go:build linux

package contention

import (
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

// fault is something that goes wrong, and how it ends.
type fault struct {
	name string
	from func(s *site, a, b int) (mend func()) // of the members and servers a, and b, which is another one
}

func (s *site) mendAll() {
	for _, n := range s.nodes {
		n.mend()
	}
}

// apart cuts two groups of nodes from each other.
func apart(these, those []*node) {
	for _, a := range these {
		for _, b := range those {
			a.cut(b)
			b.cut(a)
		}
	}
}

func without(list []*node, out *node) (rest []*node) {
	for _, n := range list {
		if n != out {
			rest = append(rest, n)
		}
	}
	return rest
}

func killed(list ...*node) func() {
	for _, n := range list {
		n.signal(os.Kill)
	}
	return func() {
		for _, n := range list {
			n.start()
		}
	}
}

func frozen(n *node) func() {
	n.signal(syscall.SIGSTOP)
	return func() { n.signal(syscall.SIGCONT) }
}

var faults = []fault{
	{"a member is killed", func(s *site, a, _ int) func() { return killed(s.members[a]) }},
	{"a server is killed", func(s *site, a, _ int) func() { return killed(s.servers[a]) }},
	{"a member is cut from all", func(s *site, a, _ int) func() {
		s.members[a].pull()
		return s.mendAll
	}},
	{"a server is cut from all", func(s *site, a, _ int) func() {
		s.servers[a].pull()
		return s.mendAll
	}},
	{"a server with one member is cut from the others", func(s *site, a, b int) func() {
		apart([]*node{s.members[a], s.servers[b]}, append(without(s.members, s.members[a]), without(s.servers, s.servers[b])...))
		return s.mendAll
	}},
	{"a server is cut from two members", func(s *site, a, b int) func() {
		apart([]*node{s.servers[a]}, without(s.members, s.members[b]))
		return s.mendAll
	}},
	{"two members are cut from each other", func(s *site, a, b int) func() {
		apart([]*node{s.members[a]}, []*node{s.members[b]})
		return s.mendAll
	}},
	{"a member hears all, and nobody hears it", func(s *site, a, _ int) func() {
		for _, n := range without(s.nodes, s.members[a]) {
			s.members[a].cut(n)
		}
		return s.mendAll
	}},
	{"all hear a member, and it hears nobody", func(s *site, a, _ int) func() {
		for _, n := range without(s.nodes, s.members[a]) {
			n.cut(s.members[a])
		}
		return s.mendAll
	}},
	{"a member is stopped", func(s *site, a, _ int) func() { return frozen(s.members[a]) }},
	{"a server is stopped", func(s *site, a, _ int) func() { return frozen(s.servers[a]) }},
	{"two members are killed", func(s *site, a, b int) func() { return killed(s.members[a], s.members[b]) }},
	{"all members are killed", func(s *site, _, _ int) func() { return killed(s.members...) }},
}

// trouble has faults come and go until the end, one at least, and all of them once
// before one comes again. It returns how many there were.
func (s *site) trouble(end time.Time, longest time.Duration, dice *rand.Rand) (n int) {
	began := time.Now()
	var order []int
	for {
		if len(order) == 0 {
			order = dice.Perm(len(faults))
		}
		f := faults[order[0]]
		order = order[1:]
		a := dice.IntN(3)
		b := (a + 1 + dice.IntN(2)) % 3
		long := longest/4 + upTo(dice, longest*3/4)
		if n > 0 && time.Now().Add(long).After(end) {
			return n
		}
		s.t.Logf("%5.1f s: %s, for %v", time.Since(began).Seconds(), f.name, long.Round(10*time.Millisecond))
		mend := f.from(s, a, b)
		time.Sleep(long)
		mend()
		n++
		time.Sleep(longest/8 + upTo(dice, longest/4))
	}
}

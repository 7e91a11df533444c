// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"slices"
)

// bound is how many owners any plan moves at most. Owners that fit nowhere
// alone do not count; for the others the question is made easier, in two ways,
// until its answer is a flow. The hosts of a layout share all their room. Then
// of each owner one device counts, and a parent takes as many as of its
// smallest type; or each owner counts in units of the parents' pools, and may
// be cut in pieces.
func (p *packing) bound() int {
	if p.proved >= 0 {
		return p.proved
	}
	moved := p.moved()
	if moved == len(p.jobs) {
		return moved
	}
	var kinds []*jobKind
	supply := 0
	for _, k := range p.kinds {
		if slices.ContainsFunc(k.jobs, func(j *job) bool { return j.to != nil }) || p.alone(k) {
			kinds = append(kinds, k)
			supply += len(k.jobs)
		}
	}
	if supply == moved {
		return moved
	}
	return max(moved, min(supply, p.flow(kinds), p.units(kinds)))
}

// alone reports whether some host takes an owner of a kind while the plan puts
// nothing else there.
func (p *packing) alone(k *jobKind) bool {
	for m := p.candidates(k); ; {
		h := m.next()
		if h == nil {
			return false
		}
		if _, ok := newSpace(h).fit(p.wishes(k, h)); ok {
			return true
		}
	}
}

// flow is the largest flow from owners to the room of layouts.
func (p *packing) flow(kinds []*jobKind) int {
	g := newGraph(2)
	const source, sink = 0, 1
	nodes := make([]int, len(kinds))
	for i, k := range kinds {
		nodes[i] = g.node()
		g.edge(source, nodes[i], len(k.jobs))
	}
	for _, c := range p.fleet.cells {
		if c == nil {
			continue
		}
		var slots []int // of the cell, as nodes
		for i, k := range kinds {
			list := p.layoutWishes(k, c.layout)
			if list == nil {
				continue
			}
			if slots == nil {
				slots = p.room(g, c, sink)
			}
			for _, s := range wishSlots(c.layout, &list[k.scarce]) {
				g.edge(nodes[i], slots[s], len(k.jobs))
			}
		}
	}
	return g.largest(source, sink)
}

// room adds a cell's room to the graph: for each slot, and in all.
func (p *packing) room(g *graph, c *cell, sink int) []int {
	all := g.node()
	rooms, total := make([]int, len(c.layout.slots)), 0
	var counts []int
	for h := range c.members.all {
		for i := range c.layout.parents {
			parent := &c.layout.parents[i]
			counts = counts[:0]
			for o := parent.first; o < parent.first+parent.count; o++ {
				n := certain(h.rooms[o])
				rooms[c.layout.offers[o].slot] += n
				counts = append(counts, n)
			}
			total += parent.sharing.Most(counts)
		}
	}
	nodes := make([]int, len(rooms))
	for i, n := range rooms {
		nodes[i] = g.node()
		g.edge(nodes[i], all, n)
	}
	g.edge(all, sink, total)
	return nodes
}

// units is how many owners the pools' units would be enough for, if owners
// could be cut in pieces. Where they compete for them the small ones win: to
// let them all in first is best, since what a set of owners can have of a flow
// never hinders a larger set from having as much.
func (p *packing) units(kinds []*jobKind) int {
	g := newGraph(2)
	const source, sink = 0, 1
	nodes := make([]int, len(kinds))
	for i := range kinds {
		nodes[i] = g.node()
	}
	for _, c := range p.fleet.cells {
		if c == nil {
			continue
		}
		node := -1
		for i, k := range kinds {
			list := p.layoutWishes(k, c.layout)
			if list == nil {
				continue
			}
			if node < 0 {
				node = g.node()
				g.edge(node, sink, p.size(c))
			}
			g.edge(nodes[i], node, 1<<40)
		}
	}
	order := make([]int, len(kinds))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(kinds[a].size, kinds[b].size) })
	owners := 0.0
	for n := 0; n < len(order); {
		size := kinds[order[n]].size
		for ; n < len(order) && kinds[order[n]].size == size; n++ { // those alike at once
			g.edge(source, nodes[order[n]], len(kinds[order[n]].jobs)*size)
		}
		if size > 0 {
			more := g.largest(source, sink)
			owners += float64(more) / float64(size)
		}
	}
	return int(owners + 1e-6)
}

// units is the least that the devices of one owner take of a layout's pools.
func units(l *layout, wishes []wish) int {
	all := 0
	for _, w := range wishes {
		least := -1
		for _, o := range w.offers {
			parent := &l.parents[l.offers[o].parent]
			if n := parent.sharing.Units(o - parent.first); least < 0 || n < least {
				least = n
			}
		}
		all += least
	}
	return all
}

// size is how many units the hosts of a cell have.
func (p *packing) size(c *cell) int {
	total := 0
	var counts []int
	for h := range c.members.all {
		if p.barred[h] {
			continue
		}
		for i := range c.layout.parents {
			parent := &c.layout.parents[i]
			counts = counts[:0]
			for o := parent.first; o < parent.first+parent.count; o++ {
				counts = append(counts, certain(h.rooms[o]))
			}
			total += parent.sharing.Size(counts)
		}
	}
	return total
}

// graph carries flows (Dinic's method: shortest ways first, many at a time).
type graph struct {
	out   [][]int // edges of each node
	edges []edge  // each followed by its reverse
	level []int
	next  []int
}

type edge struct{ to, left int }

func newGraph(nodes int) *graph { return &graph{out: make([][]int, nodes)} }

func (g *graph) node() int {
	g.out = append(g.out, nil)
	return len(g.out) - 1
}

func (g *graph) edge(from, to, capacity int) {
	g.out[from] = append(g.out[from], len(g.edges))
	g.out[to] = append(g.out[to], len(g.edges)+1)
	g.edges = append(g.edges, edge{to, capacity}, edge{from, 0})
}

func (g *graph) largest(source, sink int) int {
	flow := 0
	for g.levels(source, sink) {
		g.next = make([]int, len(g.out))
		for {
			n := g.push(source, sink, 1<<40)
			if n == 0 {
				break
			}
			flow += n
		}
	}
	return flow
}

func (g *graph) levels(source, sink int) bool {
	g.level = make([]int, len(g.out))
	g.level[source] = 1
	queue := []int{source}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		for _, e := range g.out[n] {
			if to := g.edges[e].to; g.edges[e].left > 0 && g.level[to] == 0 {
				g.level[to] = g.level[n] + 1
				queue = append(queue, to)
			}
		}
	}
	return g.level[sink] > 0
}

func (g *graph) push(n, sink, most int) int {
	if n == sink {
		return most
	}
	for ; g.next[n] < len(g.out[n]); g.next[n]++ {
		e := g.out[n][g.next[n]]
		to := g.edges[e].to
		if g.edges[e].left == 0 || g.level[to] != g.level[n]+1 {
			continue
		}
		if got := g.push(to, sink, min(most, g.edges[e].left)); got > 0 {
			g.edges[e].left -= got
			g.edges[e^1].left += got
			return got
		}
	}
	return 0
}

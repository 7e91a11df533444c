// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"slices"
	"strconv"
)

const (
	improveTries = 20_000  // steps that improving may take,
	improveEach  = 50      // and so many more for each owner
	improveHosts = 64      // hosts that it looks at for one owner
	improveDepth = 3       // owners that make way one after the other
	repackTries  = 300     // steps for putting the owners on one host anew
	exactJobs    = 24      // owners up to which all plans are tried
	exactTries   = 100_000 // and how often
)

// improve makes room for owners that found none: by giving the devices on a
// host other parents, and by moving owners that were placed on to other hosts.
// Where owners and hosts are few, all plans are tried.
func (p *packing) improve() {
	var left []*job
	for _, j := range p.jobs {
		if j.to == nil {
			left = append(left, j)
		}
	}
	if len(left) == 0 {
		return
	}
	p.tries = improveTries + improveEach*len(p.jobs)
	for _, j := range left {
		if p.tries <= 0 || p.fleet.ended() {
			break
		}
		p.squeeze(j, improveDepth, make(map[*host]bool))
	}
	if p.moved() < len(p.jobs) && len(p.jobs) <= exactJobs {
		p.exhaust()
	}
}

func (p *packing) moved() int {
	n := 0
	for _, j := range p.jobs {
		if j.to != nil {
			n++
		}
	}
	return n
}

// squeeze places a job where others make way. Hosts that make way already are
// not asked again.
func (p *packing) squeeze(j *job, depth int, asked map[*host]bool) bool {
	hosts := p.some(j)
	p.tries -= len(hosts)
	for _, h := range hosts {
		if !asked[h] && !p.apart(j, h) && p.repack(h, append(slices.Clone(p.placed[h]), j)) {
			return true
		}
	}
	if depth == 0 {
		return false
	}
	for _, h := range hosts {
		if asked[h] || p.bars(j, h) {
			continue
		}
		asked[h] = true
		for _, v := range slices.Clone(p.placed[h]) {
			if p.tries <= 0 {
				break
			}
			others := slices.DeleteFunc(slices.Clone(p.placed[h]), func(o *job) bool { return o == v })
			if slices.ContainsFunc(others, func(o *job) bool { return conflict(o, j) }) {
				continue
			}
			before := p.keep(h)
			if !p.repack(h, append(others, j)) {
				continue
			}
			v.to, v.offers = nil, nil
			if p.squeeze(v, depth-1, asked) {
				delete(asked, h)
				return true
			}
			j.to, j.offers = nil, nil
			before()
		}
		delete(asked, h)
	}
	return false
}

// keep remembers what is on a host; what it returns puts it back.
func (p *packing) keep(h *host) (back func()) {
	space, placed := p.spaces[h], p.placed[h]
	offers := make([][]int, len(placed))
	for i, j := range placed {
		offers[i] = j.offers
	}
	return func() {
		p.spaces[h], p.placed[h] = space, placed
		for i, j := range placed {
			j.to, j.offers = h, offers[i]
		}
	}
}

func conflict(a, b *job) bool {
	return slices.ContainsFunc(a.apart, func(label string) bool { return slices.Contains(b.apart, label) })
}

// some are hosts that a job could go to if they were empty of the plan.
func (p *packing) some(j *job) []*host {
	var list []*host
	for m := p.candidates(j.kind); len(list) < improveHosts; {
		h := m.next()
		if h == nil {
			break
		}
		list = append(list, h)
	}
	return list
}

// repack puts exactly these jobs on a host, whichever parents they get; false,
// with all as it was, where they do not fit.
func (p *packing) repack(h *host, jobs []*job) bool { return p.repackWithin(h, jobs, repackTries) }

func (p *packing) repackWithin(h *host, jobs []*job, limit int) bool {
	var wishes []wish
	for _, j := range jobs {
		list := p.wishes(j.kind, h)
		if list == nil {
			return false
		}
		wishes = append(wishes, list...)
	}
	s := newSpace(h)
	offers, ok, steps := s.fitWithin(wishes, limit)
	p.tries -= 1 + steps
	if !ok {
		return false
	}
	p.spaces[h], p.placed[h] = s, jobs
	for _, j := range jobs {
		j.to, j.offers = h, offers[:len(j.at)]
		offers = offers[len(j.at):]
	}
	return true
}

// exhaustion tries all plans.
type exhaustion struct {
	*packing
	jobs  []*job
	hosts [][]*host // for each job
	on    map[*host][]*job
	to    []*host
	place []int // which of its hosts each job has; len(hosts) for none
	best  []*host
	most  int
	tries int
	fit   map[string]bool
	vague bool // some set of owners was given up
}

// exhaust tries all plans for some jobs and keeps the best. When it comes to
// an end within its limit, no plan moves more.
func (p *packing) exhaust() {
	x := &exhaustion{packing: p, jobs: slices.Clone(p.jobs), on: make(map[*host][]*job), most: p.moved(), fit: make(map[string]bool)}
	possible := make(map[*jobKind][]*host)
	for _, j := range x.jobs {
		if _, ok := possible[j.kind]; !ok {
			hosts := p.some(j)
			if len(hosts) == improveHosts {
				return // too many to try
			}
			possible[j.kind] = hosts
		}
	}
	slices.SortStableFunc(x.jobs, func(a, b *job) int {
		return cmp.Or(cmp.Compare(len(possible[a.kind]), len(possible[b.kind])), cmp.Compare(a.kind.number, b.kind.number), slices.Compare(a.apart, b.apart), slices.Compare(a.not, b.not))
	})
	for _, j := range x.jobs {
		x.hosts = append(x.hosts, possible[j.kind])
	}
	x.to, x.place = make([]*host, len(x.jobs)), make([]int, len(x.jobs))
	if !x.try(0, 0) {
		return
	}
	if !x.vague {
		p.proved = x.most
	}
	if x.best == nil {
		return
	}
	p.spaces, p.placed = make(map[*host]*space), make(map[*host][]*job)
	for i, j := range x.jobs {
		if j.to, j.offers = nil, nil; x.best[i] != nil {
			p.placed[x.best[i]] = append(p.placed[x.best[i]], j)
		}
	}
	for h, jobs := range p.placed {
		if !p.repackWithin(h, jobs, -1) {
			panic("what was tried fits") // try asked the same of every host
		}
	}
}

// try places the jobs from the n-th on; false when there were too many tries.
func (x *exhaustion) try(n, moved int) bool {
	if moved > x.most {
		x.most, x.best = moved, slices.Clone(x.to)
	}
	if n == len(x.jobs) || moved+len(x.jobs)-n <= x.most {
		return true
	}
	if x.tries++; x.tries > exactTries || x.tries%1024 == 0 && x.fleet.ended() {
		return false
	}
	j, from := x.jobs[n], 0
	if n > 0 && x.jobs[n-1].kind == j.kind && slices.Equal(x.jobs[n-1].apart, j.apart) && slices.Equal(x.jobs[n-1].not, j.not) {
		from = x.place[n-1] // the two are alike: one order of them is enough
	}
	for i := from; i < len(x.hosts[n]); i++ {
		h := x.hosts[n][i]
		if x.bars(j, h) || slices.ContainsFunc(x.on[h], func(o *job) bool { return conflict(o, j) }) {
			continue
		}
		before := x.on[h]
		x.on[h] = append(slices.Clone(before), j)
		if x.fits(h) {
			x.to[n], x.place[n] = h, i
			if !x.try(n+1, moved+1) {
				return false
			}
			x.to[n] = nil
		}
		x.on[h] = before
	}
	x.place[n] = len(x.hosts[n])
	return x.try(n+1, moved) // it stays
}

// fits asks whether the jobs on a host fit, once for each set of kinds.
func (x *exhaustion) fits(h *host) bool {
	numbers := make([]int, 0, len(x.on[h]))
	for _, j := range x.on[h] {
		numbers = append(numbers, j.kind.number)
	}
	slices.Sort(numbers)
	key := h.name
	for _, n := range numbers {
		key += "\x00" + strconv.Itoa(n)
	}
	ok, known := x.fit[key]
	if !known {
		var wishes []wish
		for _, j := range x.on[h] {
			wishes = append(wishes, x.wishes(j.kind, h)...)
		}
		var steps int
		_, ok, steps = newSpace(h).fitWithin(wishes, exactTries/10)
		x.vague = x.vague || steps == exactTries/10
		x.tries += steps / 100
		x.fit[key] = ok
	}
	return ok
}

// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kindred/compat"
	"kindred/inventory"
)

// Index is a fleet that changes. Each change makes another [Fleet], which
// shares with the one before what did not change; questions asked of the older
// one go on undisturbed, and nobody waits. Writers take turns.
type Index struct {
	mu  sync.Mutex
	now atomic.Pointer[Fleet]
}

// NewIndex makes an index without hosts.
func NewIndex(engine *compat.Engine) *Index {
	x := new(Index)
	x.now.Store(build(newKinds(engine), nil))
	return x
}

// Fleet is the fleet at this moment.
func (x *Index) Fleet() *Fleet { return x.now.Load() }

// spare is how many kinds may come before an index is made anew, so that a small
// fleet is not forever.
const spare = 1 << 14

// Outgrown reports whether as many kinds came, and more, as there were when the
// index was made: many may be of hosts, devices and suppositions that are no more.
// One that is made anew by [Index.Under] has none of these.
func (x *Index) Outgrown() bool {
	k := x.now.Load().kinds
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.size() > 2*k.first+spare
}

// Under is an index of the same hosts under other catalogs or proofs. It keeps
// nothing that is not of one of them.
func (x *Index) Under(engine *compat.Engine) (*Index, error) {
	f, err := x.now.Load().under(engine)
	if err != nil {
		return nil, err
	}
	f.kinds.made()
	next := new(Index)
	next.now.Store(f)
	return next, nil
}

// Knows reports whether the static part of that digest is known.
func (x *Index) Knows(digest string) bool {
	k := x.now.Load().kinds
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.makes[digest] != nil
}

// Static makes the static part of some hosts' inventories known, and returns
// its digest. It is not to be changed afterwards.
func (x *Index) Static(static *inventory.Inventory) (string, error) {
	digest, err := static.Digest()
	if err != nil {
		return "", err
	}
	k := x.now.Load().kinds
	k.mu.Lock()
	defer k.mu.Unlock()
	_, err = k.add(digest, static)
	return digest, err
}

// Put adds hosts, or takes news of them. Their static parts are known. On an
// error nothing changed.
func (x *Index) Put(list ...*inventory.Own) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.now.Load()
	news := make([]*host, len(list))
	for i, own := range list {
		h, err := f.kinds.stored(own, f.host(own.Host))
		if err != nil {
			return err
		}
		news[i] = h
	}
	x.now.Store(f.with(news, nil))
	return nil
}

// stored checks and makes one host of its stored parts.
func (k *kinds) stored(own *inventory.Own, before *host) (*host, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := k.makes[own.Static]
	if m == nil {
		return nil, &Error{NotFound, own.Host, "its static part " + own.Static + " is not known"}
	}
	if err := own.Fits(m.static); err != nil {
		return nil, err
	}
	return k.host(m, own, before)
}

// Loading collects many hosts, from several goroutines, and makes one fleet of
// them all at its end; so a whole store is read.
type Loading struct {
	index *Index
	mu    sync.Mutex
	hosts []*host
}

// Loading begins.
func (x *Index) Loading() *Loading { return &Loading{index: x} }

// Add takes a host, which is not kept beyond what the index needs of it.
func (l *Loading) Add(own *inventory.Own) error {
	h, err := l.index.Fleet().kinds.stored(own, nil)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts = append(l.hosts, h)
	return nil
}

// Done shows what was loaded to those who ask.
func (l *Loading) Done() {
	l.index.mu.Lock()
	defer l.index.mu.Unlock()
	l.index.now.Store(l.index.now.Load().with(l.hosts, nil))
	l.index.now.Load().kinds.made()
}

// Remove takes hosts out; those that are not there are none.
func (x *Index) Remove(names ...string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.now.Store(x.now.Load().with(nil, names))
}

// with is the fleet with news of some hosts and without others. Few changes are
// made one by one; many, by building the index again.
func (f *Fleet) with(news []*host, gone []string) *Fleet {
	if len(news)+len(gone) > 16+f.hosts.size/16 {
		return f.rebuilt(news, gone)
	}
	next := *f
	next.offers = f.kinds.all()
	next.cells = slices.Clone(f.cells)
	next.hosts, next.ids, next.ages = f.hosts.opened(), f.ids.opened(), f.ages.opened()
	for _, name := range gone {
		if h := next.host(name); h != nil {
			next.change(h, nil)
		}
	}
	for _, h := range news {
		old := next.host(h.name)
		if old != nil {
			h.order = old.order
		} else if h.order = next.between(h); h.order == 0 {
			return f.rebuilt(news, gone)
		}
		next.change(old, h)
	}
	return &next
}

// rebuilt does what with does by building the index again.
func (f *Fleet) rebuilt(news []*host, gone []string) *Fleet {
	left := make(map[string]*host, f.hosts.size+len(news))
	for h := range f.hosts.all {
		left[h.name] = h
	}
	for _, name := range gone {
		delete(left, name)
	}
	for _, h := range news {
		left[h.name] = h
	}
	next := build(f.kinds, slices.Collect(maps.Values(left)))
	next.done = f.done
	return next
}

// all is every offer known by now.
func (k *kinds) all() []*offer {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.byID[:len(k.byID):len(k.byID)]
}

// between finds a number for a new host between those of its neighbours, 0 when
// there is none left. It keeps close to the lower one, since names that are
// added one after the other mostly grow.
func (f *Fleet) between(h *host) uint64 {
	low, high := uint64(0), uint64(maxOrder)
	if before, ok := f.hosts.before(h); ok {
		low = before.order
	}
	if after, ok := f.hostsFrom(h); ok {
		high = after.order
	}
	if high-low < 2 {
		return 0
	}
	return low + min((high-low)/2, 256)
}

func (f *Fleet) hostsFrom(h *host) (*host, bool) {
	c := f.hosts.from(h)
	return c.next()
}

// build makes a fleet of hosts, whose order it gives anew.
func build(k *kinds, all []*host) *Fleet {
	slices.SortFunc(all, byName)
	f := &Fleet{kinds: k, engine: k.engine, offers: k.all()}
	step := uint64(maxOrder / (len(all) + 1))
	var ids []reference
	var ages []age
	cells := make(map[*layout]*filling)
	for i, h := range all {
		if h.order != uint64(i+1)*step {
			c := *h // older fleets go on with the other number
			h, all[i] = &c, &c
			h.order = uint64(i+1) * step
		}
		ages = append(ages, h.age())
		for at := range h.devices {
			ids = append(ids, reference{strings.ToLower(h.devices[at].id), h.name})
		}
		if h.origin == inventory.FromSimulator {
			f.simulated++
		}
		c := cells[h.layout]
		if c == nil {
			c = newFilling(h.layout)
			cells[h.layout] = c
		}
		c.add(h)
	}
	slices.SortFunc(ids, byID)
	slices.SortFunc(ages, byAge)
	f.hosts, f.ids, f.ages = newList(byName, all), newList(byID, ids), newList(byAge, ages)
	for l, c := range cells {
		f.setCell(l.id, c.cell())
	}
	return f
}

// change replaces one host by another of that name; either may be nil. The
// fleet is not yet anybody else's, and its lists are opened.
func (f *Fleet) change(old, h *host) {
	switch {
	case h == nil:
		f.hosts.drop(old)
	default:
		f.hosts.put(h)
	}
	if old != nil && old.origin == inventory.FromSimulator {
		f.simulated--
	}
	if h != nil && h.origin == inventory.FromSimulator {
		f.simulated++
	}
	f.changeAges(old, h)
	f.changeIDs(old, h)
	switch {
	case old != nil && h != nil && old.layout == h.layout:
		f.setCell(h.layout.id, f.cells[h.layout.id].moved(old, h))
	default:
		if old != nil {
			f.setCell(old.layout.id, f.cells[old.layout.id].moved(old, nil))
		}
		if h != nil {
			f.setCell(h.layout.id, f.cellOf(h.layout).moved(nil, h))
		}
	}
}

func (f *Fleet) changeAges(old, h *host) {
	switch {
	case old == nil:
		f.ages.put(h.age())
	case h == nil:
		f.ages.drop(old.age())
	case !old.taken.Equal(h.taken):
		f.ages.drop(old.age())
		f.ages.put(h.age())
	}
}

func (f *Fleet) changeIDs(old, h *host) {
	has := func(h *host, id string) bool {
		return h != nil && slices.ContainsFunc(h.devices, func(d device) bool { return d.id == id })
	}
	if old != nil {
		for at := range old.devices {
			if id := old.devices[at].id; !has(h, id) {
				f.ids.drop(reference{strings.ToLower(id), old.name})
			}
		}
	}
	if h != nil {
		for at := range h.devices {
			if id := h.devices[at].id; !has(old, id) {
				f.ids.put(reference{strings.ToLower(id), h.name})
			}
		}
	}
}

// since is the hosts whose inventory was taken before a moment.
func (f *Fleet) since(moment time.Time) []*host {
	var hosts []*host
	for c := f.ages.start(); ; {
		a, ok := c.next()
		if !ok || a.taken >= moment.UnixNano() {
			return hosts
		}
		hosts = append(hosts, f.numbered(a.order))
	}
}

func byNumber(a, b uint64) int { return cmp.Compare(a, b) }

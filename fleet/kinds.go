// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"kindred/compat"
	"kindred/inventory"
)

// kinds is what the hosts of a fleet have in common: offers, devices and whole
// hosts that are alike are kept once, and each pair of them is judged once. It
// only grows (see [Index.Outgrown]); numbers are given in order and never again.
// Writers take turns by the lock, readers need none.
type kinds struct {
	engine  *compat.Engine
	mu      sync.Mutex
	makes   map[string]*hostMake
	layouts map[string]*layout
	offers  map[compat.Class]*offer
	byID    []*offer
	sources map[sourceKey]*source
	devices map[deviceKey]*deviceClass
	known   map[[16]byte]*content // by a digest of what it has
	seen    map[seenKey]*deviceClass
	fresh   map[*offer]*source // new instances
	moves   map[[2]*layout][]int
	shared  findings
	first   int    // size of those that were made at once
	text    []byte // scratch
}

func newKinds(engine *compat.Engine) *kinds {
	return &kinds{
		engine: engine, makes: make(map[string]*hostMake), layouts: make(map[string]*layout), offers: make(map[compat.Class]*offer),
		sources: make(map[sourceKey]*source), devices: make(map[deviceKey]*deviceClass), known: make(map[[16]byte]*content), seen: make(map[seenKey]*deviceClass), fresh: make(map[*offer]*source), moves: make(map[[2]*layout][]int),
	}
}

// size is how many of them are kept. The caller holds the lock.
func (k *kinds) size() int {
	return len(k.makes) + len(k.byID) + len(k.sources) + len(k.devices) + len(k.known) + len(k.seen) + len(k.moves)
}

// made is said of kinds that are those of a fleet and no others.
func (k *kinds) made() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.first = k.size()
}

// hostMake is the static part of inventories that have it in common.
type hostMake struct {
	digest string
	static *inventory.Inventory
	layout *layout
	place  []int          // where the layout has each type of the static part
	parent map[string]int // number in the layout
}

// layout is what targets look at on a host: its parents with their offers, and
// its VM managers. Makes that differ in nothing else have one layout.
type layout struct {
	id            int
	static        *inventory.Inventory // of the first make
	parents       []layoutParent       // by name
	offers        []layoutOffer        // by parent, then type
	slots         []slot
	qemu, libvirt inventory.Value
	unlisted      bool     // it may have types that could not be listed
	views         sync.Map // alike -> *view
}

type layoutParent struct {
	name    string
	first   int // of its offers
	count   int
	sharing *compat.Sharing
}

type layoutOffer struct {
	parent int
	slot   int
	offer  *offer
	typ    *inventory.Type
}

// slot is where an index counts: offers of one class, on parents that offer
// equally many types.
type slot struct {
	offer *offer
	types int
}

// offer is all offers of one class.
type offer struct {
	id    int
	class compat.Class
	what  *compat.Offer
}

// sourceKey tells devices apart as far as verdicts go, there and back.
type sourceKey struct {
	class compat.Class
	home  int // the offer at home, -1 for none
}

// source is all devices with the same verdicts.
type source struct {
	what     *compat.Source
	home     *offer
	ways     atomic.Pointer[[]way]
	verdicts sync.Map // offer id -> *judged; -1, -2: see notOffered
}

// way is the judgement on one offer: whether the type comes into question, and
// the outcomes of the way there and back.
type way struct {
	related     bool
	there, back compat.Outcome
}

// deviceKey tells devices apart in everything but where they are.
type deviceKey struct {
	source        *source
	qemu, libvirt inventory.Value
}

// deviceClass is all devices that have the same answer everywhere.
type deviceClass struct {
	id            int
	source        *source
	qemu, libvirt inventory.Value
	views         atomic.Pointer[[]*view] // by layout
}

// content is a device without what tells it from others: for looking at again
// under other catalogs.
type content struct{ device inventory.Device }

type seenKey struct {
	make    *hostMake
	parent  string
	content *content
}

// add makes a static part known. The caller holds the lock.
func (k *kinds) add(digest string, static *inventory.Inventory) (*hostMake, error) {
	if m := k.makes[digest]; m != nil {
		return m, nil
	}
	m := &hostMake{digest: digest, static: static, parent: make(map[string]int)}
	l := &layout{static: static, qemu: static.Host.QEMU, libvirt: static.Host.Libvirt, unlisted: unlisted(static)}
	type listed struct{ parent, typ, at int }
	var all []listed
	for p := range static.Parents {
		for t := range static.Parents[p].Types {
			all = append(all, listed{p, t, len(all)})
		}
	}
	byName := func(a, b int) int {
		switch x, y := static.Parents[a].Name, static.Parents[b].Name; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
	order := make([]int, len(static.Parents))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, byName)
	if len(order) > maxParents {
		return nil, &Error{TooLarge, static.Host.Name, fmt.Sprintf("%d parents, which is more than the %d that an index counts", len(order), maxParents)}
	}
	slices.SortFunc(all, func(a, b listed) int {
		if c := byName(a.parent, b.parent); c != 0 {
			return c
		}
		return static.Parents[a.parent].Types[a.typ].Compare(static.Parents[b.parent].Types[b.typ].TypeName)
	})
	prepared := k.engine.Offers(static)
	m.place = make([]int, len(all))
	text := fmt.Appendf(nil, "%t %d%q %d%q", l.unlisted, l.qemu.State(), l.qemu.Text(), l.libvirt.State(), l.libvirt.Text())
	next := 0
	for number, p := range order {
		parent := &static.Parents[p]
		m.parent[parent.Name] = number
		lp := layoutParent{name: parent.Name, first: next, count: len(parent.Types)}
		text = fmt.Appendf(text, " %q", parent.Name)
		var names []string
		var capacity *compat.Capacity
		for ; next < len(all) && all[next].parent == p; next++ {
			at := all[next].at
			m.place[at] = next
			o := k.offer(prepared[at])
			text = fmt.Appendf(text, " %d", o.id)
			l.offers = append(l.offers, layoutOffer{parent: number, slot: l.slot(slot{o, lp.count}), offer: o, typ: prepared[at].Type()})
			names = append(names, prepared[at].Type().Name)
			model := k.engine.Capacity(prepared[at].Type().Namespace)
			if len(names) > 1 && model != capacity {
				model = nil // two catalogs' types on one parent: nobody says how they share
			}
			capacity = model
		}
		lp.sharing = capacity.Sharing(names)
		l.parents = append(l.parents, lp)
	}
	if other := k.layouts[string(text)]; other != nil {
		l = other
	} else {
		l.id = len(k.layouts)
		k.layouts[string(text)] = l
	}
	m.layout = l
	k.makes[digest] = m
	return m, nil
}

func unlisted(static *inventory.Inventory) bool {
	return static.ParentsUnread || slices.ContainsFunc(static.Parents, func(p inventory.Parent) bool { return p.TypesUnread })
}

func (l *layout) slot(s slot) int {
	if i := slices.Index(l.slots, s); i >= 0 {
		return i
	}
	l.slots = append(l.slots, s)
	return len(l.slots) - 1
}

func (k *kinds) offer(o *compat.Offer) *offer {
	class := k.engine.OfferClass(o)
	known := k.offers[class]
	if known == nil {
		known = &offer{len(k.byID), class, o}
		k.offers[class] = known
		k.byID = append(k.byID, known)
	}
	return known
}

// device finds the class of a host's device. What it has to look at is written
// down first: a device that was seen before costs no more than that.
func (k *kinds) device(m *hostMake, d *inventory.Device) (*content, *deviceClass, error) {
	k.text = appendContent(k.text[:0], d)
	sum := sha256.Sum256(k.text)
	key := [16]byte(sum[:16])
	c := k.known[key]
	if c == nil {
		c = &content{inventory.Device{Kind: d.Kind, Type: d.Type, Attributes: d.Attributes, Migration: d.Migration, Contract: d.Contract, ContractUnread: d.ContractUnread}}
		k.known[key] = c
	}
	class, err := k.classOf(m, d.Parent, c)
	return c, class, err
}

func (k *kinds) classOf(m *hostMake, parent string, c *content) (*deviceClass, error) {
	key := seenKey{m, parent, c}
	if class := k.seen[key]; class != nil {
		return class, nil
	}
	if m.static.Parent(parent) == nil {
		return nil, &Error{NotFound, parent, "no such parent on the device's host"}
	}
	d := c.device
	d.Parent = parent
	what := k.engine.Source(m.static, &d)
	sk := sourceKey{k.engine.SourceClass(what), -1}
	home := k.engine.Home(what)
	if home != nil {
		sk.home = k.offer(home).id
	}
	s := k.sources[sk]
	if s == nil {
		s = &source{what: what}
		if home != nil {
			s.home = k.byID[sk.home]
		}
		k.sources[sk] = s
	}
	class := k.deviceClass(s, m.static.Host.QEMU, m.static.Host.Libvirt)
	k.seen[key] = class
	return class, nil
}

// instance is the class of a new instance of an offer, on hosts of a layout.
func (k *kinds) instance(o *offer, l *layout) *deviceClass {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.fresh[o]
	if s == nil {
		s = &source{what: k.engine.Instance(o.what), home: o}
		k.fresh[o] = s
	}
	return k.deviceClass(s, l.qemu, l.libvirt)
}

func (k *kinds) deviceClass(s *source, qemu, libvirt inventory.Value) *deviceClass {
	key := deviceKey{s, qemu, libvirt}
	class := k.devices[key]
	if class == nil {
		class = &deviceClass{id: len(k.devices), source: s, qemu: qemu, libvirt: libvirt}
		k.devices[key] = class
	}
	return class
}

// appendContent writes down what decides a device's class, each text with its
// length so that none runs into the next.
func appendContent(b []byte, d *inventory.Device) []byte {
	b = appendName(appendText(b, string(d.Kind)), d.Type)
	b = appendAttributes(b, &d.Attributes)
	if m := d.Migration; m != nil {
		b = appendText(appendText(append(b, 'm'), string(m.Can)), m.Source)
	}
	if d.ContractUnread {
		b = append(b, 'u')
	}
	if c := d.Contract; c != nil {
		b = appendName(append(b, 'c'), c.Type)
		b = appendAttributes(appendValue(appendValue(b, c.Label), c.DeviceAPI), &c.TypeAttributes)
		b = appendAttributes(b, &c.DeviceAttributes)
	}
	return b
}

func appendText(b []byte, text string) []byte {
	return append(append(strconv.AppendInt(b, int64(len(text)), 36), ':'), text...)
}

func appendName(b []byte, n inventory.TypeName) []byte {
	return appendText(appendText(b, n.Namespace), n.Name)
}

func appendValue(b []byte, v inventory.Value) []byte {
	return appendText(append(b, '0'+byte(v.State())), v.Text())
}

func appendAttributes(b []byte, a *inventory.Attributes) []byte {
	if a.Complete {
		b = append(b, '+')
	} else {
		b = append(b, '-')
	}
	var few [16]string // a device has few
	names := few[:0]
	for name := range a.Values {
		names = append(names, name)
	}
	slices.Sort(names)
	b = append(strconv.AppendInt(b, int64(len(names)), 36), '#')
	for _, name := range names {
		b = appendValue(appendText(b, name), a.Values[name])
	}
	b = append(strconv.AppendInt(b, int64(len(a.Unread)), 36), '#')
	for _, name := range a.Unread {
		b = appendText(b, name)
	}
	return b
}

// ways is the device's judgement on each offer known by then. Whoever comes
// first judges; two at once do the same work and find the same.
func (k *kinds) ways(s *source, offers []*offer) []way {
	var old []way
	if p := s.ways.Load(); p != nil {
		old = *p
	}
	if len(old) >= len(offers) {
		return old
	}
	next := append(make([]way, 0, len(offers)), old...)
	for _, o := range offers[len(old):] {
		next = append(next, k.judge(s, o))
	}
	s.ways.Store(&next)
	return next
}

func (k *kinds) judge(s *source, o *offer) way {
	w := way{there: compat.Incompatible, back: compat.Unknown}
	if w.related = k.engine.Related(s.what, o.what); !w.related {
		return w
	}
	w.there = k.engine.Outcome(s.what, o.what)
	if w.there != compat.Incompatible && s.home != nil {
		w.back = k.engine.Outcome(k.engine.Arrived(s.what, o.what), s.home.what)
	}
	return w
}

// judged is a verdict with what it rests on.
type judged struct {
	verdict  compat.Verdict
	evidence int // see evidence
}

// verdict is Check's, made once for each pair and without names of hosts.
func (k *kinds) verdict(s *source, o *offer) *compat.Verdict { return &k.judged(s, o).verdict }

func (k *kinds) judged(s *source, o *offer) *judged {
	if v, ok := s.verdicts.Load(o.id); ok {
		return v.(*judged)
	}
	v := &judged{verdict: k.engine.Check(s.what, o.what)}
	v.verdict.Host, v.verdict.Parent = "", ""
	v.verdict.Findings = k.shared.list(v.verdict.Findings)
	v.evidence = evidence(&v.verdict)
	kept, _ := s.verdicts.LoadOrStore(o.id, v)
	return kept.(*judged)
}

// notOffered is the verdict on hosts of a layout of which no type comes into
// question.
func (s *source) notOffered(l *layout) *compat.Verdict {
	key := -1
	if l.unlisted {
		key = -2
	}
	if v, ok := s.verdicts.Load(key); ok {
		return &v.(*judged).verdict
	}
	v := &judged{verdict: compat.NotOffered(s.what, l.static)}
	v.verdict.Host = ""
	kept, _ := s.verdicts.LoadOrStore(key, v)
	return &kept.(*judged).verdict
}

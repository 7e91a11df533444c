// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"kindred/inventory"
)

// Owner is who a set of devices belongs to: a VM. Its devices are on one host
// and move together.
type Owner struct {
	Name    string   `json:"name"`
	Devices []string `json:"devices"`         // as Source takes them
	Apart   []string `json:"apart,omitempty"` // labels; two owners with one in common are never put on one host
	Not     []string `json:"not,omitempty"`   // hosts that it is not put on
}

// DrainOptions are the limits of a plan.
type DrainOptions struct {
	// Owners of devices, on the drained hosts and elsewhere. A device that no
	// owner names is an owner of its own, and is called HOST/DEVICE.
	Owners []Owner
	Policy Policy // where to first; empty: Pack
	AtOnce int    // moves at a time; 0: any number
	Proven bool   // only where a real transfer proved the pair
	// Now and MaxAge keep hosts that do not report from being targets.
	Now    time.Time
	MaxAge time.Duration
	// NamedOnly leaves devices that no owner names where they are, and says
	// nothing of them. Avoid are hosts that take nobody, First those that take
	// owners before all others.
	NamedOnly    bool
	Avoid, First []string
	// Labels are those of owners that are on a host, or on their way there, and
	// are not among Owners.
	Labels map[string][]string
}

// Plan moves owners off hosts.
type Plan struct {
	Simulated bool     `json:"simulated,omitempty"` // some of these hosts do not exist
	Hosts     []string `json:"hosts"`               // to be drained
	Owners    int      `json:"owners"`              // on them
	Moved     int      `json:"moved"`               // owners that the plan moves
	Bound     int      `json:"bound"`               // no plan moves more than so many
	Steps     int      `json:"steps"`               // the moves of one step may run at the same time
	Moves     []Move   `json:"moves"`               // by step
	Stays     []Stay   `json:"stays"`               // what cannot be moved, and why
	Owned     bool     `json:"owned"`               // owners were given; else each device was taken for one
}

// Move takes one owner to another host.
type Move struct {
	Step     int       `json:"step"`
	Owner    string    `json:"owner"`
	From     string    `json:"from"`
	To       string    `json:"to"`
	Gets     []Getting `json:"gets"`
	Estimate bool      `json:"estimate,omitempty"` // no model says how the types on a parent share it
}

// Getting is what one device gets.
type Getting struct {
	Device string             `json:"device"`
	Parent string             `json:"parent"`
	Type   inventory.TypeName `json:"type"`           // what to create there
	Copy   map[string]string  `json:"copy,omitempty"` // attributes to set while creating it
}

// Stay is an owner that the plan leaves where it is.
type Stay struct {
	Owner   string   `json:"owner"`
	Host    string   `json:"host"`
	Devices []string `json:"devices"`
	Code    Code     `json:"code"`
	Detail  string   `json:"detail"`
}

// job is one owner to be moved.
type job struct {
	name   string
	from   *host
	at     []int // its devices, by class
	kind   *jobKind
	apart  []string
	not    []string
	to     *host // nil: not yet
	offers []int // there, for each device
}

// Drain plans to move every owner off some hosts. No move of the plan goes to
// one of them, so that it can be carried out in any order.
func (f *Fleet) Drain(hosts []string, opts DrainOptions) (*Plan, error) {
	p, err := f.packing(hosts, opts)
	if err != nil {
		return nil, err
	}
	p.greedy()
	p.improve()
	return p.plan(hosts), nil
}

func (p *packing) plan(hosts []string) *Plan {
	plan := &Plan{Simulated: p.fleet.simulated > 0, Hosts: hosts, Owners: len(p.jobs), Moves: []Move{}, Stays: []Stay{}, Owned: len(p.opts.Owners) > 0}
	for _, j := range p.jobs {
		if p.fleet.ended() {
			return plan
		}
		if j.to == nil {
			plan.Stays = append(plan.Stays, p.stay(j))
			continue
		}
		plan.Moves = append(plan.Moves, p.move(j))
	}
	plan.Moved, plan.Bound = len(plan.Moves), p.bound()
	for i := range plan.Moves {
		plan.Moves[i].Step = 1
		if p.opts.AtOnce > 0 {
			plan.Moves[i].Step += i / p.opts.AtOnce
		}
		plan.Steps = plan.Moves[i].Step
	}
	return plan
}

func (p *packing) move(j *job) Move {
	m := Move{Owner: j.name, From: j.from.name, To: j.to.name, Estimate: p.spaces[j.to].mixed()}
	for i, at := range j.at {
		d := &j.from.devices[at]
		o := &j.to.layout.offers[j.offers[i]]
		verdict := p.fleet.kinds.verdict(d.class.source, o.offer)
		m.Gets = append(m.Gets, Getting{d.id, j.to.layout.parents[o.parent].name, o.typ.TypeName, verdict.Copy})
	}
	return m
}

// stay says why an owner is left.
func (p *packing) stay(j *job) Stay {
	s := Stay{Owner: j.name, Host: j.from.name}
	for _, at := range j.at {
		s.Devices = append(s.Devices, j.from.devices[at].id)
	}
	taking, hosts := p.taking(j.kind)
	alone, apart := len(hosts), 0
	for _, h := range hosts {
		if p.bars(j, h) {
			apart++
		}
	}
	switch {
	case taking == 0:
		s.Code = StayNowhere
		if p.takes(j.kind) {
			s.Code = StayFull
		}
	case alone == 0:
		s.Code = StayFull
	case apart == alone:
		s.Code = StayApart
	default:
		s.Code = StayTaken
	}
	s.Detail = s.Code.Meaning()
	if s.Code == StayApart || s.Code == StayTaken {
		s.Detail = fmt.Sprintf("%s (%d hosts could take it alone)", s.Code.Meaning(), alone)
	}
	return s
}

// taking counts the hosts that have room for a kind's scarcest device, and
// lists those that could take an owner of it alone.
func (p *packing) taking(k *jobKind) (taking int, alone []*host) {
	if k.told {
		return k.taking, k.alone
	}
	q := p.candidates(k)
	for h := q.next(); h != nil; h = q.next() {
		k.taking++
		if _, ok := newSpace(h).fit(p.wishes(k, h)); ok {
			k.alone = append(k.alone, h)
		}
	}
	k.told = true
	return k.taking, k.alone
}

// packing is a plan in the making.
type packing struct {
	fleet  *Fleet
	opts   DrainOptions
	jobs   []*job
	kinds  map[string]*jobKind
	barred map[*host]bool  // no targets
	first  map[string]bool // hosts that are preferred
	spaces map[*host]*space
	placed map[*host][]*job
	stays  map[*host]labels // of owners that stay where they are
	met    *reacher
	tries  int // what improving may still cost
	proved int // owners moved at most, found by exhaustion; -1: not found
}

// labels keep owners apart.
type labels map[string]bool

func (l labels) any(of []string) bool {
	return slices.ContainsFunc(of, func(label string) bool { return l[label] })
}

func (f *Fleet) packing(hosts []string, opts DrainOptions) (*packing, error) {
	if opts.Policy == "" {
		opts.Policy = Pack
	}
	p := &packing{
		fleet: f, opts: opts, kinds: make(map[string]*jobKind), barred: make(map[*host]bool), spaces: make(map[*host]*space),
		placed: make(map[*host][]*job), stays: make(map[*host]labels), met: f.reacher(), proved: -1,
	}
	if opts.MaxAge > 0 {
		for _, h := range f.since(opts.Now.Add(-opts.MaxAge)) {
			p.barred[h] = true
		}
	}
	drained := make(map[*host]bool)
	for _, name := range opts.Avoid {
		p.barred[f.host(name)] = true
	}
	if len(opts.First) > 0 {
		p.first = make(map[string]bool)
		for _, name := range opts.First {
			p.first[name] = true
		}
	}
	for name, list := range opts.Labels {
		p.label(f.host(name), list)
	}
	for _, name := range hosts {
		h := f.host(name)
		if h == nil {
			return nil, &Error{NotFound, name, "no such host in " + f.where("", false)}
		}
		if drained[h] {
			return nil, &Error{Ambiguous, name, "named twice"}
		}
		drained[h], p.barred[h] = true, true
	}
	owned, err := p.owners(drained)
	if err != nil {
		return nil, err
	}
	for _, name := range hosts {
		h := f.host(name)
		for at := range h.devices {
			if !opts.NamedOnly && !owned[h][at] && !h.devices[at].idle() {
				p.add(&job{name: h.name + "/" + h.devices[at].id, from: h, at: []int{at}})
			}
		}
	}
	slices.SortFunc(p.jobs, func(a, b *job) int {
		return cmp.Or(cmp.Compare(a.from.order, b.from.order), strings.Compare(a.name, b.name))
	})
	return p, nil
}

// owners makes jobs of the owners on drained hosts, and keeps the labels of the
// others.
func (p *packing) owners(drained map[*host]bool) (map[*host]map[int]bool, error) {
	owned := make(map[*host]map[int]bool)
	names := make(map[string]bool)
	for i := range p.opts.Owners {
		o := &p.opts.Owners[i]
		if names[o.Name] || o.Name == "" {
			return nil, &Error{Ambiguous, o.Name, "an owner is nameless or named twice"}
		}
		names[o.Name] = true
		j := &job{name: o.Name, apart: o.Apart, not: o.Not}
		for _, ref := range o.Devices {
			s, err := p.fleet.Source(ref)
			if err != nil {
				return nil, fmt.Errorf("owner %s: device %w", o.Name, err)
			}
			switch {
			case j.from != nil && j.from != s.host:
				return nil, &Error{Apart, o.Name, "its devices are on " + j.from.name + " and on " + s.host.name + ": an owner's devices are on one host"}
			case owned[s.host][s.at]:
				return nil, &Error{Ambiguous, ref, "belongs to two owners"}
			}
			j.from = s.host
			j.at = append(j.at, s.at)
			if owned[s.host] == nil {
				owned[s.host] = make(map[int]bool)
			}
			owned[s.host][s.at] = true
		}
		switch {
		case j.from == nil:
		case drained[j.from]:
			p.add(j)
		default:
			p.label(j.from, o.Apart)
		}
	}
	return owned, nil
}

// label keeps labels of owners that are on a host whatever the plan is.
func (p *packing) label(h *host, list []string) {
	if p.stays[h] == nil {
		p.stays[h] = make(labels)
	}
	for _, label := range list {
		p.stays[h][label] = true
	}
}

// bars reports whether a job may not be put on a host, whatever the plan is.
func (p *packing) bars(j *job, h *host) bool {
	return p.stays[h].any(j.apart) || slices.Contains(j.not, h.name)
}

// idle is a function that nobody uses: it is there whether it has an owner or
// not.
func (d *device) idle() bool { return d.content.device.Kind == inventory.VF && d.use == inventory.No }

// add adds a job with its kind.
func (p *packing) add(j *job) {
	slices.SortFunc(j.at, func(a, b int) int {
		return cmp.Or(cmp.Compare(j.from.devices[a].class.id, j.from.devices[b].class.id), cmp.Compare(a, b))
	})
	var key strings.Builder
	for _, at := range j.at {
		fmt.Fprintf(&key, "%d ", j.from.devices[at].class.id)
	}
	k := p.kinds[key.String()]
	if k == nil {
		k = &jobKind{number: len(p.kinds), wishes: make(map[*layout][]wish)}
		for _, at := range j.at {
			k.classes = append(k.classes, j.from.devices[at].class)
		}
		p.kinds[key.String()] = k
	}
	j.kind = k
	k.jobs = append(k.jobs, j)
	p.jobs = append(p.jobs, j)
}

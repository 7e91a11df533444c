// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"slices"

	"kindred/api"
	"kindred/compat"
	"kindred/fleet"
	"kindred/inventory"
)

// space is what a host's parents have left beside all claims on it.
type space struct {
	inv   *inventory.Inventory
	lefts []*compat.Left // by parent
	names [][]inventory.TypeName
}

// newSpace begins with the host's last report, and takes what claims and canary
// orders hold and the report does not count yet.
func newSpace(engine *compat.Engine, inv *inventory.Inventory, claims []*claimRecord, canaries []*canaryRecord) *space {
	s := &space{inv: inv}
	for i := range inv.Parents {
		p := &inv.Parents[i]
		counts, held := make([]int, len(p.Types)), make([]int, len(p.Types))
		var short []string
		var names []inventory.TypeName
		var capacity *compat.Capacity
		for t := range p.Types {
			typ := &p.Types[t]
			counts[t] = certain(typ)
			short, names = append(short, typ.Name), append(names, typ.TypeName)
			model := engine.Capacity(typ.Namespace)
			if t > 0 && model != capacity {
				model = nil // two catalogs' types on one parent: nobody says how they share
			}
			capacity = model
		}
		for d := range inv.Devices {
			if dev := &inv.Devices[d]; dev.Parent == p.Name {
				if t := slices.Index(names, dev.Type); t >= 0 {
					held[t]++
				}
			}
		}
		s.lefts = append(s.lefts, capacity.Sharing(short).Left(counts, held))
		s.names = append(s.names, names)
	}
	for _, c := range claims {
		for i := range c.Devices {
			if d := &c.Devices[i]; !counted(inv, d) {
				if p, t := s.find(d.Parent, d.Type); t >= 0 {
					s.lefts[p].Take(t)
				}
			}
		}
	}
	for _, c := range canaries {
		ends := c.holds(inv.Host.Name)
		for i := range inv.Devices { // a canary that is there is counted
			at := slices.IndexFunc(ends, func(e *api.CanaryEnd) bool {
				d := &inv.Devices[i]
				return d.Canary == c.ID && d.Parent == e.Parent && d.Type == e.Type
			})
			if at >= 0 {
				ends = slices.Delete(ends, at, at+1)
			}
		}
		for _, e := range ends {
			if p, t := s.find(e.Parent, e.Type); t >= 0 {
				s.lefts[p].Take(t)
			}
		}
	}
	return s
}

// certain is how many the kernel would create of a type for sure.
func certain(t *inventory.Type) int {
	switch {
	case t.Creatable == inventory.No:
		return 0
	case t.Available != nil:
		return *t.Available
	case t.Creatable == inventory.Yes:
		return 1
	}
	return 0
}

// counted reports whether a report's counters have a claim's device counted: an
// mdev by being there; a function, which is there before and after, by being in
// use.
func counted(inv *inventory.Inventory, d *api.ClaimDevice) bool {
	if d.Device == "" {
		return false
	}
	dev := inv.Device(d.Device)
	return dev != nil && (dev.Kind == inventory.Mdev || dev.InUse == inventory.Yes)
}

func (s *space) find(parent string, name inventory.TypeName) (p, t int) {
	for p := range s.inv.Parents {
		if s.inv.Parents[p].Name == parent {
			return p, slices.Index(s.names[p], name)
		}
	}
	return -1, -1
}

// left is what a host's counters are when all that holds room on it is counted in, in
// the order of [inventory.Own].
func left(engine *compat.Engine, inv *inventory.Inventory, claims []*claimRecord, canaries []*canaryRecord) []int {
	s := newSpace(engine, inv, claims, canaries)
	var counts []int
	for p := range inv.Parents {
		for t := range inv.Parents[p].Types {
			before := -1
			if n := inv.Parents[p].Types[t].Available; n != nil {
				before = *n
			}
			l, n := s.lefts[p].Clone(), 0
			most := certain(&inv.Parents[p].Types[t])
			for n < most && l.Fits(t) {
				l.Take(t)
				n++
			}
			if before < 0 && n == most {
				n = before // it said nothing, and that still holds
			}
			counts = append(counts, n)
		}
	}
	return counts
}

// offer is one type of the target that would do for a device.
type offer struct {
	parent, typ int
	verdict     compat.Verdict
	offer       *compat.Offer
	score       int // by the policy; less is better
}

// judge says what a target would create for a device, best first, or why it
// takes none.
func (s *space) judge(engine *compat.Engine, from *compat.Source, req *api.ClaimRequest) ([]offer, *api.Problem) {
	var good []offer
	var worst *compat.Verdict // the best of those that will not do
	n := 0
	offers := engine.Offers(s.inv)
	for p := range s.inv.Parents {
		for t := range s.inv.Parents[p].Types {
			o := offers[n]
			n++
			if !engine.Related(from, o) {
				continue
			}
			v := engine.Check(from, o)
			if !settles(&v, req.Accept) || req.Proven && !proved(&v) {
				if worst == nil || v.Outcome < worst.Outcome {
					worst = &v
				}
				continue
			}
			good = append(good, offer{p, t, v, o, score(&s.inv.Parents[p], t, req.Policy)})
		}
	}
	if len(good) == 0 {
		if worst == nil {
			worst = new(compat.NotOffered(from, s.inv))
		}
		code := api.NotCompatible
		if worst.Outcome != compat.Incompatible {
			code = api.NotSettled
		}
		return nil, refusal(code, s.inv.Host.Name, from.ID, worst)
	}
	slices.SortStableFunc(good, func(a, b offer) int {
		return cmp.Or(cmp.Compare(a.verdict.Outcome, b.verdict.Outcome), cmp.Compare(a.score, b.score))
	})
	return good, nil
}

// score orders a target's parents by the policy, as far as one host goes.
func score(p *inventory.Parent, t int, policy fleet.Policy) int {
	switch policy {
	case fleet.Pack:
		return certain(&p.Types[t])
	case fleet.Spread, fleet.ProvenFirst:
		return -certain(&p.Types[t])
	case fleet.OldestFirst:
		return len(p.Types)
	}
	return 0
}

// settles reports whether a verdict is good, or all that is unknown of it was
// accepted.
func settles(v *compat.Verdict, accepted []api.Acceptance) bool {
	if v.Outcome != compat.Unknown {
		return v.Outcome == compat.Compatible
	}
	for i := range v.Findings {
		f := &v.Findings[i]
		if f.Outcome == compat.Unknown && !slices.ContainsFunc(accepted, func(a api.Acceptance) bool { return a.Code == string(f.Code) }) {
			return false
		}
	}
	return true
}

// proved reports whether a real transfer proved the pair.
func proved(v *compat.Verdict) bool {
	return slices.ContainsFunc(v.Findings, func(f compat.Finding) bool { return f.Code == compat.ProofAccepted })
}

func refusal(code api.Code, target, device string, v *compat.Verdict) *api.Problem {
	p := api.NewProblem(code, "%s cannot take device %s", target, device)
	for i := range v.Findings {
		if f := &v.Findings[i]; f.Outcome == v.Outcome {
			p.Reasons = append(p.Reasons, api.Cause{Subject: device, Code: string(f.Code), Text: f.Text()})
		}
	}
	return p
}

// place finds a place for every device at once, each on the best offer where
// that leaves the others one. A search that is over by then does not know.
func (s *space) place(search *compat.Search, wishes [][]offer) ([]offer, bool) {
	spots := make([][]compat.Spot, len(wishes))
	for i, offers := range wishes {
		for _, o := range offers {
			spots[i] = append(spots[i], compat.Spot{Parent: o.parent, Type: o.typ})
		}
	}
	got, ok := search.Fit(s.lefts, spots)
	if !ok {
		return nil, false
	}
	places := make([]offer, len(wishes))
	for i, n := range got {
		places[i] = wishes[i][n]
	}
	return places, true
}

// mixed reports whether room was guessed.
func (s *space) mixed() bool {
	return slices.ContainsFunc(s.lefts, (*compat.Left).Mixed)
}

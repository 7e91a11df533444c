// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"kindred/compat"
	"kindred/inventory"
)

// Fleet is a set of hosts and what is known of their drivers. It does not
// change and is safe for concurrent use.
type Fleet struct {
	engine *compat.Engine
	hosts  []host // by name
}

type host struct {
	inv    *inventory.Inventory
	offers []*compat.Offer // by parent, then type
}

// New makes a fleet of the inventories. Two of one host are an error.
func New(engine *compat.Engine, inventories []*inventory.Inventory) (*Fleet, error) {
	f := &Fleet{engine: engine}
	for _, inv := range inventories {
		offers := engine.Offers(inv)
		slices.SortFunc(offers, func(a, b *compat.Offer) int {
			return cmp.Or(cmp.Compare(a.Parent(), b.Parent()), a.Type().Compare(b.Type().TypeName))
		})
		f.hosts = append(f.hosts, host{inv, offers})
	}
	slices.SortFunc(f.hosts, func(a, b host) int { return cmp.Compare(a.inv.Host.Name, b.inv.Host.Name) })
	for i := 1; i < len(f.hosts); i++ {
		if name := f.hosts[i].inv.Host.Name; name == f.hosts[i-1].inv.Host.Name {
			return nil, &Error{Code: DuplicateHost, Ref: name, Problem: "two inventories of this host were given: keep the newer one"}
		}
	}
	return f, nil
}

// ErrorCode says what kind of question could not be answered.
type ErrorCode string

const (
	NotFound      ErrorCode = "not-found"
	Ambiguous     ErrorCode = "ambiguous"
	DuplicateHost ErrorCode = "duplicate-host"
)

// Error is a question that could not be answered.
type Error struct {
	Code    ErrorCode
	Ref     string // what was asked for
	Problem string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Ref, e.Problem) }

// Source finds a device by its id, or by <host>/<id> where several hosts have
// one of that id. Ids are compared without case; a prefix of at least four
// characters does if only one device starts with it.
func (f *Fleet) Source(ref string) (*compat.Source, error) {
	wantHost, id, qualified := strings.Cut(ref, "/")
	if !qualified {
		wantHost, id = "", ref
	}
	id = strings.ToLower(id)
	type found struct {
		inv *inventory.Inventory
		dev *inventory.Device
	}
	var exact, prefix []found
	for _, h := range f.hosts {
		if qualified && h.inv.Host.Name != wantHost {
			continue
		}
		for i := range h.inv.Devices {
			switch dev := &h.inv.Devices[i]; {
			case strings.ToLower(dev.ID) == id:
				exact = append(exact, found{h.inv, dev})
			case len(id) >= 4 && strings.HasPrefix(strings.ToLower(dev.ID), id):
				prefix = append(prefix, found{h.inv, dev})
			}
		}
	}
	if len(exact) == 0 {
		exact = prefix
	}
	switch len(exact) {
	case 0:
		problem := "no such device in " + f.where(wantHost, qualified)
		for _, h := range f.hosts {
			if h.inv.DevicesUnread && (!qualified || h.inv.Host.Name == wantHost) {
				problem += "; on " + h.inv.Host.Name + " not all devices could be listed"
				break
			}
		}
		if len(id) < 4 {
			problem += "; the beginning of an id has at least four characters"
		}
		return nil, &Error{NotFound, ref, problem}
	case 1:
		return f.engine.Source(exact[0].inv, exact[0].dev), nil
	}
	var refs []string
	for _, e := range exact[:min(len(exact), 4)] {
		refs = append(refs, e.inv.Host.Name+"/"+e.dev.ID)
	}
	return nil, &Error{Ambiguous, ref, "several devices: name one as " + strings.Join(refs, " or ")}
}

func (f *Fleet) where(host string, qualified bool) string {
	if qualified {
		for _, h := range f.hosts {
			if h.inv.Host.Name == host {
				return "the inventory of " + host
			}
		}
		return "these inventories, which have no host " + host
	}
	var names []string
	for _, h := range f.hosts {
		names = append(names, h.inv.Host.Name)
	}
	if len(names) > 6 {
		return fmt.Sprintf("the inventories of %d hosts", len(names))
	}
	return "the inventory of " + strings.Join(names, ", ")
}

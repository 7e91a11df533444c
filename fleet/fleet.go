// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"slices"
	"strings"

	"kindred/compat"
	"kindred/inventory"
)

// Fleet is a set of hosts and what is known of their drivers. It does not
// change and is safe for concurrent use.
type Fleet struct {
	kinds     *kinds
	engine    *compat.Engine
	offers    []*offer // every one that a host of it makes, and perhaps others
	hosts     list[*host]
	cells     []*cell // by layout; nil where no host has it
	ids       list[reference]
	ages      list[age]
	simulated int             // hosts that do not exist
	done      <-chan struct{} // see Within
}

// New makes a fleet of the inventories. Two of one host are an error.
func New(engine *compat.Engine, inventories []*inventory.Inventory) (*Fleet, error) {
	k := newKinds(engine)
	names := make(map[string]bool, len(inventories))
	hosts := make([]*host, 0, len(inventories))
	for _, inv := range inventories {
		if names[inv.Host.Name] {
			return nil, &Error{DuplicateHost, inv.Host.Name, "two inventories of this host were given: keep the newer one"}
		}
		names[inv.Host.Name] = true
		h, err := k.whole(inv)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, h)
	}
	return build(k, hosts), nil
}

// whole makes a host of a whole inventory.
func (k *kinds) whole(inv *inventory.Inventory) (*host, error) {
	static, own := inventory.Split(inv)
	digest, err := static.Digest()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	m, err := k.add(digest, static)
	if err != nil {
		return nil, err
	}
	return k.host(m, own, nil)
}

// ErrorCode says what kind of question could not be answered.
type ErrorCode string

const (
	NotFound      ErrorCode = "not-found"
	Ambiguous     ErrorCode = "ambiguous"
	DuplicateHost ErrorCode = "duplicate-host"
	TooLarge      ErrorCode = "too-large"
	Apart         ErrorCode = "apart" // devices of one owner on several hosts
)

// Error is a question that could not be answered.
type Error struct {
	Code    ErrorCode
	Ref     string // what was asked for
	Problem string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Ref, e.Problem) }

// Source is a device of a fleet.
type Source struct {
	host *host
	at   int // among the host's devices
}

func (s *Source) device() *device { return &s.host.devices[s.at] }

// Host is the name of the host that the device is on.
func (s *Source) Host() string { return s.host.name }

// ID is the device's id.
func (s *Source) ID() string { return s.device().id }

// Hosts is how many hosts the fleet has.
func (f *Fleet) Hosts() int { return f.hosts.size }

// Has reports whether the fleet has a host of that name.
func (f *Fleet) Has(name string) bool { return f.host(name) != nil }

// host returns the named host, nil if there is none.
func (f *Fleet) host(name string) *host {
	h, _ := f.hosts.get(&host{name: name})
	return h
}

// Source finds a device by its id, or by <host>/<id> where several hosts have
// one of that id. Ids are compared without case; a prefix of at least four
// characters does if only one device starts with it.
func (f *Fleet) Source(ref string) (*Source, error) {
	wantHost, id, qualified := strings.Cut(ref, "/")
	if !qualified {
		wantHost, id = "", ref
	}
	id = strings.ToLower(id)
	var exact, prefix []*Source
	for c := f.ids.from(reference{id: id}); ; {
		r, ok := c.next()
		if !ok || !strings.HasPrefix(r.id, id) || len(prefix) > 8 && !qualified || r.id != id && len(id) < 4 {
			break
		}
		if qualified && r.host != wantHost {
			continue
		}
		h := f.host(r.host)
		found := &Source{h, slices.IndexFunc(h.devices, func(d device) bool { return strings.ToLower(d.id) == r.id })}
		if r.id == id {
			exact = append(exact, found)
		} else {
			prefix = append(prefix, found)
		}
	}
	if len(exact) == 0 {
		exact = prefix
	}
	switch len(exact) {
	case 0:
		return nil, &Error{NotFound, ref, f.noDevice(wantHost, id, qualified)}
	case 1:
		return exact[0], nil
	}
	slices.SortFunc(exact, func(a, b *Source) int { return strings.Compare(a.Host()+"/"+a.ID(), b.Host()+"/"+b.ID()) })
	var refs []string
	for _, e := range exact[:min(len(exact), 4)] {
		refs = append(refs, e.Host()+"/"+e.ID())
	}
	return nil, &Error{Ambiguous, ref, "several devices: name one as " + strings.Join(refs, " or ")}
}

// noDevice says where a device was looked for in vain.
func (f *Fleet) noDevice(wantHost, id string, qualified bool) string {
	problem := "no such device in " + f.where(wantHost, qualified)
	for h := range f.hosts.all {
		if h.partial && (!qualified || h.name == wantHost) {
			problem += "; on " + h.name + " not all devices could be listed"
			break
		}
	}
	if len(id) < 4 {
		problem += "; the beginning of an id has at least four characters"
	}
	return problem
}

func (f *Fleet) where(name string, qualified bool) string {
	if qualified {
		if f.host(name) != nil {
			return "the inventory of " + name
		}
		return "these inventories, which have no host " + name
	}
	if f.hosts.size > 6 {
		return fmt.Sprintf("the inventories of %d hosts", f.hosts.size)
	}
	var names []string
	for h := range f.hosts.all {
		names = append(names, h.name)
	}
	return "the inventory of " + strings.Join(names, ", ")
}

// HostNames are the hosts of the fleet, sorted.
func (f *Fleet) HostNames() []string {
	names := make([]string, 0, f.hosts.size)
	for h := range f.hosts.all {
		names = append(names, h.name)
	}
	return names
}

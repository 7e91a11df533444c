// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"path"
	"slices"

	"kindred/compat"
	"kindred/inventory"
)

// ChangeKind is what is changed in thought.
type ChangeKind string

const (
	SetBuild     ChangeKind = "build"    // a module's build-id
	SetKernel    ChangeKind = "kernel"   // the release of the running kernel
	SetFirmware  ChangeKind = "firmware" // a version that a parent runs
	SetFact      ChangeKind = "fact"     // of a host
	RemoveHost   ChangeKind = "remove-host"
	RemoveParent ChangeKind = "remove-parent"
)

// Change is one change to some hosts.
type Change struct {
	Kind   ChangeKind `json:"kind"`
	Hosts  string     `json:"hosts"`            // glob over names; empty: all
	Parent string     `json:"parent,omitempty"` // glob over parents' names, for firmware and remove-parent; empty: all
	Name   string     `json:"name,omitempty"`   // module, firmware version or fact
	Value  string     `json:"value,omitempty"`
}

// Supposition is a world that is not.
type Supposition struct {
	Changes []Change               // in their order
	Add     []*inventory.Inventory // hosts that are not there
	Engine  *compat.Engine         // other catalogs or proofs; nil: the same
}

// Suppose is the fleet as it would be. The counters stay as they are; a parent
// that goes takes its devices with it.
func (f *Fleet) Suppose(s Supposition) (*Fleet, error) {
	next := f
	for _, c := range s.Changes {
		var err error
		if next, err = next.changed(c); err != nil {
			return nil, err
		}
	}
	var news []*host
	for _, inv := range s.Add {
		if next.host(inv.Host.Name) != nil {
			return nil, &Error{DuplicateHost, inv.Host.Name, "cannot be added: it is there already"}
		}
		h, err := next.kinds.whole(inv)
		if err != nil {
			return nil, err
		}
		news = append(news, h)
	}
	if len(news) > 0 {
		next = next.with(news, nil)
	}
	if s.Engine != nil {
		return next.under(s.Engine)
	}
	return next, nil
}

// under is the fleet under other catalogs or proofs: all classes are made anew.
func (f *Fleet) under(engine *compat.Engine) (*Fleet, error) {
	k := newKinds(engine)
	makes := make(map[*hostMake]*hostMake)
	var hosts []*host
	for h := range f.hosts.all {
		if f.ended() {
			break
		}
		m := makes[h.make]
		if m == nil {
			var err error
			if m, err = k.add(h.make.digest, h.make.static); err != nil {
				return nil, err
			}
			makes[h.make] = m
		}
		next, err := k.remade(h, m)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, next)
	}
	next := build(k, hosts)
	next.done = f.done
	return next, nil
}

// changed is the fleet with one change: makes are changed, and their hosts with
// them.
func (f *Fleet) changed(c Change) (*Fleet, error) {
	for _, glob := range []string{c.Hosts, c.Parent} {
		if _, err := path.Match(glob, ""); err != nil {
			return nil, &Error{NotFound, glob, "is not a glob over names"}
		}
	}
	var news []*host
	var gone []string
	makes := make(map[*hostMake]*hostMake)
	hit := false
	for h := range f.hosts.all {
		if f.ended() {
			break
		}
		if !matches(c.Hosts, h.name) {
			continue
		}
		if c.Kind == RemoveHost {
			gone, hit = append(gone, h.name), true
			continue
		}
		m, ok := makes[h.make]
		if !ok {
			var err error
			if m, err = f.kinds.changedMake(h.make, c); err != nil {
				return nil, err
			}
			makes[h.make] = m
		}
		if m == nil {
			continue
		}
		hit = true
		f.kinds.mu.Lock()
		next, err := f.kinds.remade(h, m)
		f.kinds.mu.Unlock()
		if err != nil {
			return nil, err
		}
		news = append(news, next)
	}
	if !hit {
		return nil, &Error{NotFound, c.String(), "nothing there to change"}
	}
	return f.with(news, gone), nil
}

// String is the change for people.
func (c Change) String() string {
	where := c.Hosts
	if where == "" {
		where = "*"
	}
	if c.Parent != "" {
		where += "/" + c.Parent
	}
	switch c.Kind {
	case RemoveHost, RemoveParent:
		return fmt.Sprintf("%s %s", c.Kind, where)
	case SetKernel:
		return fmt.Sprintf("kernel of %s = %s", where, c.Value)
	}
	return fmt.Sprintf("%s %s of %s = %s", c.Kind, c.Name, where, c.Value)
}

func matches(glob, name string) bool {
	if glob == "" || glob == "*" {
		return true
	}
	ok, err := path.Match(glob, name)
	return ok && err == nil
}

// changedMake is the make with the change, nil where there is nothing of what
// is to be changed.
func (k *kinds) changedMake(m *hostMake, c Change) (*hostMake, error) {
	static := *m.static
	hit := false
	switch c.Kind {
	case SetBuild:
		static.Modules = slices.Clone(static.Modules)
		for i := range static.Modules {
			if module := &static.Modules[i]; module.Name == c.Name {
				module.BuildID, hit = inventory.Of(c.Value), true
				module.SrcVersion, module.Version = inventory.Value{}, inventory.Value{} // of the build that was
			}
		}
	case SetKernel:
		static.Host.Kernel, hit = inventory.Kernel{Release: inventory.Of(c.Value), Arch: static.Host.Kernel.Arch}, true
	case SetFact:
		static.Host.Facts, hit = withFact(static.Host.Facts, c), true
	case SetFirmware:
		static.Parents = slices.Clone(static.Parents)
		for i := range static.Parents {
			if p := &static.Parents[i]; matches(c.Parent, p.Name) && p.Firmware.Get(c.Name).State() == inventory.Present {
				p.Firmware, hit = withAttribute(p.Firmware, c), true
			}
		}
	case RemoveParent:
		left := slices.DeleteFunc(slices.Clone(static.Parents), func(p inventory.Parent) bool { return matches(c.Parent, p.Name) })
		hit = len(left) < len(static.Parents)
		static.Parents = left
	default:
		return nil, &Error{NotFound, string(c.Kind), "is no kind of change"}
	}
	if !hit {
		return nil, nil
	}
	digest, err := static.Digest()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.add(digest, &static)
}

func withFact(old inventory.Facts, c Change) inventory.Facts {
	facts := make(inventory.Facts, len(old)+1)
	for name, f := range old {
		facts[name] = f
	}
	facts[c.Name] = inventory.Fact{Value: inventory.Of(c.Value), Source: "supposed"}
	return facts
}

func withAttribute(old inventory.Attributes, c Change) inventory.Attributes {
	next := inventory.Attributes{Complete: old.Complete, Unread: old.Unread}
	for name, v := range old.Values {
		if text, ok := v.Get(); ok {
			next.Set(name, text)
		} else {
			next.Values = put(next.Values, name, v)
		}
	}
	next.Set(c.Name, c.Value)
	return next
}

func put(m map[string]inventory.Value, name string, v inventory.Value) map[string]inventory.Value {
	if m == nil {
		m = make(map[string]inventory.Value)
	}
	m[name] = v
	return m
}

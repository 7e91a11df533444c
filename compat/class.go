// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"strconv"

	"kindred/inventory"
)

// Class is all that an engine looks at on one end of a question, as one text.
// Two devices of equal class have equal verdicts against every offer, and two
// offers of equal class against every device, but for the names of hosts and
// parents, which no rule asks for. The same holds for what is derived from an
// offer: Arrived, Instance and Home.
//
// Classes compare within one engine: another has other catalogs, and with them
// other things that it looks at.
type Class string

// SourceClass is the class of a device.
func (e *Engine) SourceClass(s *Source) Class {
	ignored := e.ignored(&s.side)
	w := make(classText, 0, 1024)
	w = w.side(&s.side, ignored)
	for i := range s.values { // in the order of the rules, which the names above decide
		if s.rules[i].Kind != Ignore {
			w = w.value(s.values[i].now).value(s.values[i].promised)
		}
	}
	w = w.flag(s.unread).attributes(s.device, ignored, OfDevice)
	if c := s.contract; c != nil {
		w = w.text(c.Type.Namespace).text(c.Type.Name).value(c.Label).value(c.DeviceAPI)
		w = w.attributes(&c.TypeAttributes, ignored, OfType).attributes(&c.DeviceAttributes, ignored, OfDevice)
	}
	return Class(w)
}

// OfferClass is the class of an offer.
func (e *Engine) OfferClass(o *Offer) Class {
	w := make(classText, 0, 1024)
	w = w.side(&o.side, e.ignored(&o.side))
	w = e.asked(w, o, o.name.Namespace)
	for _, n := range e.Equivalents(o.name) {
		if n.Namespace != o.name.Namespace {
			w = e.asked(w, o, n.Namespace)
		}
	}
	return Class(w)
}

// ignored says which attributes no verdict about a side depends on, whichever
// type it is compared with: numbers of one host, links, ids.
func (e *Engine) ignored(s *side) func(of Place, attr string) bool {
	rules := [][]*Rule{s.rules}
	everywhere := true // also where a rule is asked for another type of its catalog
	equals := e.Equivalents(s.name)
	if len(equals) == 0 && (s.catalog == nil || s.catalog.Identity != ByLabel) {
		everywhere = false
	}
	if everywhere {
		for _, n := range append(equals, s.name) {
			c := e.catalogs.For(n.Namespace)
			if c == nil {
				return func(Place, string) bool { return false }
			}
			var all []*Rule
			for i := range c.Rules {
				all = append(all, &c.Rules[i])
			}
			rules = append(rules, all)
		}
	}
	return func(of Place, attr string) bool {
		for i, list := range rules {
			ignored := false
			for _, r := range list {
				switch {
				case r.Kind == Ignore && r.Of == of && r.Attribute == attr:
					ignored = ignored || i == 0 || r.Types == ""
				case r.Kind != Ignore && (r.Of == of && r.Attribute == attr || of == OfType && r.about(attr)):
					return false
				}
			}
			if !ignored {
				return false
			}
		}
		return true
	}
}

// asked adds what the rules of a namespace would look up beside the type's
// attributes. A rule that covers other types only is asked too where a label,
// not the name, is the type's identity.
func (e *Engine) asked(w classText, o *Offer, namespace string) classText {
	c := e.catalogs.For(namespace)
	if c == nil {
		return w
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		if r.Kind == Ignore || r.Of == OfType || r.Of == OfDevice {
			continue
		}
		t := o.taken(r)
		w = w.value(t.value).value(t.high).value(o.value(r.Of, r.Attribute))
	}
	return w
}

// classText grows by fields that cannot run into each other.
type classText []byte

func (w classText) text(s string) classText {
	w = append(strconv.AppendInt(w, int64(len(s)), 36), ':')
	return append(w, s...)
}

func (w classText) flag(b bool) classText {
	if b {
		return append(w, 'y')
	}
	return append(w, 'n')
}

func (w classText) value(v inventory.Value) classText {
	w = append(w, '0'+byte(v.State()))
	return w.text(v.Text())
}

// attributes are those of a place but for the ones that are ignored.
func (w classText) attributes(a *inventory.Attributes, ignored func(Place, string) bool, of Place) classText {
	w = w.flag(a.Complete)
	for _, n := range sorted(a) {
		if !ignored(of, n.name) {
			w = w.text(n.name).value(n.value)
		}
	}
	return append(w, '#')
}

func (w classText) side(s *side, ignored func(Place, string) bool) classText {
	w = w.text(s.name.Namespace).text(s.name.Name).text(string(s.parent.Kind)).flag(s.typ != nil)
	w = w.value(s.label).value(s.api).attributes(s.attrs, ignored, OfType).text(string(s.can)).text(s.canFrom)
	w = w.flag(s.simulated()).flag(s.shaped).text(s.shape).text(s.build.ID)
	for _, p := range s.build.Parts {
		w = w.text(p.Name).value(p.Value)
	}
	w = append(w, '/')
	for _, name := range s.build.Missing {
		w = w.text(name)
	}
	return append(w, '/')
}

// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"kindred/inventory"
)

// Trial is how one example of a catalog went.
type Trial struct {
	Example string  `json:"example"`
	Line    int     `json:"line"`
	Wrong   string  `json:"wrong,omitempty"` // empty: the answer was the expected one
	Verdict Verdict `json:"verdict"`
	rules   map[*Rule]Outcome
}

// Untried is a rule that lacks an example.
type Untried struct {
	Rule  string `json:"rule"` // the attribute
	Line  int    `json:"line"`
	Wants string `json:"wants"` // what an example has to show
}

// Try runs a catalog's examples through an engine that knows this catalog and
// the others; others may be nil. The second list names rules that no example
// shows accepting and refusing.
func (c *Catalog) Try(others []*Catalog) ([]Trial, []Untried, error) {
	cs, err := NewCatalogs(others, []*Catalog{c})
	if err != nil {
		return nil, nil, err
	}
	trials := make([]Trial, 0, len(c.Examples.Cases))
	for i := range c.Examples.Cases {
		trials = append(trials, c.try(cs, &c.Examples.Cases[i]))
	}
	return trials, c.untried(trials), nil
}

func (c *Catalog) try(cs *Catalogs, x *Example) Trial {
	device := x.Device.over(c.Examples.Base)
	base := device
	base.Unobserved = c.Examples.Base.Unobserved
	target := x.Target.over(base)
	from, to := c.host("source", &device), c.host("target", &target)
	addInstance(from, &device)
	if x.Contract != nil {
		promised := x.Contract.over(device)
		from.Devices[0].Contract = c.promise(&promised)
	}
	e := NewEngine(cs, nil)
	s := e.Source(from, &from.Devices[0])
	o := e.Offers(to)[0]
	if x.Proof != nil {
		e = NewEngine(cs, []Proof{{
			SourceType: s.name, TargetType: o.name, SourceBuild: s.build.ID, TargetBuild: o.build.ID, SourceShape: s.shape, TargetShape: o.shape,
			Grade: x.Proof.Grade, Result: x.Proof.Result, Verified: x.Proof.Verified, Controls: true, Tries: 2, Time: time.Unix(0, 0).UTC(), Detail: "an example's",
		}})
	}
	t := Trial{Example: x.Name, Line: x.Line, Verdict: e.Check(s, o), rules: ruleOutcomes(s, o)}
	t.Wrong = x.wrong(&t.Verdict)
	return t
}

// wrong says what of the verdict is not what the example expects.
func (x *Example) wrong(v *Verdict) string {
	if v.Outcome.String() != x.Outcome {
		text := fmt.Sprintf("the answer is %s, expected is %s", v.Outcome, x.Outcome)
		if f := v.Worst(); f != nil {
			text += fmt.Sprintf(" (%s: %s)", f.Code, f.Text())
		}
		return text
	}
	for _, want := range x.Codes {
		if !slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Code == want }) {
			return fmt.Sprintf("there is no finding %s", want)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(x.Copy)) {
		if got, ok := v.Copy[name]; !ok || got != x.Copy[name].Text() {
			return fmt.Sprintf("%s is set to %q, expected is %q", name, got, x.Copy[name].Text())
		}
	}
	return ""
}

// ruleOutcomes is what each rule of the catalog says about the pair.
func ruleOutcomes(s *Source, o *Offer) map[*Rule]Outcome {
	outcomes := make(map[*Rule]Outcome, len(s.rules))
	for i, r := range s.rules {
		t := o.taken(r)
		v := &s.values[i]
		if r.Kind == Ignore || r.Kind == Copy {
			if v.now.State() == inventory.NotObserved {
				outcomes[r] = Unknown
			} else if v.now.State() == inventory.Present {
				outcomes[r] = Compatible
			}
			continue
		}
		_, outcomes[r] = r.judge(v.now, t.value, t.high)
		if v.isPromised {
			_, promised := r.judge(v.promised, t.value, t.high)
			outcomes[r] = max(outcomes[r], promised)
		}
	}
	return outcomes
}

// untried lists what the trials did not show of each rule. A rule that is
// otherwise unknown, or sets something, refuses by making the answer unknown;
// one that ignores never refuses.
func (c *Catalog) untried(trials []Trial) []Untried {
	list := []Untried{}
	for i := range c.Rules {
		r := &c.Rules[i]
		accepted, refused := false, r.Kind == Ignore
		for k := range trials {
			outcome, about := trials[k].rules[r]
			refusal := outcome == Incompatible || outcome == Unknown && (r.Kind == Copy || r.Otherwise == Unknown)
			accepted = accepted || about && outcome == Compatible && trials[k].Verdict.Outcome == Compatible
			refused = refused || about && refusal && trials[k].Verdict.Outcome != Compatible
		}
		// What cannot migrate is never compatible: that the rule itself was
		// satisfied has to do.
		if !accepted && c.never() {
			accepted = slices.ContainsFunc(trials, func(t Trial) bool { outcome, about := t.rules[r]; return about && outcome == Compatible })
		}
		if !accepted {
			list = append(list, Untried{r.Attribute, r.Line, "an example that it accepts"})
		}
		if !refused {
			list = append(list, Untried{r.Attribute, r.Line, "an example that it refuses"})
		}
	}
	return list
}

// never reports whether nothing of the catalog can migrate.
func (c *Catalog) never() bool {
	return len(c.Migration) > 0 && !slices.ContainsFunc(c.Migration, func(m Migration) bool { return m.Can != inventory.No })
}

// host makes an inventory of a side: one parent that offers one type.
func (c *Catalog) host(name string, s *Side) *inventory.Inventory {
	hidden := func(what string) bool { return slices.Contains(s.Unobserved, what) }
	get := func(what string, v inventory.Value) inventory.Value {
		if hidden(what) {
			return inventory.Value{}
		}
		return v
	}
	hostValue := func(what string) inventory.Value {
		v, ok := s.Host[what]
		if !ok {
			v = inventory.None()
		}
		return get("host:"+what, v)
	}
	typ := s.typeName(c)
	kind := s.Kind
	if kind == "" {
		kind = inventory.MdevParent
	}
	t := inventory.Type{
		TypeName: typ, Label: inventory.None(), DeviceAPI: get("api", inventory.Of(orText(s.API, "vfio-pci"))), Description: inventory.None(),
		Creatable: inventory.Yes, ListedBy: inventory.ListedByKernel, Attributes: s.attributes("type", s.Attributes),
	}
	if s.Label != nil {
		t.Label = inventory.Of(*s.Label)
	}
	if s.Description != nil {
		t.Description = inventory.Of(*s.Description)
	}
	t.Label, t.Description = get("label", t.Label), get("description", t.Description)
	if s.Migration != "" && !hidden("migration") {
		t.Migration = &inventory.Migration{Can: s.Migration, Source: "an example"}
	}
	if kind == inventory.FunctionParent {
		for _, r := range vfRules() {
			if _, given := s.Attributes[r.Attribute]; !given && !hidden("type:"+r.Attribute) {
				t.Attributes.Set(r.Attribute, "0x0")
			}
		}
	}
	p := inventory.Parent{
		Name: "parent", Path: "sys/devices/parent", Kind: kind, Namespace: typ.Namespace, Types: []inventory.Type{t},
		Firmware: s.attributes("firmware", s.Firmware), Attributes: s.attributes("parent", s.Parent), Facts: make(inventory.Facts),
	}
	inv := &inventory.Inventory{
		Schema: inventory.Schema, Origin: inventory.FromSimulator,
		Host: inventory.Host{
			Name: name,
			Kernel: inventory.Kernel{
				Release: hostValue("kernel.release"), Arch: hostValue("kernel.arch"),
			},
			OS:   inventory.OS{ID: hostValue("os.id"), VersionID: hostValue("os.version_id")},
			QEMU: hostValue("qemu"), Libvirt: hostValue("libvirt"),
		},
	}
	for fact, v := range s.Facts {
		if !hidden("fact:" + fact) {
			p.Facts[fact] = inventory.Fact{Value: v, Source: "an example"}
		}
	}
	c.addBuild(inv, &p, s)
	inv.Parents = []inventory.Parent{p}
	return inv
}

func orText(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (s *Side) typeName(c *Catalog) inventory.TypeName {
	return inventory.TypeName{Namespace: orText(s.Namespace, c.Namespaces[0]), Name: orText(s.Type, "type")}
}

// addBuild gives the side every part of a build that the catalog lists: what
// the example does not state is alike on both sides.
func (c *Catalog) addBuild(inv *inventory.Inventory, p *inventory.Parent, s *Side) {
	const same = "alike"
	hidden := func(what string) bool { return slices.Contains(s.Unobserved, what) }
	modules := slices.Clone(c.Build.Modules)
	for name := range s.Modules {
		modules = append(modules, name)
	}
	for _, param := range slices.Concat(c.Build.Parameters, slices.Collect(maps.Keys(s.Parameters))) {
		module, _, _ := strings.Cut(param, "/")
		modules = append(modules, module)
	}
	if len(modules) == 0 {
		modules = []string{"module"}
	}
	slices.Sort(modules)
	for _, name := range slices.Compact(modules) {
		m := inventory.Module{Name: name, BuildID: inventory.Of(same), Parameters: inventory.Attributes{Complete: true}}
		if v, given := s.Modules[name]; given {
			if v.State() == inventory.Absent {
				continue // not loaded there
			}
			m.BuildID = v
		}
		if hidden("module:" + name) {
			m.BuildID = inventory.Value{}
		}
		for full, v := range s.Parameters {
			if module, param, _ := strings.Cut(full, "/"); module == name {
				m.Parameters.Set(param, v.Text())
			}
		}
		for _, u := range s.Unobserved {
			if full, ok := strings.CutPrefix(u, "param:"+name+"/"); ok {
				m.Parameters.Forget(full)
			}
		}
		inv.Modules = append(inv.Modules, m)
		p.Modules = append(p.Modules, name)
	}
	for _, name := range c.Build.Firmware {
		if p.Firmware.Get(name).State() == inventory.Absent && !hasKey(s.Firmware, name) {
			p.Firmware.Set(name, same)
		}
	}
	for _, name := range c.Build.Facts {
		if _, given := p.Facts[name]; !given && !hidden("fact:"+name) {
			p.Facts[name] = inventory.Fact{Value: inventory.Of(same), Source: "an example"}
		}
	}
}

func hasKey(s Settings, name string) bool { _, ok := s[name]; return ok }

// attributes are settings as a completely listed place.
func (s *Side) attributes(place string, given Settings) inventory.Attributes {
	a := inventory.Attributes{Values: make(map[string]inventory.Value, len(given)), Complete: true}
	maps.Copy(a.Values, given)
	for _, u := range s.Unobserved {
		if name, ok := strings.CutPrefix(u, place+":"); ok {
			a.Forget(name)
		}
	}
	return a
}

func addInstance(inv *inventory.Inventory, s *Side) {
	p := &inv.Parents[0]
	inv.Devices = []inventory.Device{{
		ID: "device", Kind: inventory.Mdev, Parent: p.Name, Type: p.Types[0].TypeName, InUse: inventory.Yes,
		Attributes: s.attributes("device", s.Instance),
	}}
}

// promise is the contract of a device that was the side when its guest started.
func (c *Catalog) promise(s *Side) *inventory.Contract {
	then := c.host("promise", s)
	t := &then.Parents[0].Types[0]
	return &inventory.Contract{
		Type: t.TypeName, Label: t.Label, DeviceAPI: t.DeviceAPI,
		TypeAttributes: t.Attributes, DeviceAttributes: s.attributes("device", s.Instance), Recorded: time.Unix(0, 0).UTC(),
	}
}

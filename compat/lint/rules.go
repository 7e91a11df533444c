// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"kindred/compat"
	"kindred/inventory"
)

func (l *linter) never(c *compat.Catalog, line int, about, reason, better string) {
	l.add(c, Finding{Code: RuleNever, Place: at(c, line), About: about, Reason: reason, Better: better})
}

// wordsOfHosts are host attributes that are no numbers and no versions.
var wordsOfHosts = []string{"kernel.arch", "os", "os.id"}

// rule looks for what one rule can never do, whatever is observed.
func (l *linter) rule(c *compat.Catalog, r *compat.Rule) {
	numeric := r.Kind == compat.AtLeast || r.Kind == compat.AtMost || r.Kind == compat.Range
	if text := r.Absent.Default; text != "" && r.Kind != compat.Copy {
		v := inventory.Of(text)
		plain := *r
		plain.Refused = nil
		if code, _ := plain.Judge(v, v, v); code == compat.AttributeMalformed {
			l.never(c, r.Line, r.Attribute, fmt.Sprintf("absence stands for %q, which %s cannot read", text, r.Kind), "a default that the rule can read")
		}
	}
	if slices.ContainsFunc(r.Refused, func(p compat.Pair) bool { return p.Source == "*" && p.Target == "*" }) {
		l.never(c, r.Line, r.Attribute, "a refused pair of * and * refuses everything", "the pairs that a source names; migration: no, if nothing can move")
	}
	if r.Of == compat.OfHost && (numeric || r.Kind == compat.SemVer) {
		isVersion := r.Kind == compat.SemVer && !slices.Contains(wordsOfHosts, r.Attribute)
		isNumber := numeric && (r.Attribute == "os.version_id" || r.Attribute == "qemu" || r.Attribute == "libvirt")
		if !isVersion && !isNumber {
			l.never(c, r.Line, r.Attribute, fmt.Sprintf("%s is never what %s reads", r.Attribute, r.Kind), "equal for words, semver for versions")
		}
	}
	if r.Kind == compat.Range && r.Min == r.Max {
		l.never(c, r.Line, r.Attribute, "min and max are one attribute: the range is a single value", "the rule equal, with against: "+r.Min)
	}
}

func anything(glob string) bool { return strings.Trim(glob, "*") == "" }

// selectors looks for builds, versions and migration entries that take all or
// nothing.
func (l *linter) selectors(c *compat.Catalog) {
	// Every build has the parts that are listed; a module that is not listed,
	// where all that are found count, tells builds apart by its name.
	listed := func(part string) bool {
		kind, name, _ := strings.Cut(part, ":")
		return slices.Contains(map[string][]string{"module": c.Build.Modules, "param": c.Build.Parameters, "firmware": c.Build.Firmware, "fact": c.Build.Facts}[kind], name)
	}
	every := func(list []compat.Selector) bool {
		return slices.ContainsFunc(list, func(s compat.Selector) bool {
			for part, glob := range s {
				if !anything(glob) || !listed(part) {
					return false
				}
			}
			return true
		})
	}
	for _, e := range c.Epochs {
		if every(e.Builds) {
			l.add(c, Finding{Code: RuleAlways, Place: at(c, e.Line), About: e.Name, Reason: "the epoch takes every build, also those that nobody has seen yet", Better: "the build-ids that a source or a proof names"})
		}
	}
	for _, k := range c.KnownBad {
		if every(k.Builds) {
			l.never(c, k.Line, "known-bad", "it refuses every build", "the builds that are bad; migration: no, if nothing can move")
		}
	}
	for _, v := range c.Build.Versions {
		if strings.HasPrefix(v.Part, "module:") {
			l.never(c, v.Line, v.Part, "a module's build-id is a digest: "+string(v.Rule)+" can never read it", "a stream epoch that lists the builds, or a version that the driver publishes")
		}
	}
	for i, m := range c.Migration {
		for _, before := range c.Migration[:i] {
			if before.Kernel == "" && covers(before.Namespace, m.Namespace) && covers(before.Types, m.Types) {
				l.never(c, 1, "migration", fmt.Sprintf("entry %d never applies: an earlier one says %q of all that it is about", i+1, before.Can), "the narrow entries first")
				break
			}
		}
	}
}

// covers reports whether all that a narrower glob matches, a wider one does.
func covers(wide, narrow string) bool {
	if anything(wide) || wide == narrow {
		return true
	}
	ok, err := path.Match(wide, narrow)
	return err == nil && ok && !strings.ContainsAny(narrow, "*?[")
}

// observedRules looks at what the inventories have for each rule of the
// catalogs that judge them.
func (l *linter) observedRules() {
	seen := make(map[*compat.Rule]*observed)
	var order []*compat.Rule
	owner := make(map[*compat.Rule]*compat.Catalog)
	for _, inv := range l.Inventories {
		for i := range inv.Parents {
			p := &inv.Parents[i]
			for j := range p.Types {
				t := &p.Types[j]
				c := l.known(t.Namespace)
				if c == nil {
					continue
				}
				for k := range c.Rules {
					r := &c.Rules[k]
					if ok, err := path.Match(r.Types, t.Name); r.Types != "" && (err != nil || !ok) || r.Kind == compat.Ignore || r.Kind == compat.Copy {
						continue
					}
					o := seen[r]
					if o == nil {
						o = new(observed)
						seen[r], owner[r] = o, c
						order = append(order, r)
					}
					o.add(r, p, t)
				}
			}
		}
	}
	for _, r := range order {
		l.observedRule(owner[r], r, seen[r])
	}
}

// observed counts what the types that a rule covers have.
type observed struct{ types, absent, unread, passes int }

func (o *observed) add(r *compat.Rule, p *inventory.Parent, t *inventory.Type) {
	var place *inventory.Attributes
	switch r.Of {
	case compat.OfType:
		place = &t.Attributes
	case compat.OfParent:
		place = &p.Attributes
	default:
		return
	}
	o.types++
	against := r.Attribute
	if r.Against != "" {
		against = r.Against
	}
	source, target, high := place.Get(r.Attribute), place.Get(against), inventory.Value{}
	if r.Kind == compat.Range {
		target, high = place.Get(r.Min), place.Get(r.Max)
	}
	switch code, outcome := r.Judge(source, target, high); {
	case source.State() == inventory.Absent:
		o.absent++
	case code == compat.AttributeUnobserved:
		o.unread++
	case outcome == compat.Compatible:
		o.passes++
	}
}

func (l *linter) observedRule(c *compat.Catalog, r *compat.Rule, o *observed) {
	switch {
	case o.types == 0 || o.unread > 0:
	case o.absent == o.types && (r.Absent.Off || r.Absent.Default != ""):
		l.add(c, Finding{Code: RuleAlways, Place: at(c, r.Line), About: r.Attribute,
			Reason: fmt.Sprintf("none of the %d types that it covers has %s: the rule passes whatever they are", o.types, r.Attribute), Better: "the attribute's right name, or no rule"})
	case o.absent == o.types:
		l.never(c, r.Line, r.Attribute, fmt.Sprintf("none of the %d types that it covers has %s, and absence is unknown", o.types, r.Attribute), "the attribute's right name, or what its absence means")
	case o.passes == 0 && o.absent == 0:
		l.never(c, r.Line, r.Attribute, fmt.Sprintf("none of the %d types that it covers would pass it with itself", o.types), "the rule and form that read the values there are")
	}
}

// known is the catalog that judges a namespace: one of those looked at, else
// one that applies besides.
func (l *linter) known(namespace string) *compat.Catalog {
	for _, c := range l.Catalogs {
		if slices.Contains(c.Namespaces, namespace) {
			return c
		}
	}
	if l.Known == nil {
		return nil
	}
	return l.Known.For(namespace)
}

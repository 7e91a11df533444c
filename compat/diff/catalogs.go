// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"kindred/compat"
	"kindred/inventory"
)

// Catalogs compares a catalog with the one that takes its place.
func Catalogs(before, after *compat.Catalog) []Change {
	var l list
	for _, ns := range before.Namespaces {
		if !slices.Contains(after.Namespaces, ns) {
			l.add(NamespaceRemoved, "", ns, "a catalog for each namespace that still has devices", "answers about %s become unknown, or a built-in catalog's", ns)
		}
	}
	l.rules(before, after)
	l.migration(before, after)
	l.equivalences(before, after)
	l.builds(before, after)
	return l.sorted()
}

func ruleKey(r *compat.Rule) string { return string(r.Of) + " " + r.Attribute + " " + r.Types }

func (l *list) rules(before, after *compat.Catalog) {
	for i := range before.Rules {
		old := &before.Rules[i]
		k := slices.IndexFunc(after.Rules, func(r compat.Rule) bool { return ruleKey(&r) == ruleKey(old) })
		if k < 0 {
			l.add(RuleRemoved, "", old.Attribute, "a rule for every attribute that types or devices have", "%s was judged by %s; where it differs the answer is unknown now", old.Attribute, old.Kind)
			continue
		}
		l.rule(old, &after.Rules[k])
	}
	for i := range after.Rules {
		r := &after.Rules[i]
		if !slices.ContainsFunc(before.Rules, func(b compat.Rule) bool { return ruleKey(&b) == ruleKey(r) }) {
			l.add(RuleAdded, fmt.Sprint("line ", r.Line), r.Attribute, "", "%s is judged by %s", r.Attribute, r.Kind)
		}
	}
}

// samples are values of every form, to see what two rules make of them.
var samples = sync.OnceValue(func() []inventory.Value {
	return []inventory.Value{
		inventory.Value{}, inventory.None(), inventory.Of("0"), inventory.Of("1"), inventory.Of("2"), inventory.Of("10"), inventory.Of("0x1"), inventory.Of("0x3"),
		inventory.Of("1.0"), inventory.Of("1.0.1"), inventory.Of("1.1"), inventory.Of("2.0"), inventory.Of("a"), inventory.Of("b"), inventory.Of("a,b"), inventory.Of("b,a"),
	}
})

// rule compares two rules by what they answer, not by how they are written.
func (l *list) rule(old, now *compat.Rule) {
	where := fmt.Sprint("line ", now.Line)
	if old.Against != now.Against || old.Min != now.Min || old.Max != now.Max {
		l.add(RuleStricter, where, now.Attribute, "the old comparison, for devices that were accepted by it", "it is compared with other attributes of the target")
		return
	}
	values := slices.Clone(samples())
	for _, r := range [2]*compat.Rule{old, now} {
		for _, p := range r.Refused { // what the globs are about
			values = append(values, inventory.Of(strings.Trim(p.Source, "*")), inventory.Of(strings.Trim(p.Target, "*")))
		}
		if r.Absent.Default != "" {
			values = append(values, inventory.Of(r.Absent.Default))
		}
	}
	var stricter, looser string
	for _, s := range values {
		for _, t := range values {
			_, then := old.Judge(s, t, t)
			_, today := now.Judge(s, t, t)
			pair := fmt.Sprintf("from %s to %s was %s and is %s", s, t, then, today)
			switch {
			case today > then && stricter == "":
				stricter = pair
			case today < then && looser == "":
				looser = pair
			}
		}
	}
	if old.Kind == compat.Copy && now.Kind != compat.Copy && stricter == "" {
		stricter = "it is not set on the target any more"
	}
	if stricter != "" {
		l.add(RuleStricter, where, now.Attribute, "a new type for what is stricter, so that running devices keep theirs", "%s instead of %s: %s", now.Kind, old.Kind, stricter)
	}
	if looser != "" {
		l.add(RuleLooser, where, now.Attribute, "nothing, if the old rule was wrong; a new attribute, if the device changed", "%s instead of %s: %s", now.Kind, old.Kind, looser)
	}
}

// migration compares what is said of migration, entry by entry.
func (l *list) migration(before, after *compat.Catalog) {
	can := func(c *compat.Catalog, m *compat.Migration) inventory.Answer {
		for i := range c.Migration {
			o := &c.Migration[i]
			if o.Namespace == m.Namespace && o.Types == m.Types && o.Kernel == m.Kernel {
				return o.Can
			}
		}
		return inventory.Unknown
	}
	about := func(m *compat.Migration) string {
		text := "all types"
		if m.Types != "" {
			text = m.Types
		}
		if m.Namespace != "" {
			text = m.Namespace + " " + text
		}
		if m.Kernel != "" {
			text += " before Linux " + m.Kernel
		}
		return text
	}
	for i := range before.Migration {
		m := &before.Migration[i]
		if now := can(after, m); m.Can == inventory.Yes && now != inventory.Yes {
			l.add(MigrationWithdrawn, "", about(m), "yes for the types and kernels that can, before the entry for those that cannot", "whether it can migrate was yes and is %s", now)
		}
	}
	for i := range after.Migration {
		m := &after.Migration[i]
		if m.Can == inventory.No && can(before, m) == inventory.Unknown && slices.ContainsFunc(before.Migration, func(b compat.Migration) bool { return b.Can == inventory.Yes && b.Types == "" }) {
			l.add(MigrationWithdrawn, "", about(m), "no for those only that never could", "whether it can migrate is no now, and was yes for all types")
		}
	}
}

func (l *list) equivalences(before, after *compat.Catalog) {
	together := func(c *compat.Catalog, a, b compat.FullName) *compat.Equivalence {
		for i := range c.Equivalent {
			if types := c.Equivalent[i].Types; slices.Contains(types, a) && slices.Contains(types, b) {
				return &c.Equivalent[i]
			}
		}
		return nil
	}
	pairs := func(c *compat.Catalog, do func(e *compat.Equivalence, a, b compat.FullName)) {
		for i := range c.Equivalent {
			e := &c.Equivalent[i]
			for k, a := range e.Types {
				for _, b := range e.Types[k+1:] {
					do(e, a, b)
				}
			}
		}
	}
	full := func(n compat.FullName) string { return inventory.TypeName(n).Full() }
	pairs(before, func(_ *compat.Equivalence, a, b compat.FullName) {
		if together(after, a, b) == nil {
			l.add(EquivalenceRemoved, "", full(a), "the declaration, while devices of either type run", "%s and %s were one interface and are two", full(a), full(b))
		}
	})
	pairs(after, func(e *compat.Equivalence, a, b compat.FullName) {
		if together(before, a, b) == nil {
			l.add(TypeBecameCompatible, fmt.Sprint("line ", e.Line), full(b), "let the newer driver offer the older type too: no declaration, no proof, and it works both ways", "%s and %s were two interfaces and are declared one", full(a), full(b))
		}
	})
}

func (l *list) builds(before, after *compat.Catalog) {
	parts := func(b *compat.BuildParts) string {
		list := slices.Concat(b.Modules, b.Parameters, b.Firmware, b.Facts)
		slices.Sort(list)
		return strings.Join(list, ", ")
	}
	if a, b := parts(&before.Build), parts(&after.Build); a != b {
		l.add(BuildRedefined, "", "build", "the old parts, unless they left something out", "its parts were %s and are %s", orNone(a), orNone(b))
	}
	for _, e := range before.Epochs {
		for _, s := range e.Builds {
			kept := slices.ContainsFunc(after.Epochs, func(n compat.Epoch) bool {
				return n.Name == e.Name && slices.ContainsFunc(n.Builds, func(x compat.Selector) bool { return fmt.Sprint(x) == fmt.Sprint(s) })
			})
			if !kept {
				l.add(EpochRemoved, "", e.Name, "the builds that shared the stream stay listed", "%s is not in it any more", fmt.Sprint(map[string]string(s)))
			}
		}
	}
	for _, k := range after.KnownBad {
		if !slices.ContainsFunc(before.KnownBad, func(o compat.KnownBad) bool { return fmt.Sprint(o.Builds, o.Role) == fmt.Sprint(k.Builds, k.Role) }) {
			l.add(BuildBanned, fmt.Sprint("line ", k.Line), "known-bad", "a fixed build, before the bad one is refused", "%s", k.Reason)
		}
	}
	grade := func(p *compat.ProofPolicy) compat.Grade {
		if p.Lowest == 0 {
			return compat.WorkingState
		}
		return p.Lowest
	}
	if a, b := grade(&before.Proof), grade(&after.Proof); b > a {
		l.add(ProofRaised, "", "proof", "proofs of the higher grade, made before it is asked for", "proofs of %s counted, %s is needed", a, b)
	}
}

func orNone(text string) string {
	if text == "" {
		return "whatever is found"
	}
	return text
}

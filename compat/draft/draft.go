// SPDX-License-Identifier: Apache-2.0

// Package draft writes a first catalog of a driver from what one host shows of
// it: strict rules, and comments that say what a person who knows the driver
// has to decide. What it writes parses, passes lint and answers its own
// examples, so that every later edit can be tested.
package draft

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"kindred/compat"
	"kindred/inventory"
)

// Namespaces are the namespaces of an inventory's parents, sorted.
func Namespaces(inv *inventory.Inventory) []string {
	var list []string
	for i := range inv.Parents {
		if ns := inv.Parents[i].Namespace; ns != "" {
			list = append(list, ns)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Catalog drafts the catalog of a namespace of the inventory.
func Catalog(inv *inventory.Inventory, namespace string) (string, error) {
	if !slices.Contains(Namespaces(inv), namespace) {
		return "", fmt.Errorf("no parent of %s has the namespace %q: it has %s", inv.Host.Name, namespace, strings.Join(Namespaces(inv), ", "))
	}
	d := collect(inv, namespace)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# A first catalog for %s, drafted from what %s shows. It is strict: what differs", plain(namespace), plain(inv.Host.Name))
	line("# is refused. Whoever knows the driver decides the rest and names sources:")
	line("# a file of the kernel, a document, a test. docs/catalogs.md has the format.")
	line("#")
	line("#   kindred catalog test FILE    runs the examples at the end")
	line("#   kindred catalog lint FILE    looks for what makes types hard to migrate")
	line("schema: %s", compat.CatalogSchema)
	line("title: %s", quote(namespace))
	line("namespaces: [%s]", quote(namespace))
	d.identity(line)
	d.migration(line)
	d.build(line)
	line("")
	line("# Is it safe to create throw-away devices and try transfers with them? Which")
	line("# attributes of a type change what the stream looks like?")
	line("proof:")
	line("  lowest: working-state")
	line("  canaries: unknown")
	line("  takes-truncated: unknown")
	line("  source: not stated yet")
	line("")
	line("# How types share a parent: shared (one number for all), separate, one (a")
	line("# parent is one device), pools (types take different amounts), unknown.")
	line("capacity:")
	line("  model: unknown")
	line("  source: not stated yet")
	d.rules(line)
	d.waivers(line)
	d.examples(line)
	return b.String(), nil
}

// quote is text as a double quoted scalar of YAML.
func quote(text string) string { return strconv.QuoteToASCII(text) }

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// drafted is what an inventory shows of one namespace.
type drafted struct {
	inv        *inventory.Inventory
	namespace  string
	function   bool
	byLabel    bool
	first      *inventory.Type
	modules    []string
	parameters []string
	firmware   []string
	attributes map[string]string // of types
	instance   map[string]string // of devices
	own        map[string]bool   // attributes that show the device's own id
	can        inventory.Answer
}

func collect(inv *inventory.Inventory, namespace string) *drafted {
	d := &drafted{inv: inv, namespace: namespace, attributes: make(map[string]string), instance: make(map[string]string), own: make(map[string]bool), can: inventory.Unknown}
	d.byLabel = true
	for i := range inv.Parents {
		p := &inv.Parents[i]
		if p.Namespace != namespace {
			continue
		}
		d.function = d.function || p.Kind == inventory.FunctionParent
		d.modules = append(d.modules, p.Modules...)
		d.firmware = append(d.firmware, slices.Collect(maps.Keys(p.Firmware.Values))...)
		for k := range p.Types {
			d.typ(&p.Types[k])
		}
	}
	d.byLabel = d.byLabel && d.first != nil
	for i := range inv.Devices {
		if dev := &inv.Devices[i]; dev.Type.Namespace == namespace {
			d.modules = append(d.modules, dev.Modules...)
			for name, v := range dev.Attributes.Values {
				if text, ok := v.Get(); ok && nameable(name) {
					d.instance[name] = text
					d.own[name] = d.own[name] || strings.Contains(strings.ToLower(text), strings.ToLower(dev.ID))
				}
			}
			d.shown(dev.Migration)
		}
	}
	slices.Sort(d.modules)
	d.modules = slices.Compact(d.modules)
	slices.Sort(d.firmware)
	d.firmware = slices.Compact(d.firmware)
	for _, name := range d.modules {
		if m := inv.Module(name); m != nil && len(m.Parameters.Values) > 0 {
			d.parameters = append(d.parameters, name+"/*")
		}
	}
	return d
}

func (d *drafted) typ(t *inventory.Type) {
	if d.first == nil {
		d.first = t
	}
	label, ok := t.Label.Get()
	d.byLabel = d.byLabel && ok && label != "" && strings.Trim(t.Name, "0123456789") == "" && label != t.Full() && label != t.Name && len(t.Name) > 1
	for name, v := range t.Attributes.Values {
		if text, ok := v.Get(); ok && nameable(name) && d.attributes[name] == "" && !(d.function && slices.Contains(functionSees, name)) {
			d.attributes[name] = text
		}
	}
	d.shown(t.Migration)
}

func (d *drafted) shown(m *inventory.Migration) {
	if m != nil && m.Can != inventory.Unknown && d.can == inventory.Unknown {
		d.can = m.Can
	}
}

// nameable is false for names that a catalog would take for a glob.
func nameable(name string) bool { return name != "" && !strings.ContainsAny(name, "*?[") }

// functionSees must be equal without any catalog's rule.
var functionSees = []string{"bars", "class", "revision", "subsystem_device", "subsystem_vendor"}

type printer func(format string, args ...any)

func (d *drafted) identity(line printer) {
	if d.byLabel {
		line("")
		line("# The names are numbers, which may mean another type on another card; the")
		line("# label says what a type is. Leave this out if the numbers are as good.")
		line("identity: label")
	}
}

func (d *drafted) migration(line printer) {
	line("")
	line("# Can it migrate at all? yes, no or unknown, for all types, some (types: a glob)")
	line("# or older kernels (kernel-before: \"6.7\"); the first entry that applies counts.")
	line("migration:")
	line("  - can: %q", d.can)
	if d.can == inventory.Unknown {
		line("    source: %s", quote("nothing showed it on "+d.inv.Host.Name))
	} else {
		line("    source: observed on one host")
	}
}

func (d *drafted) build(line printer) {
	line("")
	line("# What decides the stream: all modules that write it, their parameters that")
	line("# change it, firmware, and facts such as a manager in user space. Two hosts with")
	line("# the same build read each other's streams; others are unknown until proved.")
	line("build:")
	if len(d.modules) > 0 {
		line("  modules: [%s]", quoted(d.modules))
	}
	if len(d.parameters) > 0 {
		line("  parameters: [%s]", quoted(d.parameters))
	}
	if len(d.firmware) > 0 {
		line("  firmware: [%s]", quoted(d.firmware))
	}
	line("  source: %s", quote("everything that "+d.namespace+" was seen to use"))
}

func quoted(list []string) string {
	texts := make([]string, len(list))
	for i, text := range list {
		texts[i] = quote(text)
	}
	return strings.Join(texts, ", ")
}

func (d *drafted) rules(line printer) {
	line("")
	line("# How attributes are compared: equal, superset (lists, or as: bits), at-least,")
	line("# at-most, semver, range, one-of; copy sets a device's attribute on the target,")
	line("# ignore is for what says nothing. absent says what it means to be without one.")
	if len(d.attributes)+len(d.instance) == 0 {
		line("rules: []")
		return
	}
	line("rules:")
	for _, name := range slices.Sorted(maps.Keys(d.attributes)) {
		line("  - attribute: %s", quote(name))
		line("    rule: %s", kindOf(name, d.attributes[name]))
		line("    source: not stated yet; it was %s", plain(d.attributes[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(d.instance)) {
		line("  - attribute: %s", quote(name))
		line("    of: device")
		if d.own[name] {
			line("    rule: ignore")
			line("    source: it shows the device's own id")
		} else {
			line("    rule: copy    # ignore, if it is about this host alone")
			line("    source: not stated yet")
		}
	}
}

// kindOf is semver for what is called a version and is one; all else is equal.
func kindOf(name, text string) compat.RuleKind {
	semver := compat.Rule{Kind: compat.SemVer}
	v := inventory.Of(text)
	if _, outcome := semver.Judge(v, v, inventory.Value{}); outcome == compat.Compatible && strings.Contains(strings.ToLower(name), "version") {
		return compat.SemVer
	}
	return compat.Equal
}

// plain is text that needs no quotes in YAML, shortened.
func plain(text string) string {
	var b strings.Builder
	for _, r := range oneLine(text) {
		switch {
		case b.Len() >= 40:
			b.WriteString("...")
			return b.String()
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '.', r == '-', r == '_', r == ' ', r == '/':
			b.WriteRune(r)
		default:
			b.WriteByte('_')
		}
	}
	return strings.TrimSpace(b.String())
}

// waivers keep what the driver's author chose and lint would ask about.
func (d *drafted) waivers(line printer) {
	var codes []string
	for name, text := range d.attributes {
		if strings.Contains(strings.ToLower(name), "version") && kindOf(name, text) != compat.SemVer {
			codes = append(codes, "version.unparsable")
		}
	}
	slices.Sort(codes)
	codes = slices.Compact(codes)
	line("")
	line("# What lint finds and the driver cannot change any more.")
	if d.function {
		codes = append(codes, "name.meaningless")
	}
	codes = append(codes, "name.prefix")
	line("waivers:")
	for _, code := range codes {
		line("  - {code: %s, reason: the driver has it so, source: drafted from an inventory}", code)
	}
}

func (d *drafted) examples(line printer) {
	name, label := "type", ""
	if d.first != nil {
		name, label = d.first.Name, d.first.Label.Text()
	}
	line("")
	line("# Each rule needs an example that it accepts and one that it refuses. The target")
	line("# is as the device, but for what it says.")
	line("examples:")
	line("  base:")
	line("    type: %s", quote(name))
	if d.function {
		line("    kind: function")
	}
	if label != "" {
		line("    label: %s", quote(label))
	}
	if d.can == inventory.Unknown {
		line("    migration: \"yes\"    # as if a host had shown it")
	}
	settings := func(key string, m map[string]string) {
		if len(m) > 0 {
			line("    %s:", key)
			for _, n := range slices.Sorted(maps.Keys(m)) {
				line("      %s: %s", quote(n), quote(m[n]))
			}
		}
	}
	settings("attributes", d.attributes)
	settings("instance", d.instance)
	outcome := func(o compat.Outcome) compat.Outcome {
		if d.can == inventory.No {
			return compat.Incompatible
		}
		return o
	}
	line("  cases:")
	line("    - name: the same on another host")
	line("      outcome: %s", outcome(compat.Compatible))
	for _, n := range slices.Sorted(maps.Keys(d.attributes)) {
		other := d.attributes[n] + "-other"
		if kindOf(n, d.attributes[n]) == compat.SemVer {
			other = "999.0"
		}
		line("    - name: %s", quote("another "+n))
		line("      target: {attributes: {%s: %s}}", quote(n), quote(other))
		line("      outcome: incompatible")
	}
	for _, n := range slices.Sorted(maps.Keys(d.instance)) {
		if !d.own[n] {
			line("    - name: %s", quote(n+" could not be read"))
			line("      device: {unobserved: [%s]}", quote("device:"+n))
			line("      outcome: %s", outcome(compat.Unknown))
		}
	}
	if len(d.modules) > 0 {
		line("    - name: another build")
		line("      target: {modules: {%s: other}}", quote(d.modules[0]))
		line("      outcome: %s", outcome(compat.Unknown))
		line("      codes: [build.unproven]")
	}
}

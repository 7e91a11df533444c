// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"strconv"
	"strings"

	"kindred/inventory"
)

// RuleKind is how one attribute of the source is compared with the target's.
type RuleKind string

const (
	Equal    RuleKind = "equal"    // the same value
	Superset RuleKind = "superset" // the target has every item of the source's list (or every bit)
	AtLeast  RuleKind = "at-least" // the target's number is not lower
	AtMost   RuleKind = "at-most"  // the target's number is not higher
	SemVer   RuleKind = "semver"   // same major, target's minor not older; the rest is not compared
	Range    RuleKind = "range"    // the source's number lies between the target's min and max attributes
	OneOf    RuleKind = "one-of"   // the source's value is one of the target's list
	Copy     RuleKind = "copy"     // set on the target while claiming
	Ignore   RuleKind = "ignore"   // says nothing about compatibility
)

// Form is how a value's text is read.
type Form string

const (
	Text    Form = "text"   // as it is
	Number  Form = "number" // decimal, 0x hexadecimal, or with a fraction
	List    Form = "list"   // items separated by commas or white space
	BitMask Form = "bits"   // a number whose bits are the items
)

// Absence is what it means that a side is known not to have the attribute.
type Absence struct {
	Off     bool   // the feature is off, as before the attribute existed
	Alike   bool   // both without it are alike, one alone is unknown
	Default string // this value, unless empty
	// neither: nothing is known
}

// Rule compares one attribute.
type Rule struct {
	Attribute string
	Of        Place
	Types     string // glob over type names; empty: all of the namespace
	Kind      RuleKind
	Against   string // the target's attribute; empty: the same
	Min, Max  string // for range: the target's attributes
	Form      Form
	Absent    Absence
	Refused   []Pair  // values that are refused whatever the rule says
	Otherwise Outcome // what a refusal of the rule itself is: incompatible (also when zero) or unknown
	Source    string  // why the rule is so
	Line      int     // where it stands in its file
}

// Pair is a source's and a target's value, as globs.
type Pair struct {
	Source string `yaml:"source"`
	Target string `yaml:"target"`
}

// Judge compares the source's value with the target's. For range, high is the
// upper end and target the lower one.
func (r *Rule) Judge(source, target, high inventory.Value) (Code, Outcome) {
	return r.judge(source, target, high)
}

// judge compares the source's value with the target's. For range, max is the
// upper end and target the lower one.
func (r *Rule) judge(source, target, max inventory.Value) (Code, Outcome) {
	if len(r.Refused) > 0 && source.State() == inventory.Present && target.State() == inventory.Present {
		for _, p := range r.Refused {
			if matchGlob(p.Source, source.Text()) && matchGlob(p.Target, target.Text()) {
				return AttributeDiffers, Incompatible
			}
		}
	}
	code, outcome := r.judgeKind(source, target, max)
	if outcome == Incompatible && r.Otherwise == Unknown {
		outcome = Unknown
	}
	return code, outcome
}

func (r *Rule) judgeKind(source, target, max inventory.Value) (Code, Outcome) {
	switch r.Kind {
	case Ignore:
		return AttributeAccepted, Compatible
	case Copy:
		switch source.State() {
		case inventory.Present:
			return AttributeCopied, Compatible
		case inventory.Absent:
			return AttributeAccepted, Compatible // nothing to carry over
		}
		return AttributeUnobserved, Unknown
	}
	if source.State() == inventory.NotObserved || target.State() == inventory.NotObserved ||
		r.Kind == Range && max.State() == inventory.NotObserved {
		return AttributeUnobserved, Unknown
	}
	if r.Absent.Default != "" {
		source, target, max = orDefault(source, r.Absent.Default), orDefault(target, r.Absent.Default), orDefault(max, r.Absent.Default)
	}
	sourceOff, targetOff := source.State() == inventory.Absent, target.State() == inventory.Absent
	if r.Kind == Range {
		targetOff = targetOff || max.State() == inventory.Absent
	}
	if sourceOff || targetOff {
		if r.Absent.Alike && sourceOff && targetOff {
			return AttributeAccepted, Compatible
		}
		if !r.Absent.Off {
			return AttributeAbsent, Unknown
		}
		return r.judgeOff(sourceOff, targetOff)
	}
	return r.judgeTexts(source.Text(), target.Text(), max.Text())
}

func orDefault(v inventory.Value, text string) inventory.Value {
	if v.State() == inventory.Absent {
		return inventory.Of(text)
	}
	return v
}

// judgeOff compares when at least one side is without the attribute, which
// means that its feature is off there. Off is the empty set and the lowest
// number; a source without it asks nothing of what a target lists or takes.
func (r *Rule) judgeOff(sourceOff, targetOff bool) (Code, Outcome) {
	if sourceOff && targetOff {
		return AttributeAccepted, Compatible
	}
	switch r.Kind {
	case Superset:
		if sourceOff {
			return AttributeAccepted, Compatible
		}
		return AttributeLacks, Incompatible
	case AtLeast:
		if sourceOff {
			return AttributeAccepted, Compatible
		}
		return AttributeTooLow, Incompatible
	case AtMost:
		if targetOff {
			return AttributeAccepted, Compatible
		}
		return AttributeTooHigh, Incompatible
	case Range:
		if sourceOff {
			return AttributeAccepted, Compatible
		}
		return AttributeOutOfRange, Incompatible
	case OneOf:
		if sourceOff {
			return AttributeAccepted, Compatible
		}
		return AttributeNotListed, Incompatible
	}
	return AttributeDiffers, Incompatible // equal, semver
}

func (r *Rule) judgeTexts(source, target, max string) (Code, Outcome) {
	verdict := func(ok bool, code Code) (Code, Outcome) {
		if ok {
			return AttributeAccepted, Compatible
		}
		return code, Incompatible
	}
	malformed := func() (Code, Outcome) { return AttributeMalformed, Unknown }
	switch r.Kind {
	case Equal:
		if r.Form == Number {
			s, ok := parseNumber(source)
			t, ok2 := parseNumber(target)
			if !ok || !ok2 {
				return malformed()
			}
			return verdict(s == t, AttributeDiffers)
		}
		if r.Form == List {
			return verdict(within(source, target) && within(target, source), AttributeDiffers)
		}
		return verdict(source == target, AttributeDiffers)
	case Superset:
		if r.Form == BitMask {
			s, ok := parseBits(source)
			t, ok2 := parseBits(target)
			if !ok || !ok2 {
				return malformed()
			}
			return verdict(s&^t == 0, AttributeLacks)
		}
		return verdict(within(source, target), AttributeLacks)
	case AtLeast, AtMost:
		s, ok := parseNumber(source)
		t, ok2 := parseNumber(target)
		if !ok || !ok2 {
			return malformed()
		}
		if r.Kind == AtLeast {
			return verdict(t >= s, AttributeTooLow)
		}
		return verdict(t <= s, AttributeTooHigh)
	case SemVer:
		sMajor, sMinor, ok := parseVersion(source)
		tMajor, tMinor, ok2 := parseVersion(target)
		switch {
		case !ok || !ok2:
			return malformed()
		case sMajor != tMajor:
			return VersionMajor, Incompatible
		}
		return verdict(tMinor >= sMinor, VersionOlder)
	case Range:
		s, ok := parseNumber(source)
		low, ok2 := parseNumber(target)
		high, ok3 := parseNumber(max)
		if !ok || !ok2 || !ok3 || low > high {
			return malformed()
		}
		return verdict(low <= s && s <= high, AttributeOutOfRange)
	case OneOf:
		return verdict(contains(target, source), AttributeNotListed)
	}
	return malformed()
}

// parseNumber reads decimal, 0x hexadecimal, and decimal with a fraction.
func parseNumber(text string) (float64, bool) {
	if hex, ok := strings.CutPrefix(text, "0x"); ok {
		for i := range len(hex) {
			if c := hex[i] | 0x20; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return 0, false
			}
		}
		if hex == "" || len(hex) > 13 { // beyond what a float64 holds exactly
			return 0, false
		}
		n, err := strconv.ParseUint(hex, 16, 64)
		return float64(n), err == nil
	}
	digits, dots := 0, 0
	for i := range len(text) {
		switch c := text[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c == '.':
			dots++
		case c != '-' || i != 0:
			return 0, false // no exponents, no NaN, no octal
		}
	}
	if digits == 0 || digits > 15 || dots > 1 {
		return 0, false
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil
}

// parseBits reads a mask of up to 64 bits, decimal or 0x hexadecimal.
func parseBits(text string) (uint64, bool) {
	base, digits := 10, text
	if hex, ok := strings.CutPrefix(text, "0x"); ok {
		base, digits = 16, hex
	}
	for i := range len(digits) {
		if c := digits[i] | 0x20; (c < '0' || c > '9') && (base == 10 || c < 'a' || c > 'f') {
			return 0, false
		}
	}
	if digits == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, base, 64)
	return n, err == nil
}

// parseVersion reads major.minor of major.minor[.bugfix…].
func parseVersion(text string) (major, minor uint64, ok bool) {
	first, rest, dotted := strings.Cut(text, ".")
	if !dotted {
		return 0, 0, false
	}
	second, rest, more := strings.Cut(rest, ".")
	if !isDigits(first) || !isDigits(second) || more && rest == "" {
		return 0, 0, false
	}
	major, err := strconv.ParseUint(first, 10, 32)
	minor, err2 := strconv.ParseUint(second, 10, 32)
	return major, minor, err == nil && err2 == nil
}

func isDigits(text string) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return text != ""
}

// items yields the members of a list without allocating.
func items(list string, yield func(item string) bool) bool {
	for list != "" {
		end := 0
		for end < len(list) && list[end] != ',' && list[end] != ' ' && list[end] != '\t' && list[end] != '\n' {
			end++
		}
		item := list[:end]
		list = list[min(end+1, len(list)):]
		if item != "" && !yield(item) {
			return false
		}
	}
	return true
}

// within reports whether every item of a is in b.
func within(a, b string) bool {
	return a == b || items(a, func(item string) bool { return contains(b, item) })
}

func contains(list, item string) bool {
	return !items(list, func(member string) bool { return member != item })
}

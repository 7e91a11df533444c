// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"slices"
	"strconv"

	"kindred/inventory"
)

// ratio is how many units an instance of the device's type is, and of the
// target's; equal unless an equivalence says how they compare.
func (j *judgement) ratio(r *Rule, basis Basis) (units, per uint64) {
	from := j.from.name
	if basis == Promised && j.from.contract != nil {
		from = j.from.contract.Type
	}
	return j.engine.ratio(from, j.to.name, r.Attribute)
}

// scaled is what a copied attribute has to be so that an instance of the
// target's type is as large as the device.
func (j *judgement) scaled(r *Rule, source inventory.Value, units, per uint64) (inventory.Value, Code, Outcome) {
	text, present := source.Get()
	if !present {
		if text = r.Absent.Default; text == "" {
			return source, AttributeAbsent, Unknown
		}
	}
	if !isDigits(text) || len(text) > 9 {
		return source, AttributeMalformed, Unknown
	}
	value, err := strconv.ParseUint(text, 10, 32)
	switch {
	case err != nil || value == 0:
		return source, AttributeMalformed, Unknown
	case value*units%per != 0 && j.explain:
		return inventory.Of(strconv.FormatUint(value*units, 10) + "/" + strconv.FormatUint(per, 10)), AttributeIndivisible, Incompatible
	case value*units%per != 0:
		return source, AttributeIndivisible, Incompatible
	case !j.explain:
		return source, AttributeCopied, Compatible
	}
	return inventory.Of(strconv.FormatUint(value*units/per, 10)), AttributeCopied, Compatible
}

// ratio is how many units an instance of either type is, as an equivalence
// states it for the attribute; equal where none does.
func (e *Engine) ratio(from, to inventory.TypeName, attribute string) (units, per uint64) {
	if from == to {
		return 1, 1
	}
	for _, namespace := range [2]string{from.Namespace, to.Namespace} {
		c := e.catalogs.For(namespace)
		if c == nil {
			continue
		}
		for i := range c.Equivalent {
			eq := &c.Equivalent[i]
			if eq.Ratio == nil || eq.Ratio.Attribute != attribute {
				continue
			}
			a := slices.Index(eq.Types, FullName{from.Namespace, from.Name})
			b := slices.Index(eq.Types, FullName{to.Namespace, to.Name})
			if a >= 0 && b >= 0 {
				return uint64(eq.Ratio.Units[a]), uint64(eq.Ratio.Units[b])
			}
		}
	}
	return 1, 1
}

// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"

	"kindred/inventory"
)

// Outcome is one of three answers, ordered from good to bad.
type Outcome uint8

const (
	Compatible Outcome = iota
	Unknown
	Incompatible
)

var outcomeNames = [...]string{"compatible", "unknown", "incompatible"}

func (o Outcome) String() string { return outcomeNames[o] }

func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

func (o *Outcome) UnmarshalText(text []byte) error {
	for i, name := range outcomeNames {
		if name == string(text) {
			*o = Outcome(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not one of compatible, unknown, incompatible", text)
}

// Basis says which of the source's values a finding is about.
type Basis string

const (
	Now      Basis = "present"  // what the device is now
	Promised Basis = "contract" // what it promised its guest at first start
)

// Finding is one reason, as data.
type Finding struct {
	Code    Code            `json:"code"`
	Outcome Outcome         `json:"outcome"`
	Subject string          `json:"subject,omitempty"` // the attribute, part or side it is about
	Basis   Basis           `json:"basis,omitempty"`
	Source  inventory.Value `json:"source,omitzero"` // the value on the source, in its three states
	Target  inventory.Value `json:"target,omitzero"` // the value on the target
	Rule    string          `json:"rule,omitempty"`  // the rule that was applied
	From    string          `json:"from,omitempty"`  // where the rule or evidence comes from
	Remedy  string          `json:"remedy,omitempty"`
}

// Text is the finding as one line for people.
func (f *Finding) Text() string {
	text := codes()[f.Code].text
	if f.Subject != "" {
		text = f.Subject + ": " + text
	}
	switch {
	case f.Source == f.Target && f.Source.State() == inventory.NotObserved:
	case f.Source == f.Target:
		if f.Source.Text() != f.Subject {
			text += " (" + f.Source.String() + ")"
		}
	default:
		text += fmt.Sprintf(" (%s -> %s)", f.Source, f.Target)
	}
	if f.Basis == Promised {
		text += " [contract]"
	}
	return text
}

// Verdict is the answer for one device and one offer of a target.
type Verdict struct {
	Outcome  Outcome            `json:"outcome"`
	Host     string             `json:"host"`
	Parent   string             `json:"parent"`
	Type     inventory.TypeName `json:"type"`            // what to create there
	Copy     map[string]string  `json:"copy,omitempty"`  // attributes to set while creating it
	Findings []Finding          `json:"findings"`        // in the order they were made
	Lifted   []Code             `json:"lifted,omitzero"` // unknowns that a proof settled
}

// Worst returns the first finding that has the verdict's outcome, nil if there
// is none.
func (v *Verdict) Worst() *Finding {
	for i := range v.Findings {
		if v.Findings[i].Outcome == v.Outcome {
			return &v.Findings[i]
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"encoding/json"
	"fmt"
	"slices"
)

// State says what is known of one fact.
type State uint8

const (
	NotObserved State = iota // nobody looked, or looking failed
	Absent                   // looked for, and it does not exist
	Present                  // it has a value
)

func (s State) String() string {
	switch s {
	case Absent:
		return "absent"
	case Present:
		return "present"
	default:
		return "not observed"
	}
}

// Value is one fact in one of three states. The zero Value is not observed.
// In JSON it is a string, null when known absent, and left out when not
// observed (fields of this type carry omitzero).
type Value struct {
	text  string
	state State
}

// Of is a present value.
func Of(text string) Value { return Value{text, Present} }

// None is a fact that is known not to exist.
func None() Value { return Value{state: Absent} }

// State says which of the three states v is in.
func (v Value) State() State { return v.state }

// Get returns the text, and whether there is one.
func (v Value) Get() (string, bool) { return v.text, v.state == Present }

// Text returns the text, empty unless v is present.
func (v Value) Text() string { return v.text }

// IsZero is true for a value that was not observed; encoding/json asks it.
func (v Value) IsZero() bool { return v.state == NotObserved }

// String is for people: the text itself, or the state in round brackets.
func (v Value) String() string {
	if v.state == Present {
		return v.text
	}
	return "(" + v.state.String() + ")"
}

func (v Value) MarshalJSON() ([]byte, error) {
	if v.state != Present {
		return []byte("null"), nil
	}
	return json.Marshal(v.text)
}

func (v *Value) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*v = None()
		return nil
	}
	if text, ok := plain(data); ok {
		*v = Of(text)
		return nil
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("a value is a string or null: %w", err)
	}
	*v = Of(text)
	return nil
}

// plain is the text of a JSON string that is written as it is, as nearly all are.
func plain(data []byte) (text string, ok bool) {
	if len(data) < 2 || data[0] != '"' || data[len(data)-1] != '"' {
		return "", false
	}
	data = data[1 : len(data)-1]
	for _, c := range data {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return "", false
		}
	}
	return string(data), true
}

// Attributes are named values read from one place: a sysfs directory, a
// module's parameters, devlink's version list.
type Attributes struct {
	// Values by name. null in JSON: the name is known not to exist.
	Values map[string]Value `json:"values,omitempty"`
	// Unread are names that exist, but whose value could not be read.
	Unread []string `json:"unread,omitempty"`
	// Complete is true when the whole place was listed, so that a name which
	// is neither in Values nor in Unread is known not to exist.
	Complete bool `json:"complete,omitempty"`
}

// Get returns the named value in one of its three states.
func (a *Attributes) Get(name string) Value {
	if v, ok := a.Values[name]; ok {
		return v
	}
	if a.Complete && !slices.Contains(a.Unread, name) {
		return None()
	}
	return Value{}
}

// Set stores a present value.
func (a *Attributes) Set(name, text string) {
	if a.Values == nil {
		a.Values = make(map[string]Value)
	}
	a.Values[name] = Of(text)
}

// Forget makes the named value not observed, whatever it was.
func (a *Attributes) Forget(name string) {
	delete(a.Values, name)
	if a.Complete && !slices.Contains(a.Unread, name) {
		a.Unread = append(a.Unread, name)
		slices.Sort(a.Unread)
	}
}

// IsZero is true for a place nobody looked at.
func (a Attributes) IsZero() bool {
	return len(a.Values) == 0 && len(a.Unread) == 0 && !a.Complete
}

// Fact is what no kernel shows, stated by the operator or imported.
type Fact struct {
	Value  Value  `json:"value"`  // null: stated not to apply
	Source string `json:"source"` // the file that states it
}

// Facts by name.
type Facts map[string]Fact

// Get returns the named fact; one that nobody stated is not observed.
func (f Facts) Get(name string) Value { return f[name].Value }

// Answer is yes, no or unknown.
type Answer string

const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown"
)

func (a *Answer) UnmarshalText(text []byte) error {
	for _, v := range [...]Answer{Yes, No, Unknown} {
		if string(text) == string(v) {
			*a = v // and no copy of the text: a fleet has many answers
			return nil
		}
	}
	return fmt.Errorf("%q is not one of yes, no, unknown", text)
}

// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"kindred/compat"
	"kindred/inventory"
)

// asPlain is what encoding/json writes.
func asPlain(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte{'\n'}))
}

type appender interface {
	AppendJSON(to []byte) ([]byte, error)
}

func same(t *testing.T, what string, v appender) {
	t.Helper()
	got, err := v.AppendJSON([]byte("x"))
	if want := "x" + asPlain(t, v); err != nil || string(got) != want {
		t.Fatalf("%s: %v\n got %s\nwant %s", what, err, got, want)
	}
}

// TestAppendJSON: answers about small fleets, by every policy and option, are the
// bytes that encoding/json writes.
func TestAppendJSON(t *testing.T) {
	answers := 0
	for seed := range uint64(60) {
		s := newSmall(seed)
		f, err := New(s.engine, s.inventories)
		if err != nil {
			t.Fatal(err)
		}
		for _, inv := range s.inventories {
			var all []*Source
			for _, d := range inv.Devices {
				source, err := f.Source(inv.Host.Name + "/" + d.ID)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, source)
				for n, policy := range Policies {
					opts := Options{Policy: policy, Limit: []int{0, 1, -1}[n%3], Others: n%2 == 0, Reasons: n%2 == 1}
					same(t, d.ID, f.Targets(source, opts))
					answers++
				}
				same(t, d.ID, f.Targets(source, Options{Now: inv.Taken.AddDate(1, 0, 0), MaxAge: 1}))
			}
			if len(all) < 2 {
				continue
			}
			for _, reasons := range []bool{false, true} {
				joint, err := f.Joint(all, Options{Reasons: reasons})
				if err != nil {
					t.Fatal(err)
				}
				same(t, inv.Host.Name, joint)
				answers++
			}
		}
	}
	if answers < 500 {
		t.Errorf("only %d answers", answers)
	}
}

// TestAppendJSONOdd: what answers do not have at present, and names that have to
// be escaped.
func TestAppendJSONOdd(t *testing.T) {
	findings := []compat.Finding{everyField(t), {Code: compat.AttributeDiffers, Subject: "<a\x01\u2028>\"", Source: inventory.Of("1"), Target: inventory.None()}}
	conditions := []Condition{{Code: ReadyQEMU, Met: inventory.Yes, Detail: "\\"}}
	one := compat.Verdict{Host: "a\"b", Parent: "é", Findings: findings}
	odd := []compat.Verdict{one, one, one, one, one, one}
	odd[1].Lifted = []compat.Code{}
	odd[2].Lifted = []compat.Code{compat.AttributeDiffers}
	odd[3].Copy = map[string]string{"x": "<"}
	odd[4].Findings = []compat.Finding{}
	odd[5].Type = inventory.TypeName{Namespace: "n", Name: "x"}
	targets := &Targets{Device: Device{Label: inventory.Of("hosts\":null")}, Hosts: []Target{{}}}
	joint := &Joint{Hosts: []JointTarget{{Places: []Place{{}}, Estimate: true, Age: "1h"}, {}}}
	for range 2 {
		for i := range odd {
			targets.Hosts = append(targets.Hosts, Target{Host: "\xff", Label: inventory.None(), Verdict: &odd[i], Ready: conditions, Others: []Other{{}}})
			joint.Hosts = append(joint.Hosts, JointTarget{Ready: conditions, Places: []Place{{Verdict: &odd[i], Room: Room{Count: new(3)}}}})
		}
	}
	same(t, "targets", targets)
	same(t, "joint", joint)
	same(t, "no targets", &Targets{})
	same(t, "no joint", &Joint{})
	same(t, "none listed", &Targets{Hosts: []Target{}})
}

// everyField is a finding that has all that a finding can have.
func everyField(t *testing.T) (f compat.Finding) {
	fields := reflect.ValueOf(&f).Elem()
	for i := range fields.NumField() {
		switch field, name := fields.Field(i), "<"+fields.Type().Field(i).Name+">"; {
		case field.Kind() == reflect.String:
			field.SetString(name)
		case field.Type() == reflect.TypeFor[inventory.Value]():
			field.Set(reflect.ValueOf(inventory.Of(name)))
		case field.Type() == reflect.TypeFor[compat.Outcome]():
			field.Set(reflect.ValueOf(compat.Incompatible))
		default:
			t.Fatalf("a finding has %s, of which this test knows nothing", name)
		}
	}
	return f
}

func BenchmarkAppendJSON(b *testing.B) {
	findings := make([]compat.Finding, 8)
	for i := range findings {
		findings[i] = compat.Finding{Code: compat.AttributeDiffers, Subject: "attribute", Source: inventory.Of("1"), Target: inventory.Of("1"), Rule: "equal", From: "a catalog"}
	}
	t := &Targets{}
	for range 100 {
		t.Hosts = append(t.Hosts, Target{Host: "host", Parent: "0000:10:00.0", Verdict: &compat.Verdict{Host: "host", Findings: findings}, Others: []Other{}})
	}
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			if err := json.NewEncoder(&bytes.Buffer{}).Encode(t); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("append", func(b *testing.B) {
		var to []byte
		for b.Loop() {
			var err error
			if to, err = t.AppendJSON(to[:0]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"kindred/compat"
	"kindred/inventory"
)

// AppendJSON appends the answer as encoding/json writes it without escaping HTML,
// several times as fast: what hosts are told alike, the findings above all, is
// encoded once and copied.
func (t *Targets) AppendJSON(to []byte) ([]byte, error) {
	e := newEncoder(to)
	rest := *t
	rest.Hosts = nil
	if err := e.without(&rest, "hosts", func() {
		for i := range t.Hosts {
			e.target(&t.Hosts[i])
		}
	}, t.Hosts == nil); err != nil {
		return to, err
	}
	return e.out, nil
}

// AppendJSON is [Targets.AppendJSON] for several devices.
func (j *Joint) AppendJSON(to []byte) ([]byte, error) {
	e := newEncoder(to)
	rest := *j
	rest.Hosts = nil
	if err := e.without(&rest, "hosts", func() {
		for i := range j.Hosts {
			e.jointTarget(&j.Hosts[i])
		}
	}, j.Hosts == nil); err != nil {
		return to, err
	}
	return e.out, nil
}

// encoder appends JSON and remembers where it put what may come again.
type encoder struct {
	out      []byte
	buffer   bytes.Buffer
	plain    *json.Encoder
	verdicts map[verdictKey]span
	ready    map[*Condition]span
	err      error
}

// verdictKey names what verdicts about several hosts have in common: they share
// their findings.
type verdictKey struct {
	findings *compat.Finding
	count    int
	lifted   *compat.Code
	types    inventory.TypeName
}

type span struct{ from, to int }

func newEncoder(to []byte) *encoder {
	e := &encoder{out: to, verdicts: make(map[verdictKey]span), ready: make(map[*Condition]span)}
	e.plain = json.NewEncoder(&e.buffer)
	e.plain.SetEscapeHTML(false)
	return e
}

// without encodes an answer whose list of that name is empty, and the list where
// it stands.
func (e *encoder) without(rest any, name string, list func(), isNil bool) error {
	if isNil {
		e.value(rest)
		return e.err
	}
	begin := len(e.out)
	e.value(rest)
	if e.err != nil {
		return e.err
	}
	head, tail, _ := bytes.Cut(bytes.Clone(e.out[begin:]), []byte(`"`+name+`":null`))
	e.out = append(append(e.out[:begin], head...), `"`+name+`":[`...)
	list()
	e.out = append(append(e.out, ']'), tail...)
	return e.err
}

// value encodes what is not done by hand.
func (e *encoder) value(v any) {
	e.buffer.Reset()
	if err := e.plain.Encode(v); err != nil && e.err == nil {
		e.err = err
	}
	e.out = append(e.out, bytes.TrimSuffix(e.buffer.Bytes(), []byte{'\n'})...)
}

// text encodes a string; most need no more than quotes.
func (e *encoder) text(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			e.value(s)
			return
		}
	}
	e.out = append(append(append(e.out, '"'), s...), '"')
}

// comma separates members of an object and elements of a list.
func (e *encoder) comma() {
	if last := e.out[len(e.out)-1]; last != '{' && last != '[' {
		e.out = append(e.out, ',')
	}
}

func (e *encoder) key(name string) {
	e.comma()
	e.out = append(append(append(e.out, '"'), name...), '"', ':')
}

func (e *encoder) member(name, s string) {
	e.key(name)
	e.text(s)
}

// optional is a member that is left out when it is empty.
func (e *encoder) optional(name, s string) {
	if s != "" {
		e.member(name, s)
	}
}

func (e *encoder) open() {
	e.comma()
	e.out = append(e.out, '{')
}

func (e *encoder) close() { e.out = append(e.out, '}') }

func (e *encoder) target(t *Target) {
	e.open()
	e.member("group", string(t.Group))
	e.member("host", t.Host)
	e.optional("parent", t.Parent)
	if t.Type != (inventory.TypeName{}) {
		e.typeName(t.Type)
	}
	e.label(t.Label)
	if t.Room != nil {
		e.room(t.Room)
	}
	e.way(t.Return)
	e.optional("age", t.Age)
	if t.Verdict != nil {
		e.key("verdict")
		e.verdict(t.Verdict)
	}
	e.conditions(t.Ready)
	e.key("others")
	if t.Others != nil && len(t.Others) == 0 {
		e.out = append(e.out, "[]"...)
	} else {
		e.value(t.Others)
	}
	e.close()
}

func (e *encoder) jointTarget(t *JointTarget) {
	e.open()
	e.member("group", string(t.Group))
	e.member("host", t.Host)
	e.key("places")
	if t.Places == nil {
		e.out = append(e.out, "null"...)
	} else {
		e.out = append(e.out, '[')
		for i := range t.Places {
			e.place(&t.Places[i])
		}
		e.out = append(e.out, ']')
	}
	e.way(t.Return)
	if t.Estimate {
		e.key("estimate")
		e.out = append(e.out, "true"...)
	}
	e.optional("age", t.Age)
	e.conditions(t.Ready)
	e.key("reason")
	e.value(&t.Reason)
	e.close()
}

func (e *encoder) place(p *Place) {
	e.open()
	e.member("device", p.Device)
	e.member("parent", p.Parent)
	e.typeName(p.Type)
	e.label(p.Label)
	e.room(&p.Room)
	e.key("verdict")
	if p.Verdict == nil {
		e.out = append(e.out, "null"...)
	} else {
		e.verdict(p.Verdict)
	}
	e.close()
}

func (e *encoder) typeName(t inventory.TypeName) {
	e.key("type")
	e.out = append(e.out, '{')
	e.member("namespace", t.Namespace)
	e.member("name", t.Name)
	e.close()
}

func (e *encoder) label(v inventory.Value) { e.fact("label", v) }

// fact writes a value, if it was observed, as its own MarshalJSON does, which escapes
// what HTML would take for its own.
func (e *encoder) fact(name string, v inventory.Value) {
	if v.IsZero() {
		return
	}
	e.key(name)
	switch text, ok := v.Get(); {
	case !ok:
		e.out = append(e.out, "null"...)
	case strings.ContainsAny(text, "<>&"):
		e.value(v)
	default:
		e.text(text)
	}
}

func (e *encoder) room(r *Room) {
	e.key("room")
	e.out = append(e.out, '{')
	e.member("code", string(r.Code))
	if r.Count != nil {
		e.key("count")
		e.out = strconv.AppendInt(e.out, int64(*r.Count), 10)
	}
	e.close()
}

func (e *encoder) way(back *compat.Outcome) {
	if back != nil {
		e.member("return", back.String())
	}
}

// verdict writes what is the host's own, and copies the rest where it can.
func (e *encoder) verdict(v *compat.Verdict) {
	e.out = append(e.out, '{')
	e.member("outcome", v.Outcome.String())
	e.member("host", v.Host)
	e.member("parent", v.Parent)
	key := verdictKey{count: len(v.Findings), types: v.Type}
	if len(v.Findings) > 0 {
		key.findings = &v.Findings[0]
	}
	if len(v.Lifted) > 0 {
		key.lifted = &v.Lifted[0]
	}
	alike := key.findings != nil && len(v.Copy) == 0 && (v.Lifted == nil || key.lifted != nil)
	if at, ok := e.verdicts[key]; ok && alike {
		e.out = append(e.out, e.out[at.from:at.to]...)
		return
	}
	begin := len(e.out)
	e.typeName(v.Type)
	if len(v.Copy) > 0 {
		e.key("copy")
		e.value(v.Copy)
	}
	e.findings(v.Findings)
	if v.Lifted != nil {
		e.key("lifted")
		e.value(v.Lifted)
	}
	e.close()
	if alike {
		e.verdicts[key] = span{begin, len(e.out)}
	}
}

func (e *encoder) findings(list []compat.Finding) {
	e.key("findings")
	if list == nil {
		e.out = append(e.out, "null"...)
		return
	}
	e.out = append(e.out, '[')
	for i := range list {
		f := &list[i]
		e.open()
		e.member("code", string(f.Code))
		e.member("outcome", f.Outcome.String())
		e.optional("subject", f.Subject)
		e.optional("basis", string(f.Basis))
		e.fact("source", f.Source)
		e.fact("target", f.Target)
		e.optional("rule", f.Rule)
		e.optional("from", f.From)
		e.optional("remedy", f.Remedy)
		e.close()
	}
	e.out = append(e.out, ']')
}

// conditions are those of a layout's hosts.
func (e *encoder) conditions(list []Condition) {
	e.key("ready")
	if len(list) == 0 {
		e.value(list)
		return
	}
	if at, ok := e.ready[&list[0]]; ok && at.to > at.from {
		e.out = append(e.out, e.out[at.from:at.to]...)
		return
	}
	begin := len(e.out)
	e.value(list)
	e.ready[&list[0]] = span{begin, len(e.out)}
}

// SPDX-License-Identifier: Apache-2.0

package plainjson

import (
	"encoding/json"
	"reflect"
	"testing"
)

// read reads any text that is plain as encoding/json reads it into an any.
func read(r *Reader) any {
	if r.bad || r.at >= len(r.text) {
		r.Bad()
		return nil
	}
	switch r.text[r.at] {
	case '{':
		m := make(map[string]any)
		r.Object(func(name []byte) { name = append([]byte(nil), name...); m[string(name)] = read(r) })
		return m
	case '[':
		list := []any{}
		r.List(func() { list = append(list, read(r)) })
		return list
	case '"':
		return r.Text()
	case 'n':
		if !r.Null() {
			r.Bad()
		}
		return nil
	case 't', 'f':
		return r.Bool()
	}
	return float64(r.Int())
}

// FuzzRead: what is plain means what encoding/json says.
func FuzzRead(f *testing.F) {
	for _, text := range []string{`{"a":[1,-20,0],"b":{"c":"x y","d":null},"e":true,"f":false,"g":[],"h":{}}`, "[]\n", `{"a":1,"a":2}`, `"\n"`, `01`, `-0`, `[1,]`, `{"a":1,}`, `1.5`, `nullx`, `"é"`, `[[`, `{"a"}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := New(text)
		got := read(r)
		if !r.End() {
			return
		}
		var want any
		if err := json.Unmarshal(text, &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, not %v (%v)", text, got, want, err)
		}
	})
}

// TestRead: what programs of this project write is plain, and what it is not
// sure of is not.
func TestRead(t *testing.T) {
	for text, plain := range map[string]bool{
		`{"a":[1,-20,0],"b":{"c":"x y","d":null},"e":true}`: true, "{}\n": true, `[]`: true, `"<&>"`: true, `123456789`: true,
		`{"a":1,"a":2}`: false, `"\n"`: false, `01`: false, `1234567890`: false, `[1,]`: false, `[1 ]`: false, `{"a":1}x`: false, `"é"`: false, `tru`: false, ``: false, `[`: false, `"a`: false,
	} {
		r := New([]byte(text))
		if read(r); r.End() != plain {
			t.Errorf("%s: plain is %v", text, r.End())
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
)

// checkShape reads a document token by token against the Go type it is to be
// decoded into, because encoding/json takes more than Encode writes (keys in
// capitals, keys twice, null for anything) and does not always say where an
// error is. Every key that is not optional must be there.
func checkShape(data []byte, t reflect.Type) error {
	w := &shape{data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	tok, err := w.next()
	if err != nil {
		return err
	}
	if err := w.value(tok, t, ""); err != nil {
		return err
	}
	if _, err := w.dec.Token(); err != io.EOF {
		return w.wrong("", "more text after the end of the document")
	}
	return nil
}

type shape struct {
	data []byte
	dec  *json.Decoder
}

func (w *shape) next() (json.Token, error) {
	tok, err := w.dec.Token()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, place(w.data, err)
	}
	return tok, nil
}

// wrong is an error at the last token.
func (w *shape) wrong(where, format string, args ...any) error {
	e := &Error{Where: where, Problem: fmt.Sprintf(format, args...)}
	e.Line, e.Column = position(w.data, w.dec.InputOffset())
	return e
}

var (
	valueType = reflect.TypeFor[Value]()
	timeType  = reflect.TypeFor[time.Time]()
	textType  = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// value checks the value that begins with tok.
func (w *shape) value(tok json.Token, t reflect.Type, where string) error {
	text, isText := tok.(string)
	switch {
	case t == valueType:
		if !isText && tok != nil {
			return w.wrong(where, "a %s, where a string or null belongs", kindOf(tok))
		}
		return nil
	case t.Kind() == reflect.Pointer:
		if tok == nil {
			return nil
		}
		return w.value(tok, t.Elem(), where)
	case t == timeType:
		if _, err := time.Parse(time.RFC3339Nano, text); !isText || err != nil {
			return w.wrong(where, "not a time such as 2026-01-02T03:04:05Z")
		}
		return nil
	case reflect.PointerTo(t).Implements(textType):
		if !isText {
			return w.wrong(where, "a %s, where a word belongs", kindOf(tok))
		}
		if err := reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			return w.wrong(where, "%v", err)
		}
		return nil
	}
	fits := false
	switch t.Kind() {
	case reflect.String:
		fits = isText
	case reflect.Bool:
		_, fits = tok.(bool)
	case reflect.Int:
		n, isNumber := tok.(float64)
		fits = isNumber && n == float64(int32(n))
	case reflect.Slice:
		if fits = tok == json.Delim('['); fits {
			return w.list(t.Elem(), where)
		}
	case reflect.Map:
		if fits = tok == json.Delim('{'); fits {
			return w.object(where, func(string) reflect.Type { return t.Elem() }, nil)
		}
	case reflect.Struct:
		if fits = tok == json.Delim('{'); fits {
			known, needed := fields(t)
			return w.object(where, func(key string) reflect.Type { return known[key] }, needed)
		}
	}
	if !fits {
		return w.wrong(where, "a %s, which does not fit there", kindOf(tok))
	}
	return nil
}

func (w *shape) list(elem reflect.Type, where string) error {
	for i := 0; ; i++ {
		tok, err := w.next()
		if err != nil {
			return err
		}
		if tok == json.Delim(']') {
			return nil
		}
		if err := w.value(tok, elem, fmt.Sprintf("%s[%d]", where, i)); err != nil {
			return err
		}
	}
}

// object checks an object's members; member gives the type of each key, nil
// for one that does not belong.
func (w *shape) object(where string, member func(key string) reflect.Type, needed []string) error {
	seen := make(map[string]bool)
	for {
		tok, err := w.next()
		if err != nil {
			return err
		}
		if tok == json.Delim('}') {
			break
		}
		key := tok.(string) // the decoder lets nothing else stand here
		inner := strings.TrimPrefix(where+"."+key, ".")
		t := member(key)
		switch {
		case seen[key]:
			return w.wrong(inner, "the key stands there twice")
		case t == nil:
			return w.wrong(inner, "unknown key")
		}
		seen[key] = true
		if tok, err = w.next(); err != nil {
			return err
		}
		if err := w.value(tok, t, inner); err != nil {
			return err
		}
	}
	for _, key := range needed {
		if !seen[key] {
			return w.wrong(strings.TrimPrefix(where+"."+key, "."), "missing")
		}
	}
	return nil
}

// fields lists a struct's members by JSON key, and the keys that Encode always
// writes.
func fields(t reflect.Type) (known map[string]reflect.Type, needed []string) {
	known = make(map[string]reflect.Type)
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			inner, innerNeeded := fields(f.Type)
			for key, elem := range inner {
				known[key] = elem
			}
			needed = append(needed, innerNeeded...)
			continue
		}
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		known[key] = f.Type
		if options == "" {
			needed = append(needed, key)
		}
	}
	return known, needed
}

func kindOf(tok json.Token) string {
	switch tok.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "boolean"
	}
	if tok == json.Delim('[') {
		return "list"
	}
	return "object"
}

// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// The keys of mdevctl's format.
const (
	keyType  = "mdev_type"
	keyStart = "start"
	keyAttrs = "attrs"
)

// member is one key of an object with its value as it was written.
type member struct {
	key string
	raw json.RawMessage
}

// put sets a key in its place, or at the end.
func put(list []member, m member) []member {
	for i := range list {
		if list[i].key == m.key {
			list[i].raw = m.raw
			return list
		}
	}
	return append(list, m)
}

// Parse reads the content of a definition's file. It does not know which
// device it is of.
func Parse(data []byte) (Definition, error) {
	var d Definition
	if !utf8.Valid(data) {
		return d, errors.New("not text (invalid UTF-8)")
	}
	members, err := object(data)
	if err != nil {
		return d, err
	}
	var found [2]bool
	for _, m := range members {
		switch m.key {
		case keyType:
			if d.Type, err = text(m); err != nil {
				return d, err
			}
			found[0] = true
		case keyStart:
			// Whatever is not "auto" is started by hand, as mdevctl reads it.
			found[1] = string(m.raw) != "null"
			start, _ := text(m)
			d.Auto = start == "auto"
		case keyAttrs:
			if d.Attributes, err = ParseAttributes(m.raw); err != nil {
				return d, fmt.Errorf("%q: %w", keyAttrs, err)
			}
		default:
			d.others = put(d.others, m)
		}
	}
	for i, key := range []string{keyType, keyStart} {
		if !found[i] {
			return d, fmt.Errorf("%q is missing", key)
		}
	}
	return d, nil
}

// ParseAttributes reads a list of attributes: objects with one key each, whose
// value is text. Null is an empty list, as in mdevctl.
func ParseAttributes(data []byte) ([]Attribute, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not text (invalid UTF-8)")
	}
	var list []json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, explain(err, "a list of attributes")
	}
	attrs := make([]Attribute, 0, len(list))
	for i, raw := range list {
		members, err := object(raw)
		if err != nil {
			return nil, fmt.Errorf("attribute %d: %w", i, err)
		}
		if len(members) != 1 {
			return nil, fmt.Errorf("attribute %d has %d keys, it must have one", i, len(members))
		}
		value, err := text(members[0])
		if err != nil {
			return nil, fmt.Errorf("attribute %d: %w", i, err)
		}
		attrs = append(attrs, Attribute{members[0].key, value})
	}
	return attrs, nil
}

// object splits a JSON object into its members. Of a key that occurs twice the
// last value counts.
func object(data []byte) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	begin, err := dec.Token()
	if err != nil {
		return nil, explain(err, "a JSON object")
	}
	if begin != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	var members []member
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, explain(err, "a JSON object")
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, explain(err, "a JSON object")
		}
		members = put(members, member{key.(string), raw}) // a key is text
	}
	if _, err := dec.Token(); err != nil {
		return nil, explain(err, "a JSON object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the JSON object")
	}
	return members, nil
}

func text(m member) (string, error) {
	var s *string
	if err := json.Unmarshal(m.raw, &s); err != nil || s == nil {
		return "", fmt.Errorf("the value of %q is not text", m.key)
	}
	// The decoder puts U+FFFD in the place of half a surrogate pair.
	if strings.ContainsRune(*s, utf8.RuneError) && !bytes.ContainsRune(m.raw, utf8.RuneError) && !bytes.Contains(bytes.ToLower(m.raw), []byte(`\ufffd`)) {
		return "", fmt.Errorf("the value of %q is not text: it has half of a surrogate pair", m.key)
	}
	return *s, nil
}

// explain turns the decoder's errors into what a person can act on.
func explain(err error, want string) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok && err.Error() != "unexpected end of JSON input" {
		return fmt.Errorf("invalid JSON at byte %d: %w", syntax.Offset, err)
	}
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return errors.New("not " + want)
	}
	return fmt.Errorf("invalid JSON: it ends too early, or is empty: %w", err)
}

// Encode is the content of the definition's file: what mdevctl writes, and
// behind it the keys that only others know.
func (d *Definition) Encode() []byte {
	b := []byte("{\n  ")
	b = appendPair(b, keyType, d.Type, ": ")
	b = append(b, ",\n  "...)
	b = appendPair(b, keyStart, d.Start(), ": ")
	b = append(b, ",\n  "...)
	b = append(AppendString(b, keyAttrs), ": "...)
	b = AppendAttributes(b, d.Attributes, "  ")
	for _, m := range d.others {
		b = append(b, ",\n  "...)
		b = append(AppendString(b, m.key), ": "...)
		var value bytes.Buffer
		_ = json.Indent(&value, m.raw, "  ", "  ") // it was parsed
		b = append(b, value.Bytes()...)
	}
	return append(b, "\n}"...)
}

// Compact is the definition as mdevctl gives it to scripts: on one line, with
// the known keys alone.
func (d *Definition) Compact() []byte {
	b := appendPair([]byte("{"), keyType, d.Type, ":")
	b = appendPair(append(b, ','), keyStart, d.Start(), ":")
	b = append(AppendString(append(b, ','), keyAttrs), ":["...)
	for i, a := range d.Attributes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendPair(append(b, '{'), a.Name, a.Value, ":"), '}')
	}
	return append(b, "]}"...)
}

// AppendAttributes appends the list with two spaces for each level, below
// lines that are indented by indent.
func AppendAttributes(b []byte, attrs []Attribute, indent string) []byte {
	if len(attrs) == 0 {
		return append(b, "[]"...)
	}
	b = append(b, '[')
	for i, a := range attrs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, "\n"+indent+"  {\n"+indent+"    "...)
		b = appendPair(b, a.Name, a.Value, ": ")
		b = append(b, "\n"+indent+"  }"...)
	}
	return append(b, "\n"+indent+"]"...)
}

func appendPair(b []byte, key, value, colon string) []byte {
	return AppendString(append(AppendString(b, key), colon...), value)
}

// AppendString appends a JSON string with no more escapes than JSON asks for,
// as mdevctl writes it: the standard library's also escapes U+2028 and U+2029.
func AppendString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			if c < 0x20 {
				b = append(b, `\u00`...)
				b = append(b, digits[c>>4], digits[c&15])
			} else {
				b = append(b, c)
			}
		}
	}
	return append(b, '"')
}

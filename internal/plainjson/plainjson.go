// SPDX-License-Identifier: Apache-2.0

// Package plainjson reads JSON as programs of this project write it, quicker than
// encoding/json reads any: without blanks, with text of printable ASCII that needs
// no escapes, whole numbers, and no name twice in an object.
//
// It promises that whatever it accepts means what encoding/json says that it means;
// all else it does not judge but gives up on, and the caller asks encoding/json.
package plainjson

import (
	"bytes"
	"slices"
	"strconv"
)

// Reader reads one text. After anything that is not plain it is bad, for good, and
// what it returned is worth nothing.
type Reader struct {
	text []byte
	at   int
	bad  bool
}

// New makes a reader.
func New(text []byte) *Reader { return &Reader{text: text} }

// Bad gives up.
func (r *Reader) Bad() { r.bad = true }

// End reports whether all of the text was read, and was plain.
func (r *Reader) End() bool {
	return !r.bad && len(bytes.TrimRight(r.text[r.at:], "\n")) == 0
}

// Count is how often something is in what was not read yet, as a hint for memory.
func (r *Reader) Count(what string) int { return bytes.Count(r.text[r.at:], []byte(what)) }

// next reports whether the next byte is that one, and goes beyond it if so.
func (r *Reader) next(c byte) bool {
	if r.bad || r.at >= len(r.text) || r.text[r.at] != c {
		return false
	}
	r.at++
	return true
}

func (r *Reader) want(c byte) {
	if !r.next(c) {
		r.bad = true
	}
}

// Object calls field for the name of each member, which reads the value. The name
// is good until then.
func (r *Reader) Object(field func(name []byte)) {
	var few [24][]byte
	names := few[:0]
	r.want('{')
	if r.next('}') {
		return
	}
	for !r.bad {
		name := r.bytes()
		if slices.ContainsFunc(names, func(before []byte) bool { return bytes.Equal(before, name) }) {
			r.bad = true
		}
		names = append(names, name)
		if r.want(':'); r.bad {
			return
		}
		field(name)
		if r.next('}') {
			return
		}
		r.want(',')
	}
}

// List calls item for each item, which reads it.
func (r *Reader) List(item func()) {
	r.want('[')
	if r.next(']') {
		return
	}
	for !r.bad {
		item()
		if r.next(']') {
			return
		}
		r.want(',')
	}
}

// bytes is a text as it stands between its quotes.
func (r *Reader) bytes() []byte {
	r.want('"')
	begin := r.at
	for ; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return r.text[begin : r.at-1]
		case c < ' ' || c > '~' || c == '\\':
			r.bad = true
			return nil
		}
	}
	r.bad = true
	return nil
}

// Text reads text.
func (r *Reader) Text() string { return string(r.bytes()) }

// Quoted reads text and returns it with its quotes.
func (r *Reader) Quoted() []byte {
	begin := r.at
	r.bytes()
	if r.bad {
		return nil
	}
	return r.text[begin:r.at]
}

// Null reports whether the value is null, and goes beyond it if so.
func (r *Reader) Null() bool { return r.word("null") }

// Bool reads true or false.
func (r *Reader) Bool() bool {
	if r.word("true") {
		return true
	}
	if !r.word("false") {
		r.bad = true
	}
	return false
}

func (r *Reader) word(word string) bool {
	if r.bad || !bytes.HasPrefix(r.text[r.at:], []byte(word)) {
		return false
	}
	r.at += len(word)
	return true
}

// Int reads a whole number of up to nine digits.
func (r *Reader) Int() int {
	begin := r.at
	minus := r.next('-')
	first := r.at
	for r.at < len(r.text) && r.text[r.at] >= '0' && r.text[r.at] <= '9' {
		r.at++
	}
	digits := r.at - first
	if r.bad || digits == 0 || digits > 9 || r.text[first] == '0' && (digits > 1 || minus) {
		r.bad = true
		return 0
	}
	n, err := strconv.Atoi(string(r.text[begin:r.at]))
	if err != nil {
		r.bad = true
	}
	return n
}

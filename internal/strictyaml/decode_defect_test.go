// SPDX-License-Identifier: Apache-2.0

package strictyaml

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// A file is one document. What stands behind it would be lost without a word:
// in a catalog, rules that forbid.
func TestSecondDocument(t *testing.T) {
	for _, text := range []string{"name: a\n---\nname: b\n", "name: a\n...\n---\ncolour: blue\n", "---\n---\nname: a\n"} {
		var d document
		if err := Decode([]byte(text), &d); err == nil {
			t.Errorf("taken: %q as %+v", text, d)
		}
	}
}

// Lists that open on one line nest as deeply as brackets do, and cost the
// square of their number: a mebibyte of them takes a quarter of an hour.
func TestCompactNesting(t *testing.T) {
	for _, text := range []string{strings.Repeat("- ", 8000) + "a", "list:\n" + strings.Repeat("- ", 8000) + "a"} {
		start := time.Now()
		var d document
		err := Decode([]byte(text), &d)
		if took := time.Since(start); err == nil || took > 50*time.Millisecond {
			t.Errorf("%d bytes took %s: %v", len(text), took, err)
		}
	}
}

// A tag is dropped, and with it what its author wanted to say.
func TestTagsAreRefused(t *testing.T) {
	var d document
	if err := Decode([]byte("name: !secret a\n"), &d); err == nil {
		t.Errorf("taken as %+v", d)
	}
}

// A type that reads text gives its error a place too.
func TestTextUnmarshalerPlace(t *testing.T) {
	var d struct {
		Is textual       `yaml:"is"`
		In time.Duration `yaml:"in"`
	}
	for _, text := range []string{"\n\nis: wrong\n", "\n\nin: long\n"} {
		if err, ok := Decode([]byte(text), &d).(*Error); !ok || err.Line != 3 {
			t.Errorf("want line 3: %v", err)
		}
	}
}

type textual string

func (x *textual) UnmarshalText([]byte) error { return errTextual }

var errTextual = errors.New("wrong")

// No document makes the program panic: an unknown tag where a list is wanted
// does, in the YAML library. A site's catalog can hold it (namespaces: !a b).
func TestTagForList(t *testing.T) {
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("panic: %v", r)
		}
	}()
	var d document
	if err := Decode([]byte("list: !a b\n"), &d); err == nil {
		t.Errorf("taken as %+v", d)
	}
}

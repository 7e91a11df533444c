// SPDX-License-Identifier: Apache-2.0

package strictyaml

import (
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
	for _, begin := range []string{"", "list:\n"} {
		refused := make(chan error, 1)
		go func() {
			var d document
			refused <- Decode([]byte(begin+strings.Repeat("- ", 1<<19)+"a"), &d)
		}()
		select {
		case err := <-refused:
			if err == nil {
				t.Errorf("taken: a mebibyte of lists after %q", begin)
			}
		case <-time.After(time.Minute):
			t.Fatalf("a mebibyte of lists after %q is still being read", begin)
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

// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"testing"

	"kindred/api"
	"kindred/server/store"
)

// TestReadReport: a report is read as encoding/json reads it, into lists that have just
// the room that they need; one without the host's own part is none.
func TestReadReport(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: "d1", typ: "small"}, &made{id: "d2", typ: "small"}, &made{id: "d3", typ: "small"}))
	kept := r.open()
	s := r.start(kept)
	r.report(s, "a")
	rec, err := kept.Get(t.Context(), store.Key(store.Host, "a"))
	if err != nil {
		t.Fatal(err)
	}
	sent, err := decodeHost(rec)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	var got api.Report
	if err := formats()["json"].Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(got); err != nil || !bytes.Equal(again, text) {
		t.Errorf("%v\n got %s\nwant %s", err, again, text)
	}
	if o := got.Own; len(o.Devices) != 3 || cap(o.Devices) != 3 || len(o.Available) == 0 || cap(o.Available) != len(o.Available) {
		t.Errorf("%d devices in a list for %d, %d counts in one for %d", len(o.Devices), cap(o.Devices), len(o.Available), cap(o.Available))
	}
	for _, text := range []string{`{"version":"1","mode":"manage"}`, `{"own":null,"version":"1","mode":"manage"}`, `{"own":{},"version":"1","mode":"manage"}`} {
		var none api.Report
		if err := formats()["json"].Unmarshal([]byte(text), &none); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Report(t.Context(), "a", &none); err == nil || !bytes.Contains([]byte(err.Error()), []byte("own part")) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

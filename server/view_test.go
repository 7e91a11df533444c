// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"fmt"
	"testing"

	"kindred/api"
	"kindred/inventory"
	"kindred/server/store"
)

// TestIndexStaysSmall: devices with ever other attributes do not fill the index.
// What is asked gets the same answer before and after it was made anew.
func TestIndexStaysSmall(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "large"}), newMachine("b", 4))
	s := r.start(r.open())
	r.report(s, "a", "b")
	v := s.view
	first, host := v.index.Load(), v.hosts["a"]
	revision := v.current()
	serial := func(text string) {
		own := host.own()
		own.Devices[0].Attributes = inventory.Attributes{Complete: true}
		own.Devices[0].Attributes.Set("serial", text)
		rec := api.Report{Own: own, Version: host.Version, Agent: host.Agent, Mode: host.Mode}
		revision++
		v.apply([]store.Record{{Key: store.Key(store.Host, "a"), Value: pack(&rec), Revision: revision}}, revision)
	}
	serial("same")
	before := targetsText(t, s)
	for i := 0; v.index.Load() == first; i++ {
		if i > 1<<15 {
			t.Fatal("the index was never made anew")
		}
		serial(fmt.Sprint(i))
	}
	if v.index.Load().Outgrown() {
		t.Error("the new index is too large already")
	}
	serial("same")
	if after := targetsText(t, s); string(after) != string(before) {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
}

// targetsText is the answer for dev1, but for when it was given.
func targetsText(t *testing.T, s *running) []byte {
	t.Helper()
	answer, err := s.Targets(&api.TargetsRequest{Device: dev1, Others: true})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(answer.Hosts)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

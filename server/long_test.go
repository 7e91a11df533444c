// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"kindred/api"
	"kindred/fleet"
)

// TestLongTurns: when all turns are taken, a long question is refused, and told
// when to try again; one that nobody waits for gives its turn back.
func TestLongTurns(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "large"}), newMachine("b", 4))
	s := r.start(r.open())
	r.report(s, "a", "b")
	for range cap(s.long) {
		s.long <- struct{}{}
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		s.Handler().ServeHTTP(w, q.WithContext(WithIdentity(q.Context(), Identity{Name: "test", Admin: true})))
	}))
	defer web.Close()
	resp, err := http.Post(web.URL+api.PathReach, "application/json", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	var p api.Problem
	if err := json.Unmarshal(data, &p); err != nil || resp.StatusCode != http.StatusTooManyRequests || p.Code != api.TooBusy || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s, Retry-After %q: %s", resp.Status, resp.Header.Get("Retry-After"), data)
	}
	<-s.long // one turn is free

	gone, cancel := context.WithCancel(t.Context())
	_, err = long(gone, s.Server, func(f *fleet.Fleet) (*fleet.Reach, error) {
		cancel()
		return f.Reach(false), nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("what nobody waits for: %v", err)
	}
	answer, err := s.Reach(t.Context(), &api.ReachRequest{})
	if err != nil || answer.Devices != 1 {
		t.Errorf("the next one: %+v, %v", answer, err)
	}
}

// TestLongSilent: hosts that do not report are no way to go, and are counted.
func TestLongSilent(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "large"}), newMachine("b", 4), newMachine("c", 4))
	s := r.start(r.open())
	r.report(s, "a", "b", "c")
	r.pass(time.Minute)
	r.report(s, "a", "c")
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	reach, err := s.Reach(t.Context(), &api.ReachRequest{Each: true})
	if err != nil || reach.Silent != 1 || reach.Hosts != 2 || len(reach.Each) != 1 || reach.Each[0].Ready != 1 {
		t.Errorf("%+v, %v", reach, err)
	}
	plan, err := s.PlanDrain(t.Context(), &api.DrainRequest{Hosts: []string{"[ac]"}})
	if err != nil || plan.Moved != 0 || plan.Owners != 1 {
		t.Errorf("%+v, %v", plan, err)
	}
	what, err := s.WhatIf(t.Context(), &api.WhatIfRequest{Changes: []fleet.Change{{Kind: fleet.RemoveHost, Hosts: "c"}}})
	if err != nil || what.Silent != 1 || len(what.Stranded) != 1 {
		t.Errorf("%+v, %v", what, err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"kindred/api"
)

// TestDrainWatched: all that a drain did is told, also where the server knows that
// it is over before the first event of that has come.
func TestDrainWatched(t *testing.T) {
	drain := func(state api.DrainState, revision int64) api.Drain {
		return api.Drain{ID: "d", State: state, Revision: revision}
	}
	move := func(state api.MigrationState, revision int64) api.Migration {
		return api.Migration{ID: "m", Drain: "d", State: state, Revision: revision}
	}
	looked := 0
	mux := http.NewServeMux()
	answers := func(path string, answer func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(answer()) })
	}
	answers(api.PathDrains, func() any { return api.Drains{Revision: 3} })
	answers(api.PathMigrations, func() any { return api.Migrations{Migrations: []api.Migration{move(api.Aborted, 7)}, Revision: 9} })
	answers(api.PathDrainOne, func() any {
		if looked++; looked == 1 {
			return api.DrainDetail{Drain: drain(api.DrainRunning, 4)}
		}
		return api.DrainDetail{Drain: drain(api.DrainCancelled, 6)}
	})
	mux.HandleFunc("GET "+api.PathEvents, func(w http.ResponseWriter, r *http.Request) {
		if after := r.Header.Get(api.HeaderLast); after != "3" {
			t.Errorf("it asks for what came after %s", after)
		}
		for _, one := range []any{drain(api.DrainRunning, 4), drain(api.DrainPaused, 5), drain(api.DrainCancelled, 6), move(api.Aborting, 6), move(api.Aborted, 7)} {
			var e api.Event
			switch v := one.(type) {
			case api.Drain:
				e = api.Event{Revision: v.Revision, Kind: api.DrainEvent, Name: v.ID, Drain: &v}
			case api.Migration:
				e = api.Event{Revision: v.Revision, Kind: api.MigrationEvent, Name: v.ID, Migration: &v}
			}
			data, err := json.Marshal(&e)
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(w, "event: %s\nid: %d\ndata: %s\n\n", e.Kind, e.Revision, data)
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // and then there is nothing more
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	var out, errs strings.Builder
	code := run(t.Context(), []string{"drain", "watch", "d", "-o", "json", "--server", server.URL}, &out, &errs)
	var told []string
	for line := range strings.Lines(out.String()) {
		var e api.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Drain != nil {
			told = append(told, string(e.Drain.State))
		} else {
			told = append(told, string(e.Migration.State))
		}
	}
	if got := strings.Join(told, " "); got != "running paused cancelled aborting aborted" || code != exitNo {
		t.Errorf("it told %s, with exit code %d, %s", got, code, errs.String())
	}
}

// SPDX-License-Identifier: Apache-2.0

package server

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kindred/api"
)

var t0 = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// in is a migration of n devices in a state, with a deadline a minute from t0.
func in(state api.MigrationState, n int) *api.Migration {
	m := &api.Migration{ID: "m", State: state, Step: 7, Host: "src", Source: "src", Target: "dst", Claim: "c", Deadline: t0.Add(time.Minute)}
	if state == api.Completing || state == api.Completed {
		m.Host = "dst"
	}
	for i := range n {
		id := string(rune('a' + i))
		m.Devices = append(m.Devices, api.MigrationDevice{Source: id, Target: id + "'"})
	}
	return m
}

// words are what both agents say of every device, in one letter each: made,
// busy, failed, kept, gone, stuck; a dash for silence.
func say(m *api.Migration, source, target string) {
	states := map[rune]api.DeviceState{'m': api.Made, 'b': api.Busy, 'f': api.Failed, 'k': api.Kept, 'g': api.Gone, 's': api.Stuck}
	for i, c := range source {
		m.Devices[i].AtSource = states[c]
	}
	for i, c := range target {
		m.Devices[i].AtTarget = states[c]
	}
}

// TestSteps is the machine as docs/fleet.md has it: every state, with every
// word of agents that matters, in time and late.
func TestSteps(t *testing.T) {
	doubted := func(m *api.Migration) { m.Code = api.DeadlinePassed }
	for _, c := range []struct {
		state          api.MigrationState
		source, target string // words
		late           bool
		facts          func(*api.Migration)
		listed         bool
		want           api.MigrationState
		why            api.Code
	}{
		{state: api.Planned, want: api.Planned},
		{state: api.Planned, late: true, want: api.Aborted, why: api.DeadlinePassed},
		{state: api.Claimed, target: "--", want: api.Claimed},
		{state: api.Claimed, target: "m-", want: api.Claimed},
		{state: api.Claimed, target: "mm", want: api.Prepared},
		{state: api.Claimed, target: "mb", want: api.Prepared},
		{state: api.Claimed, target: "mf", want: api.Aborting, why: api.DeviceFailed},
		{state: api.Claimed, target: "m-", late: true, want: api.Aborting, why: api.DeadlinePassed},
		{state: api.Claimed, target: "mm", late: true, want: api.Aborting, why: api.DeadlinePassed},
		{state: api.Prepared, target: "mm", want: api.Prepared},
		{state: api.Prepared, target: "fm", want: api.Aborting, why: api.DeviceFailed},
		{state: api.Prepared, late: true, want: api.Aborting, why: api.DeadlinePassed},
		{state: api.HandedOver, source: "mm", target: "bb", want: api.HandedOver},
		{state: api.HandedOver, source: "bb", target: "ff", want: api.HandedOver},
		// The deadline passed: what was said before does not count.
		{state: api.HandedOver, source: "mm", target: "bb", late: true, want: api.HandedOver, why: api.DeadlinePassed},
		{state: api.HandedOver, source: "mm", target: "bb", late: true, facts: doubted, want: api.Completing, why: api.DeadlinePassed},
		{state: api.HandedOver, source: "gg", target: "bb", late: true, facts: doubted, want: api.Completing, why: api.DeadlinePassed},
		{state: api.HandedOver, source: "bb", target: "mm", late: true, facts: doubted, want: api.Aborting, why: api.DeadlinePassed},
		{state: api.HandedOver, source: "mm", target: "mm", late: true, facts: doubted, want: api.Aborting, why: api.DeadlinePassed},
		{state: api.HandedOver, source: "bm", target: "gf", late: true, facts: doubted, want: api.Aborting, why: api.DeadlinePassed},
		// In doubt nothing happens.
		{state: api.HandedOver, source: "bb", target: "bb", late: true, facts: doubted, want: api.HandedOver, why: api.DeadlinePassed},
		{state: api.HandedOver, source: "bm", target: "mb", late: true, facts: doubted, want: api.HandedOver, why: api.DeadlinePassed},
		{state: api.HandedOver, source: "--", target: "bb", late: true, facts: doubted, want: api.HandedOver, why: api.DeadlinePassed},
		{state: api.HandedOver, source: "bb", target: "m-", late: true, facts: doubted, want: api.HandedOver, why: api.DeadlinePassed},
		{state: api.HandedOver, source: "gg", target: "mm", late: true, facts: doubted, want: api.HandedOver, why: api.DeadlinePassed},
		{state: api.HandedOver, source: "mm", target: "ss", late: true, facts: doubted, want: api.HandedOver, why: api.DeadlinePassed},
		{state: api.Completing, source: "gg", target: "kk", listed: true, want: api.Completed},
		{state: api.Completing, source: "gg", target: "kk", want: api.Completing}, // the report does not count them yet
		{state: api.Completing, source: "gb", target: "kk", listed: true, want: api.Completing},
		{state: api.Completing, source: "gg", target: "km", listed: true, want: api.Completing},
		{state: api.Completing, source: "gs", target: "kk", listed: true, late: true, want: api.Completing},
		// The target lost devices that it was to keep: nobody can bring them back.
		{state: api.Completing, source: "gg", target: "kg", listed: true, want: api.Completed, why: api.DeviceGone},
		{state: api.Completing, source: "gg", target: "gg", listed: true, want: api.Completed, why: api.DeviceGone},
		{state: api.Completing, source: "gg", target: "kg", want: api.Completing}, // the report is older
		{state: api.Completing, source: "gb", target: "gg", listed: true, want: api.Completing},
		{state: api.Completing, source: "gg", target: "g-", listed: true, want: api.Completing},
		{state: api.Aborting, source: "bb", target: "gg", want: api.Aborted},
		{state: api.Aborting, source: "--", target: "gg", want: api.Aborted},
		{state: api.Aborting, source: "bb", target: "gb", want: api.Aborting},
		{state: api.Aborting, source: "bb", target: "bb", want: api.Aborting},
		{state: api.Aborting, source: "mm", target: "gb", want: api.Aborting},
		{state: api.Aborting, source: "mm", target: "bb", want: api.Completing}, // it can run nowhere else
		{state: api.Aborting, source: "mm", target: "ss", late: true, want: api.Aborting},
		{state: api.Completed, source: "gg", target: "kk", late: true, want: api.Completed},
		{state: api.Aborted, source: "bb", target: "gg", late: true, want: api.Aborted},
	} {
		m := in(c.state, 2)
		say(m, c.source, c.target)
		if c.facts != nil {
			c.facts(m)
		}
		now := t0
		if c.late {
			now = t0.Add(2 * time.Minute)
		}
		before := m.Step
		changed := advance(m, facts{now: now, listed: c.listed})
		if m.State != c.want || m.Code != c.why {
			t.Errorf("%s, source %q, target %q, late %v: %s (%s), want %s (%s)", c.state, c.source, c.target, c.late, m.State, m.Code, c.want, c.why)
		}
		if (m.State != c.state) && !changed || changed != (m.Step > before) {
			t.Errorf("%s, source %q, target %q: changed %v, step %d after %d", c.state, c.source, c.target, changed, m.Step, before)
		}
		if m.State != c.state && count(m, atTarget).silent != 2 {
			t.Errorf("%s to %s: what was said before still counts", c.state, m.State)
		}
		if err := consistent(m); err != nil {
			t.Error(err)
		}
	}
}

// TestWords is what people may say in each state, and what becomes of it.
func TestWords(t *testing.T) {
	all := []api.MigrationState{api.Planned, api.Claimed, api.Prepared, api.HandedOver, api.Completing, api.Completed, api.Aborting, api.Aborted}
	words := map[string]func(*api.Migration) (bool, error){
		"hand over": func(m *api.Migration) (bool, error) { return handOver(m, t0) },
		"complete":  func(m *api.Migration) (bool, error) { return complete(m, t0) },
		"abort":     func(m *api.Migration) (bool, error) { return abort(m, t0, "no") },
	}
	refused := api.MigrationState("refused")
	want := map[string][]api.MigrationState{ // in the order of all
		"hand over": {refused, refused, api.HandedOver, api.HandedOver, refused, refused, refused, refused},
		"complete":  {refused, refused, refused, api.Completing, api.Completing, api.Completed, refused, refused},
		"abort":     {api.Aborted, api.Aborting, api.Aborting, api.Aborting, refused, refused, api.Aborting, api.Aborted},
	}
	for word, do := range words {
		for i, state := range all {
			m := in(state, 1)
			changed, err := do(m)
			got := m.State
			if err != nil {
				if got != state || changed {
					t.Errorf("%s while %s: refused, and changed", word, state)
				}
				got = refused
			}
			if got != want[word][i] || err == nil && changed != (got != state) {
				t.Errorf("%s while %s: %s (changed %v), want %s", word, state, got, changed, want[word][i])
			}
			if err := consistent(m); err != nil {
				t.Errorf("%s while %s: %v", word, state, err)
			}
		}
	}
	late := in(api.Prepared, 1)
	if _, err := handOver(late, t0.Add(2*time.Minute)); err == nil {
		t.Error("handed over after the deadline")
	}
	// A VM that runs on the target although somebody aborted.
	m := in(api.Aborting, 2)
	say(m, "", "bb")
	if changed, err := complete(m, t0); !changed || err != nil || m.Host != "dst" {
		t.Errorf("complete while aborting, all in use: %v, %v", m, err)
	}
}

// TestLose: a migration waits for nothing of a host that is lost. Nothing else is
// removed for that, and one that was handed over waits to hear where the VM is.
func TestLose(t *testing.T) {
	for _, c := range []struct {
		state          api.MigrationState
		lost           string
		source, target string // what the agents say then
		late           bool
		want           api.MigrationState
	}{
		{api.Planned, "dst", "", "", false, api.Aborted},
		{api.Planned, "src", "", "", false, api.Aborted},
		{api.Claimed, "dst", "", "", false, api.Aborted},
		{api.Prepared, "dst", "", "", false, api.Aborted},
		{api.Prepared, "src", "", "", false, api.Aborting},
		{api.Prepared, "src", "", "gg", false, api.Aborted},
		{api.HandedOver, "dst", "", "", false, api.Aborted},
		{api.HandedOver, "src", "", "bb", false, api.HandedOver},
		{api.HandedOver, "src", "", "bb", true, api.Completed},
		{api.HandedOver, "src", "", "mm", true, api.Aborting},
		{api.HandedOver, "src", "", "bm", true, api.HandedOver},
		{api.Completing, "src", "", "", false, api.Completing},
		{api.Completing, "src", "", "kk", false, api.Completed},
		{api.Completing, "dst", "", "", false, api.Completing},
		{api.Completing, "dst", "bb", "", false, api.Completing},
		{api.Completing, "dst", "gg", "", false, api.Completed},
		{api.Aborting, "dst", "", "", false, api.Aborted},
		{api.Aborting, "src", "", "", false, api.Aborting},
		{api.Completed, "dst", "", "", false, api.Completed},
	} {
		m, f := in(c.state, 2), facts{now: t0, listed: c.lost != "dst"}
		if c.late {
			f.now = t0.Add(time.Hour)
			advance(m, f) // both are asked
		}
		if lose(m, c.lost, f.now) == c.state.Over() || lose(m, c.lost, f.now) {
			t.Errorf("%s, %s is lost: that is news once, while it is not over", c.state, c.lost)
		}
		for range 2 { // and of the next state, where one came
			say(m, c.source, c.target)
			if m.State == api.Completing {
				say(m, c.source, strings.ReplaceAll(c.target, "b", "k"))
			}
			for advance(m, f) {
			}
		}
		if m.State != c.want {
			t.Errorf("%s, %s is lost, the source says %q, the target %q: %s, want %s", c.state, c.lost, c.source, c.target, m.State, c.want)
		}
	}
}

// TestLostAndBack: a host that was said to be lost, and is heard of, is asked again,
// and waited for.
func TestLostAndBack(t *testing.T) {
	for _, c := range []struct {
		state          api.MigrationState
		lost           string
		source, target string // what the agents say then
		want           api.MigrationState
	}{
		{api.HandedOver, "src", "bb", "bb", api.HandedOver}, // the VM runs there after all
		{api.HandedOver, "src", "mm", "bb", api.Completing},
		{api.HandedOver, "src", "", "bb", api.HandedOver},
		{api.Completing, "src", "", "kk", api.Completing},
		{api.Completing, "src", "gg", "kk", api.Completed},
		{api.Completing, "dst", "gg", "", api.Completing},
		{api.Aborting, "dst", "bb", "", api.Aborting},
		{api.Aborting, "dst", "bb", "gg", api.Aborted},
	} {
		m := in(c.state, 2)
		m.Lost = []string{c.lost}
		f := facts{now: t0.Add(time.Hour), listed: true, reporting: []string{"src", "dst"}}
		step := m.Step
		for advance(m, f) { // both are asked
		}
		if m.State != c.state || len(m.Lost) > 0 || m.Step <= step {
			t.Errorf("%s, %s is back: %+v", c.state, c.lost, m)
		}
		say(m, c.source, c.target)
		advance(m, f)
		if m.State != c.want {
			t.Errorf("%s, %s is back, the source says %q, the target %q: %s, want %s", c.state, c.lost, c.source, c.target, m.State, c.want)
		}
	}
}

// TestAhead: what an agent has carried out later decides where it can, and stops
// everything else until somebody says how it ended.
func TestAhead(t *testing.T) {
	for _, c := range []struct {
		state      api.MigrationState
		host       string
		claim      string
		do         api.Action
		want       api.MigrationState
		onComplete api.MigrationState
		onAbort    api.MigrationState
	}{
		{api.Prepared, "dst", "c", api.Keep, api.Completing, "", ""},
		{api.Prepared, "src", "c", api.Release, api.Completing, "", ""},
		{api.Aborting, "dst", "c", api.Keep, api.Completing, "", ""},
		{api.Completing, "dst", "c", api.Keep, api.Completing, "", ""},
		{api.Claimed, "dst", "c", api.Make, api.Claimed, api.Completing, api.Aborting},
		{api.Prepared, "dst", "c", api.Release, api.Prepared, api.Completing, api.Aborting},
		{api.HandedOver, "dst", "c", api.Release, api.HandedOver, api.Completing, api.Aborting},
		{api.HandedOver, "dst", "later", api.Release, api.HandedOver, api.Completed, api.Aborted},
		{api.Aborting, "src", "later", api.Release, api.Aborting, api.Completed, api.Aborted},
		{api.Completing, "dst", "later", api.Keep, api.Completing, api.Completed, ""},
	} {
		heard := func() *api.Migration {
			m := in(c.state, 2)
			late := facts{now: t0.Add(time.Hour), listed: true}
			if !hear(m, c.host, api.Status{Step: 7, Source: "a", State: api.Later, Ahead: &api.Ahead{Claim: c.claim, Fence: 9, Step: 12, Do: c.do}}) {
				t.Errorf("%+v: that is no news", c)
			}
			for advance(m, late) {
			}
			return m
		}
		m := heard()
		if m.State != c.want || consistent(m) != nil || m.Ahead == nil && m.Step <= 12 || m.Ahead != nil && m.Code != api.HostAhead {
			t.Errorf("%+v: %+v", c, m)
		}
		for _, host := range []string{"src", "dst"} {
			for _, a := range assignments(m, &api.Claim{ID: "c", Devices: make([]api.ClaimDevice, 2)}, host) {
				if m.Ahead != nil && a.Do == api.Release {
					t.Errorf("%+v: %s is to remove something", c, host)
				}
			}
		}
		if m.Ahead == nil {
			continue
		}
		if _, err := handOver(m, t0); err == nil {
			t.Errorf("%+v: handed over", c)
		}
		if _, err := complete(m, t0); err != nil || m.State != c.onComplete || consistent(m) != nil || m.Ahead != nil || m.Step <= 7 {
			t.Errorf("%+v: complete: %+v, %v", c, m, err)
		}
		m = heard()
		if _, err := abort(m, t0, ""); (err != nil) != (c.onAbort == "") || err == nil && m.State != c.onAbort || consistent(m) != nil {
			t.Errorf("%+v: abort: %+v, %v", c, m, err)
		}
	}
}

// TestHear: late words, words of others and words on what is not there are none.
func TestHear(t *testing.T) {
	m := in(api.Claimed, 1)
	for _, c := range []struct {
		host string
		api.Status
		want bool
	}{
		{"dst", api.Status{Step: 6, Source: "a", State: api.Made}, false},
		{"dst", api.Status{Step: 8, Source: "a", State: api.Made}, false},
		{"other", api.Status{Step: 7, Source: "a", State: api.Made}, false},
		{"dst", api.Status{Step: 7, Source: "x", State: api.Made}, false},
		{"dst", api.Status{Step: 7, Source: "a", State: api.Failed, Detail: "EIO"}, true},
		{"dst", api.Status{Step: 7, Source: "a", State: api.Failed, Detail: "EIO"}, false},
		{"dst", api.Status{Step: 7, Source: "a", State: api.Made}, true},
		{"src", api.Status{Step: 7, Source: "a", State: api.Busy}, true},
	} {
		if got := hear(m, c.host, c.Status); got != c.want {
			t.Errorf("%s says %+v: news %v, want %v", c.host, c.Status, got, c.want)
		}
	}
	if d := m.Devices[0]; d.AtTarget != api.Made || d.AtSource != api.Busy || d.Target != "a'" {
		t.Errorf("%+v", d)
	}
	m = in(api.Claimed, 1)
	m.Devices[0].Target = ""
	hear(m, "dst", api.Status{Step: 7, Source: "a", Device: "0000:41:00.4", State: api.Made})
	if m.Devices[0].Target != "0000:41:00.4" {
		t.Error("the function that the agent picked is not on record")
	}
}

// TestOwner walks at random: the owner changes at most once, from the source to
// the target, never back; what is over stays as it is; and devices are to be
// removed only from a host that is not the owner.
func TestOwner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := in(api.Planned, rapid.IntRange(1, 3).Draw(t, "devices"))
		m.Claim = "c"
		if rapid.Bool().Draw(t, "claimed") {
			enter(m, api.Claimed, t0, "", "")
		}
		now, moved := t0, false
		var trail []string
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			before := *m
			before.Devices = slices.Clone(m.Devices)
			switch rapid.IntRange(0, 7).Draw(t, "what") {
			case 0:
				handOver(m, now)
			case 1:
				complete(m, now)
			case 2:
				abort(m, now, "")
			case 3:
				lose(m, rapid.SampledFrom([]string{"src", "dst"}).Draw(t, "lost"), now)
			case 4:
				actions := []api.Action{api.Make, api.Keep, api.Hold, api.Release}
				hear(m, rapid.SampledFrom([]string{"src", "dst"}).Draw(t, "ahead"), api.Status{Step: m.Step, Source: m.Devices[0].Source, State: api.Later, Ahead: &api.Ahead{
					Claim: rapid.SampledFrom([]string{"c", "d"}).Draw(t, "claim"), Step: m.Step + 1, Do: rapid.SampledFrom(actions).Draw(t, "do"),
				}})
			case 5:
				now = now.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "seconds")) * time.Second)
			default:
				states := []api.DeviceState{api.Made, api.Busy, api.Failed, api.Kept, api.Gone, api.Stuck}
				hear(m, rapid.SampledFrom([]string{"src", "dst"}).Draw(t, "host"), api.Status{
					Step: m.Step - int64(rapid.IntRange(0, 1).Draw(t, "late")), Source: m.Devices[rapid.IntRange(0, len(m.Devices)-1).Draw(t, "device")].Source,
					State: rapid.SampledFrom(states).Draw(t, "state"),
				})
			}
			for advance(m, facts{now: now, listed: rapid.Bool().Draw(t, "listed"), reporting: rapid.SliceOf(rapid.SampledFrom([]string{"src", "dst"})).Draw(t, "reporting")}) {
			}
			trail = append(trail, string(m.State))
			if err := consistent(m); err != nil {
				t.Fatalf("%v: %s", err, strings.Join(trail, " "))
			}
			if before.State.Over() && m.State != before.State {
				t.Fatalf("%s after %s", m.State, before.State)
			}
			if m.Host != before.Host {
				if moved || m.Host != "dst" {
					t.Fatalf("the owner changed to %s: %s", m.Host, strings.Join(trail, " "))
				}
				moved = true
			}
			for _, host := range []string{"src", "dst"} {
				for _, a := range assignments(m, &api.Claim{ID: "c", Devices: make([]api.ClaimDevice, len(m.Devices))}, host) {
					if a.Do == api.Release && m.Host == host {
						t.Fatalf("%s is to release what it owns, while %s", host, m.State)
					}
				}
			}
		}
	})
}

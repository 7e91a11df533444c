// SPDX-License-Identifier: Apache-2.0

//go:build linux

package callout

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"kindred/definition"
)

// find makes scripts of a machine, by directory and name, and finds them.
func find(t *testing.T, scripts map[string]string) (s *Scripts, shown func() string, root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range scripts {
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var all []string
	s = Find(root, func(text string) { mu.Lock(); all = append(all, text); mu.Unlock() })
	return s, func() string { mu.Lock(); defer mu.Unlock(); return strings.Join(all, "|") }, root
}

const dir = "usr/lib/mdevctl/scripts.d/callouts/"

var dev = For(&definition.Definition{UUID: "11111111-0000-4000-8000-00000000000a", Parent: "p", Type: "t-1", Auto: true})

// hangs ends scripts of that name once they have said in the file that they run,
// and gives all others a minute.
func hangs(s *Scripts, file string) {
	begun := 0
	s.limit = func(ctx context.Context, path string, _ event) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		if filepath.Base(path) != "hangs" {
			return ctx, cancel
		}
		begun++
		ctx, end := context.WithCancelCause(ctx)
		go func(lines int) {
			for ctx.Err() == nil {
				if data, _ := os.ReadFile(file); strings.Count(string(data), "hangs\n") >= lines {
					end(errors.New("it did not end in the test's time"))
				}
				time.Sleep(time.Millisecond)
			}
		}(begun)
		return ctx, cancel
	}
}

// TestHang: what does not end is ended, and what it started with it.
func TestHang(t *testing.T) {
	s, shown, root := find(t, map[string]string{dir + "hangs": "sleep 300 & echo $! hangs >>${0%/*}/../child; wait"})
	child := filepath.Join(root, "usr/lib/mdevctl/scripts.d/child")
	hangs(s, child)
	if attrs, err := s.Attributes(t.Context(), dev); err == nil || attrs != nil {
		t.Errorf("attributes %v, %v", attrs, err)
	}
	if _, err := s.Attributes(t.Context(), dev); err == nil { // not started again
		t.Error("a hanging script was asked twice and answered")
	}
	done := false
	err := s.Do(t.Context(), Start, dev, false, func(*Call) error { done = true; return nil })
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "hangs: it did not end in the test's time, and was ended") || done {
		t.Errorf("a pre callout that hangs: %v, done %t", err, done)
	}
	// Not asked again for another device, which is not allowed either.
	other := For(&definition.Definition{UUID: "11111111-0000-4000-8000-00000000000b", Parent: "p", Type: "t-1", Auto: true})
	err = s.Do(t.Context(), Start, other, false, func(*Call) error { done = true; return nil })
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "hangs: it did not end before, and is not asked again") || done {
		t.Errorf("a pre callout that hung: %v, done %t", err, done)
	}
	if err := s.Do(t.Context(), Start, dev, true, func(*Call) error { done = true; return nil }); err != nil || !done || !strings.Contains(shown(), "start is forced") {
		t.Errorf("forced: %v, done %t, %s", err, done, shown())
	}
	data, err := os.ReadFile(child)
	if err != nil || strings.Count(string(data), "hangs") != 2 { // attributes, pre
		t.Fatalf("children %q, %v", data, err)
	}
	for line := range strings.Lines(string(data)) {
		pid, _, _ := strings.Cut(line, " ")
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			state, err := os.ReadFile("/proc/" + pid + "/stat")
			if err != nil || strings.Contains(string(state), ") Z") {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("the script's child %s lives on: %s", pid, state)
			}
		}
	}
}

// TestLimit: a script may run for a minute, or ten seconds when it is only asked.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for e, want := range map[event]time.Duration{pre: time.Minute, post: time.Minute, notify: time.Minute, live: time.Minute, get: 10 * time.Second} {
			ctx, cancel := Find(t.TempDir(), nil).limit(t.Context(), "", e)
			begin := time.Now()
			<-ctx.Done()
			cancel()
			if took := time.Since(begin); took != want || !strings.Contains(context.Cause(ctx).Error(), want.String()) {
				t.Errorf("%s: %v, %v", e, took, context.Cause(ctx))
			}
		}
	})
}

// TestHungNotifier: one that hangs is told of one device, and holds up no other.
func TestHungNotifier(t *testing.T) {
	s, shown, root := find(t, map[string]string{
		"usr/lib/mdevctl/scripts.d/notifiers/hangs": "echo hangs >>${0%/*}/../told; sleep 300",
		"usr/lib/mdevctl/scripts.d/notifiers/works": "echo works >>${0%/*}/../told",
	})
	told := filepath.Join(root, "usr/lib/mdevctl/scripts.d/told")
	hangs(s, told)
	for range 3 {
		if err := s.Do(t.Context(), Start, dev, false, func(*Call) error { return nil }); err != nil {
			t.Error(err)
		}
	}
	data, err := os.ReadFile(told)
	if text := string(data); err != nil || strings.Count(text, "hangs") != 1 || strings.Count(text, "works") != 3 || strings.Count(shown(), "hangs: it did not end") != 1 {
		t.Errorf("told %q, %v; %s", data, err, shown())
	}
}

// TestGivenUp: a context that ends ends the script.
func TestGivenUp(t *testing.T) {
	s, _, _ := find(t, map[string]string{dir + "hangs": "sleep 300"})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Do(ctx, Define, dev, true, func(*Call) error { t.Error("done"); return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestBackground: a script that leaves something running behind is over when
// it has ended itself, and what it printed is there, however late.
func TestBackground(t *testing.T) {
	s, _, root := find(t, map[string]string{dir + "leaves": "sleep 300 & echo $! >${0%/*}/../child; printf '[{\"a\":\"b\"}]'"})
	begin := time.Now()
	attrs, err := s.Attributes(t.Context(), dev)
	if err != nil || len(attrs) != 1 || time.Since(begin) > time.Minute {
		t.Errorf("%v, %v after %v", attrs, err, time.Since(begin))
	}
	data, err := os.ReadFile(filepath.Join(root, "usr/lib/mdevctl/scripts.d/child"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("what was left behind does not run: %v", err)
	}
}

// TestFlood: endless output is not kept and does not block.
func TestFlood(t *testing.T) {
	s, _, _ := find(t, map[string]string{dir + "flood": "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"})
	if attrs, err := s.Attributes(t.Context(), dev); attrs != nil || err == nil {
		t.Errorf("%v, %v", attrs, err)
	}
}

// TestLongNo: a callout that says no at length has said no.
func TestLongNo(t *testing.T) {
	s, _, _ := find(t, map[string]string{dir + "no": "case $* in *pre*) i=0; while [ $i -lt 20000 ]; do echo " + strings.Repeat("x", 100) + " >&2; i=$((i+1)); done; exit 1;; esac; exit 0"})
	if err := s.Do(t.Context(), Define, dev, false, func(*Call) error { t.Error("done"); return nil }); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
}

// TestAnswers: what get/attributes may print.
func TestAnswers(t *testing.T) {
	for text, want := range map[string]string{
		"exit 2": "", "exit 0": "", "printf '[]'": "", "printf '[{}]'": "", "printf null": "", "echo '[{\"a\":\"1\"},{\"b\":\"2\"}]'": "a=1 b=2", `printf '[{"a":"1"}]\0'`: "a=1",
		"printf '{}'": "error", "printf '[{\"a\":1}]'": "error", "printf '[{\"a\":\"1\",\"b\":\"2\"}]'": "error", "printf '[{\"a\":\"1\"}'": "error", "exit 1": "error", "printf '\\377'": "error", "kill -9 $$": "",
	} {
		s, _, _ := find(t, map[string]string{dir + "a": text})
		attrs, err := s.Attributes(t.Context(), dev)
		var got []string
		for _, a := range attrs {
			got = append(got, a.Name+"="+a.Value)
		}
		if err != nil {
			got = []string{"error"}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
}

// TestChoice: the first that does not say "not mine" is the device's callout;
// a versioned one goes before; the directory since 1.3.0 before the other.
func TestChoice(t *testing.T) {
	answers := func(name string) string { return `printf '[{"` + name + `":""}]'` }
	versioned := func(name string) string {
		return `case $* in *capabilities*) echo '{"supports":{"version":2,"actions":["attributes"],"events":["get"]}}';; *) ` + answers(name) + `;; esac`
	}
	const old = "etc/mdevctl.d/scripts.d/callouts/"
	for name, c := range map[string]struct {
		scripts map[string]string
		want    string
	}{
		"by name":             {map[string]string{dir + "b": answers("b"), dir + "a": answers("a")}, "a"},
		"not mine":            {map[string]string{dir + "b": answers("b"), dir + "a": "exit 2"}, "b"},
		"killed":              {map[string]string{dir + "b": answers("b"), dir + "a": "kill -9 $$"}, "b"},
		"newer directory":     {map[string]string{old + "a": answers("old"), dir + "z": answers("new")}, "new"},
		"both, none its own":  {map[string]string{old + "a": answers("old"), dir + "z": "exit 2"}, "old"},
		"versioned":           {map[string]string{dir + "a": answers("a"), dir + "z": versioned("v")}, "v"},
		"versioned, in old":   {map[string]string{dir + "a": answers("a"), old + "z": versioned("v")}, "v"},
		"not of our version":  {map[string]string{dir + "a": answers("a"), dir + "z": `case $* in *capabilities*) echo '{"supports":{}}';; esac`}, "a"},
		"no program at all":   {map[string]string{dir + "a": answers("a"), dir + "0": ""}, "a"},
		"only one, versioned": {map[string]string{dir + "z": versioned("v")}, "v"},
	} {
		s, shown, root := find(t, c.scripts)
		if name == "no program at all" {
			if err := os.WriteFile(filepath.Join(root, dir, "0"), []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		attrs, err := s.Attributes(t.Context(), dev)
		if err != nil || len(attrs) != 1 || attrs[0].Name != c.want {
			t.Errorf("%s: %v, %v; want %s; %s", name, attrs, err, c.want, shown())
		}
	}
}

// TestPassedOver: what cannot be executed is no script.
func TestPassedOver(t *testing.T) {
	_, _, root := find(t, map[string]string{dir + "README": "", dir + "sub/a": "", dir + "a": ""})
	if err := os.Chmod(filepath.Join(root, dir, "README"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s := Find(root, func(text string) { t.Error(text) }); len(s.callouts) != 1 || filepath.Base(s.callouts[0]) != "a" {
		t.Errorf("callouts %q", s.callouts)
	}
	if !Find(t.TempDir(), func(text string) { t.Error(text) }).None() {
		t.Error("an empty machine has callouts")
	}
}

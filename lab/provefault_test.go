// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"kindred/compat"
)

// TestProveFaults lets real drivers fail, disks fill up and processes be killed
// while proofs are made between two parents of one host. Nothing that goes wrong
// so is recorded as a rejection, and nothing is left.
func TestProveFaults(t *testing.T) {
	ctx, g := bootDriver(t, driverHost("prove-faults", 2))
	canaryHost(ctx, t, g, untriedCatalogs(t))
	sh(ctx, t, g.Client, "modprobe kdx_gen8 scratch_kib=64")
	const typ = "kdx-V4_4"
	params := "/sys/module/kdx_gen8/parameters/"
	left := func(when string) {
		t.Helper()
		// The guard of a killed process may still be at work.
		text := sh(ctx, t, g.Client, `for i in $(seq 600); do
			l=$(ls /sys/bus/mdev/devices /var/lib/kindred/canaries /var/lib/kindred/devices /var/tmp | grep -v : || true)
			[ -z "$l" ] && break; sleep 0.1; done; echo $l; ls /proc/*/fd -l 2>/dev/null | grep -c /dev/vfio/ || true`)
		if text != "0" {
			t.Errorf("%s: left behind: %s", when, text)
		}
	}
	prove := func(args ...string) (code int, results []compat.Proof, stderr string) {
		t.Helper()
		r, err := g.Run(ctx, Cmd{Argv: append([]string{"kindred", "prove", "--type", typ, "-o", "json"}, args...)})
		if err != nil {
			t.Fatal(err)
		}
		var made []struct{ Proof compat.Proof }
		if len(r.Stdout) > 0 {
			if err := json.Unmarshal(r.Stdout, &made); err != nil {
				t.Fatalf("%v in %s", err, r.Stdout)
			}
		}
		for _, m := range made {
			results = append(results, m.Proof)
		}
		return r.ExitCode, results, string(r.Stderr)
	}

	code, made, stderr := prove()
	if code != 0 || len(made) != 1 || made[0].Result != compat.Accepted || !made[0].Verified || made[0].Grade != compat.WorkingState {
		t.Fatalf("without faults: exit code %d, %+v, %s", code, made, stderr)
	}
	left("without faults")

	for _, f := range []struct{ set, value, reset string }{
		{"fault_write_at", "0", "-1"}, {"fault_write_at", "1", "-1"}, {"fault_write_at", "100", "-1"}, {"fault_write_at", "4096", "-1"}, {"fault_write_at", "65536", "-1"},
		{"fault_stop", "1", "0"}, {"short_read", "7", "0"}, {"short_read", "4095", "0"}, {"stall_ms", "3", "0"}, {"precopy_end", "0", "own"}, {"precopy_end", "enomsg", "own"},
	} {
		sh(ctx, t, g.Client, fmt.Sprintf("echo %s > %s%s", f.value, params, f.set))
		code, made, stderr := prove()
		sh(ctx, t, g.Client, fmt.Sprintf("echo %s > %s%s", f.reset, params, f.set))
		want := compat.Inconclusive
		if f.set == "short_read" || f.set == "stall_ms" || f.set == "precopy_end" {
			want = compat.Accepted // slow and odd, and right
		}
		if len(made) != 1 || made[0].Result != want {
			t.Errorf("%s=%s: exit code %d, %+v, %s", f.set, f.value, code, made, stderr)
		}
		left(f.set + "=" + f.value)
	}

	// No room for the recording, and none for the canary.
	sh(ctx, t, g.Client, "mkdir -p /small && mount -t tmpfs -o size=16k small /small")
	if code, made, stderr := prove("--scratch", "/small"); code != 1 || len(made) > 0 || !strings.Contains(stderr, "no space left") {
		t.Errorf("a full disk: exit code %d, %+v, %s", code, made, stderr)
	}
	left("a full disk")
	sh(ctx, t, g.Client, `for p in 0000:00:10.0 0000:00:11.0; do for i in 1 2 3 4; do
		cat /proc/sys/kernel/random/uuid > /sys/class/mdev_bus/$p/mdev_supported_types/`+typ+`/create || break; done; done`)
	if code, made, stderr := prove(); code != 1 || len(made) > 0 || !strings.Contains(stderr, "room") {
		t.Errorf("no room: exit code %d, %+v, %s", code, made, stderr)
	}
	sh(ctx, t, g.Client, "for d in /sys/bus/mdev/devices/*; do echo 1 > $d/remove; done")
	left("no room")

	// Killed and interrupted at many moments: the guard cleans up, and a proof is
	// kept either not at all or, by one that had settled it, whole.
	unsettled := 0
	for i := range 30 {
		signal, delay := "KILL", 0.02+float64(i)*0.04
		if i%3 == 2 {
			signal = "INT"
		}
		when := fmt.Sprintf("SIG%s after %.2f s", signal, delay)
		before := kept(ctx, t, g)
		out := sh(ctx, t, g.Client, fmt.Sprintf("kindred prove --type %s >/tmp/out 2>&1 & p=$!; sleep %.2f; kill -%s $p 2>/dev/null || true; wait $p || echo $?", typ, delay, signal))
		left(when)
		after := kept(ctx, t, g)
		switch {
		case len(after) == len(before) && out != "":
			unsettled++
		case len(after) != len(before)+1:
			t.Errorf("%s: exit code %q, %d proofs before and %d after", when, out, len(before), len(after))
		}
		for _, p := range after[:max(0, len(after)-len(before))] {
			if p.Result != compat.Accepted || !p.Verified || p.Grade != compat.WorkingState {
				t.Errorf("%s: exit code %q, and this was kept: %+v", when, out, p)
			}
		}
	}
	if unsettled == 0 {
		t.Error("no signal came before its proof was settled")
	}
	// The guard killed as well: the next run sweeps.
	sh(ctx, t, g.Client, "kindred prove --type "+typ+" >/dev/null 2>&1 & p=$!; sleep 0.5; for c in /proc/[0-9]*; do [ \"$(cat $c/comm 2>/dev/null)\" != kindred ] || kill -KILL ${c#/proc/}; done; wait $p || true")
	if code, made, stderr := prove(); code != 0 || len(made) != 1 {
		t.Errorf("after all was killed: exit code %d, %s", code, stderr)
	}
	left("after all was killed")
	for _, p := range strings.Fields(sh(ctx, t, g.Client, "grep -l rejected /var/lib/kindred/proofs/* || true")) {
		t.Errorf("%s is a rejection", p)
	}
	cleanLog(ctx, t, g)
}

// kept is the proofs that the guest keeps, the newest first, as read by the
// command: of a file that is torn it would warn.
func kept(ctx context.Context, t *testing.T, g *Guest) []compat.Proof {
	t.Helper()
	var listed []struct{ Proof compat.Proof }
	text := sh(ctx, t, g.Client, "kindred proof list --local -o json 2>&1")
	if err := json.Unmarshal([]byte(text), &listed); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	proofs := make([]compat.Proof, len(listed))
	for i, l := range listed {
		proofs[i] = l.Proof
	}
	return proofs
}

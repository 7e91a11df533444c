// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"kindred/compat"
)

// TestProveMtty proves the kernel's own sample between three builds of it, each
// in a guest of its own: as Debian's compiler makes it, rebuilt, and with another
// minor version of its stream, which the driver compares for equality.
func TestProveMtty(t *testing.T) {
	ctx, a := needLab(t)
	hosts := []Host{{Name: "plain", Modules: []string{"mtty"}}, {Name: "rebuilt", Modules: []string{"mtty-rebuilt"}}, {Name: "newer", Modules: []string{"mtty-newer"}}}
	guests := bootAll(ctx, t, a, hosts...)
	streams := make(map[string][]byte)
	for _, g := range guests {
		canaryHost(ctx, t, g, nil)
		for _, typ := range []string{"mtty-1", "mtty-2"} {
			kindred(ctx, t, g, nil, "stream", "record", "--type", typ, "--out", "/streams/own")
			var err error
			if streams[g.Name+" "+typ], err = g.Get(ctx, "/streams/own"); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A stream from another host is replayed when its key is trusted.
	trust := ""
	for _, g := range guests {
		trust += sh(ctx, t, g.Client, "kindred proof key show") + "\n"
	}
	if err := guests[1].Put(ctx, "/streams/other", 0o600, bytes.NewReader(streams["plain mtty-1"])); err != nil {
		t.Fatal(err)
	}
	r, err := guests[1].Run(ctx, Cmd{Argv: []string{"kindred", "stream", "replay", "/streams/other"}})
	if err != nil || r.ExitCode != 6 || !strings.Contains(string(r.Stderr), "no key signed it that is trusted here") {
		t.Fatalf("a stream that nobody vouches for: %v, exit code %d: %s", err, r.ExitCode, r.Stderr)
	}
	for _, g := range guests {
		sh(ctx, t, g.Client, "mkdir -p /etc/kindred/proof-keys.d")
		if err := g.Put(ctx, "/etc/kindred/proof-keys.d/fleet.pub", 0o644, strings.NewReader(trust)); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]compat.Result{
		"plain plain": compat.Accepted, "rebuilt rebuilt": compat.Accepted, "newer newer": compat.Accepted,
		"plain rebuilt": compat.Accepted, "rebuilt plain": compat.Accepted,
		"plain newer": compat.Rejected, "rebuilt newer": compat.Rejected, "newer plain": compat.Rejected, "newer rebuilt": compat.Rejected,
	}
	for _, to := range guests {
		for from, data := range streams {
			source, typ, _ := strings.Cut(from, " ")
			p := replayInto(ctx, t, to, data)
			if p.Result != want[source+" "+to.Name] || p.Grade != compat.WorkingState || p.Verified != (p.Result == compat.Accepted) {
				t.Errorf("%s of %s to %s: %s (%s), grade %s", typ, source, to.Name, p.Result, p.Detail, p.Grade)
			}
			if p.Result == compat.Rejected && !strings.Contains(p.Detail, "bad address") { // EFAULT
				t.Errorf("%s of %s to %s: refused with %s", typ, source, to.Name, p.Detail)
			}
		}
		if left := sh(ctx, t, to.Client, "ls /sys/bus/mdev/devices /var/lib/kindred/canaries | grep -v : || true"); left != "" {
			t.Errorf("left on %s: %s", to.Name, left)
		}
		cleanLog(ctx, t, to)
	}
}

// replayInto replays a stream in a guest and returns the proof.
func replayInto(ctx context.Context, t *testing.T, g *Guest, data []byte) compat.Proof {
	t.Helper()
	if err := g.Put(ctx, "/streams/other", 0o600, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	var made []struct{ Proof compat.Proof }
	kindred(ctx, t, g, &made, "stream", "replay", "/streams/other", "-o", "json")
	if len(made) != 1 {
		t.Fatalf("%d proofs", len(made))
	}
	return made[0].Proof
}

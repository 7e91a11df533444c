// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kindred/api"
	"kindred/client"
	"kindred/fleet"
	"kindred/inventory"
)

// fleetServer runs kindredd on this machine, where guests reach it as 10.0.2.2.
// The client asks on its socket, as root does.
type fleetServer struct {
	t       *testing.T
	program string
	socket  string
	https   string
	*client.Client
}

func startFleet(ctx context.Context, t *testing.T) *fleetServer {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close() // the server takes it
	s := &fleetServer{t: t, program: filepath.Join(dir, "kindredd"), socket: filepath.Join(dir, "s"), https: fmt.Sprintf("https://10.0.2.2:%d", port)}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", s.program, "kindred/cmd/kindredd").CombinedOutput(); err != nil {
		t.Fatalf("build kindredd: %v: %s", err, out)
	}
	var log bytes.Buffer
	cmd := exec.Command(s.program, "serve", "--data-dir", filepath.Join(dir, "data"), "--socket", s.socket, "--catalogs", dir, "--seal-key", filepath.Join(dir, "seal.key"),
		"--listen", fmt.Sprintf("127.0.0.1:%d", port), "--reach", "10.0.2.2", "--interval", "2s", "--timeout", "20s", "--verbose")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if s.Client, err = client.New([]string{"unix:" + s.socket}, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if err := errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait()); err != nil || t.Failed() {
			t.Logf("kindredd: %v\n%s", err, log.String())
		}
	})
	s.until(ctx, "the server answers", func() bool { _, err := s.Health(ctx); return err == nil })
	return s
}

func (s *fleetServer) until(ctx context.Context, what string, done func() bool) {
	s.t.Helper()
	for end := time.Now().Add(90 * time.Second); !done(); {
		if time.Now().After(end) || ctx.Err() != nil {
			s.t.Fatal("this did not come in time: " + what)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// join brings a guest in: a token, a certificate, an agent that manages.
func (s *fleetServer) join(ctx context.Context, g *Guest) {
	s.t.Helper()
	installKindred(ctx, s.t, g)
	token, err := exec.CommandContext(ctx, s.program, "token", "create", "--host", g.Name, "--server", "unix:"+s.socket).Output()
	if err != nil {
		s.t.Fatal(err)
	}
	sh(ctx, s.t, g.Client, "mkdir -p /etc/kindred")
	for file, text := range map[string]string{"/etc/kindred/policy.yaml": "manage: [{parent: '*', type: 'kdx-*'}]\n", "/token": string(token)} {
		if err := g.Put(ctx, file, 0o600, strings.NewReader(text)); err != nil {
			s.t.Fatal(err)
		}
	}
	sh(ctx, s.t, g.Client, "kindred agent join --server "+s.https+" --token-file - </token && rm /token")
	s.run(ctx, g)
}

// run starts the guest's agent.
func (s *fleetServer) run(ctx context.Context, g *Guest) {
	s.t.Helper()
	sh(ctx, s.t, g.Client, "kindred agent --manage --verbose --poll 1s --server "+s.https+" </dev/null >>/agent.log 2>&1 & echo $! >/agent.pid")
}

// devices are the ids of a guest's devices, read there.
func devices(ctx context.Context, t *testing.T, g *Guest) []string {
	t.Helper()
	return strings.Fields(sh(ctx, t, g.Client, "ls /sys/bus/mdev/devices"))
}

func (s *fleetServer) in(ctx context.Context, id string, state api.MigrationState) *api.Migration {
	s.t.Helper()
	var m *api.Migration
	s.until(ctx, "the migration is "+string(state), func() bool {
		var err error
		if m, err = s.Migration(ctx, id); err != nil {
			s.t.Fatal(err)
		}
		if m.State.Over() && m.State != state {
			s.t.Fatalf("the migration is %s: %s", m.State, m.Reason)
		}
		return m.State == state
	})
	return m
}

// TestFleet: a server on this machine and agents in three guests with real
// kernels and the sample driver, over mutual TLS. An old device's target is
// claimed and prepared on a newer host as the old type, handed over and
// completed; a host of which nobody knows is refused; a migration is aborted half
// way. Agents are killed between. Moving the state is the VM manager's part, which
// is not tried here.
func TestFleet(t *testing.T) {
	ctx, a := needLab(t)
	s := startFleet(ctx, t)
	var hosts []Host
	for _, name := range []string{"gen8", "gen9", "rel20"} {
		h := known(t, name)
		h.Network = &Network{}
		hosts = append(hosts, h)
	}
	guests := bootAll(ctx, t, a, hosts...)
	old, next := guests[0], guests[1]
	t.Cleanup(func() {
		if t.Failed() {
			for _, g := range guests {
				if log, err := g.Get(context.WithoutCancel(ctx), "/agent.log"); err == nil {
					t.Logf("the agent of %s:\n%s", g.Name, log)
				}
			}
		}
	})
	for _, g := range guests {
		s.join(ctx, g)
	}
	s.until(ctx, "three hosts report", func() bool {
		list, err := s.Hosts(ctx)
		return err == nil && len(list) == 3 && !slices.ContainsFunc(list, func(h api.Host) bool { return h.State != api.Reporting || h.Origin != inventory.FromKernel })
	})
	parent := strings.Fields(sh(ctx, t, old.Client, "ls /sys/class/mdev_bus"))[0]
	device := sh(ctx, t, old.Client, "kindred device start --parent "+parent+" --type kdx-V4_4")
	var answer *fleet.Targets
	s.until(ctx, "the device is known", func() bool {
		var err error
		answer, err = s.Targets(ctx, &api.TargetsRequest{Device: device})
		return err == nil
	})
	groups := make(map[string]fleet.Group)
	for _, h := range answer.Hosts {
		groups[h.Host] = h.Group
	}
	if groups["gen9"] != fleet.Ready || groups["rel20"] != fleet.Unsettled {
		t.Fatalf("the targets are %v", groups)
	}
	wish := func(target string) *api.MigrationRequest {
		return &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: []string{device}, Target: target, Owner: "vm", TTL: api.Duration(10 * time.Minute)}}
	}
	if _, err := s.CreateMigration(ctx, "", wish("rel20")); !errors.Is(err, &api.Problem{Code: api.NotSettled}) {
		t.Errorf("rel20: %v", err)
	}

	// Aborted when it is prepared: everything is as before.
	m, err := s.CreateMigration(ctx, "", wish("gen9"))
	if err != nil {
		t.Fatal(err)
	}
	m = s.in(ctx, m.ID, api.Prepared)
	if got := devices(ctx, t, next); len(got) != 1 || got[0] != m.Devices[0].Target {
		t.Errorf("prepared, and gen9 has %q", got)
	}
	if _, err := s.Abort(ctx, m.ID, &api.Abort{Reason: "not today"}); err != nil {
		t.Fatal(err)
	}
	s.in(ctx, m.ID, api.Aborted)
	if here, there := devices(ctx, t, old), devices(ctx, t, next); len(here) != 1 || here[0] != device || len(there) != 0 {
		t.Errorf("aborted, and gen8 has %q, gen9 %q", here, there)
	}

	// To its end, and both agents are killed on the way.
	kill := func(g *Guest) { sh(ctx, t, g.Client, "kill -9 $(cat /agent.pid)") }
	kill(next)
	if m, err = s.CreateMigration(ctx, "", wish("gen9")); err != nil {
		t.Fatal(err)
	}
	s.run(ctx, next)
	s.in(ctx, m.ID, api.Prepared)
	if m, err = s.HandOver(ctx, m.ID); err != nil {
		t.Fatal(err)
	}
	kill(old)
	if _, err := s.Complete(ctx, m.ID); err != nil {
		t.Fatal(err)
	}
	s.run(ctx, old)
	if m = s.in(ctx, m.ID, api.Completed); m.Host != "gen9" {
		t.Errorf("%+v", m)
	}
	if here, there := devices(ctx, t, old), devices(ctx, t, next); len(here) != 0 || len(there) != 1 || there[0] != m.Devices[0].Target {
		t.Errorf("completed, and gen8 has %q, gen9 %q", here, there)
	}
	inv := inspect(ctx, t, next)
	if d := inv.Device(m.Devices[0].Target); d == nil || d.Type.Full() != "kdx-V4_4" || d.Contract == nil || d.Contract.Host != "gen8" {
		t.Errorf("on gen9 it is %+v", d)
	}
	if text := sh(ctx, t, next.Client, "cat /etc/mdevctl.d/*/"+m.Devices[0].Target); !strings.Contains(text, `"kdx-V4_4"`) {
		t.Errorf("its definition is %s", text)
	}
	if claims, err := s.Claims(ctx, false); err != nil || len(claims) != 0 {
		t.Errorf("room is held: %+v, %v", claims, err)
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"kindred/api"
	"kindred/client"
	"kindred/compat"
	"kindred/fleet"
)

// fleetCanary settles a pair of builds of which nobody knows, by a canary that
// the server orders: the state goes from one guest's agent to the other's.
func fleetCanary(t *testing.T, f *labFleet) {
	const device = "83b8f4f2-509f-382f-3c1e-e6bfe0fa5006"
	f.inGuest("poor", "kindred", "device", "start", device, "-p", fleetParent, "-t", fleetType)
	f.reports("poor", device, true)
	f.asks(3, nil, []string{"build.unproven"}, "targets", device, "--explain")
	f.asks(3, nil, []string{"not-settled", "build.unproven"}, "claim", "create", device, "--target", "gen9")
	before := f.all()

	// What a host does not allow is not tried, and an interrupt leaves nothing.
	f.allow("gen9", `manage: [{parent: "*"}]`)
	f.asks(1, nil, []string{"canary-forbidden", "gen9: canaries of " + fleetType + " are not allowed"}, "prove", "--type", fleetType, "--from", "poor", "--to", "gen9")
	f.allow("gen9", allAllowed)
	f.interruptedCanary()
	f.same(before)

	var made []struct {
		Order api.Canary   `json:"order"`
		Proof compat.Proof `json:"proof"`
	}
	f.asks(0, &made, nil, "prove", "--type", fleetType, "--from", "poor", "--to", "gen9/"+fleetParent)
	if p := &made[0].Proof; len(made) != 1 || p.Result != compat.Accepted || p.Grade != compat.WorkingState || !p.Controls || p.Simulated || p.Source.Host != "poor" || p.Target.Host != "gen9" {
		t.Errorf("%+v", made)
	}
	f.same(before)
	f.asks(0, nil, []string{fleetType, "accepted", "working-state"}, "proof", "list", "--host", "poor", "--result", "accepted")
	var answer fleet.Targets
	f.asks(0, &answer, nil, "targets", device)
	if h := answer.Hosts[0]; h.Host != "gen9" || h.Group != fleet.Ready {
		t.Errorf("proved, and first comes %s, %s", h.Host, h.Group)
	}
	for _, who := range []string{"source", "target", "server"} {
		f.canaryKilled(who)
		f.same(before)
	}
	_, m := f.prepare(device, "poor", "gen9")
	f.asks(0, nil, nil, "migration", "abort", m.ID)
	f.gets(m.ID, api.Aborted)
	f.stopped(t, "poor", device)
}

// canary waits until an order is so far, or over.
func (f *labFleet) canary(c *client.Client, id string, enough func(*api.Canary) bool) *api.Canary {
	f.t.Helper()
	one := new(api.Canary)
	f.until("the canary order "+id+" is so far", func() bool {
		got, err := c.Canary(f.ctx, id)
		if err == nil {
			one = got
		}
		return err == nil && (enough(one) || one.State.Over() && one.From.Clear && one.To.Clear)
	})
	return one
}

// canaryKilled has somebody killed in the middle of an order: it is begun again,
// and comes to the same.
func (f *labFleet) canaryKilled(who string) {
	f.t.Helper()
	c, err := client.New([]string{"unix:" + f.file("sock")}, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	one, err := c.CreateCanary(f.ctx, "", &api.CanaryRequest{From: api.CanarySpot{Host: "poor"}, To: api.CanarySpot{Host: "gen9"}, Type: fleetType})
	if err != nil {
		f.t.Fatal(err)
	}
	begun := 1
	switch who {
	case "source":
		f.canary(c, one.ID, func(c *api.Canary) bool { return c.From.Phase == api.CanaryWorking })
		f.killAgent("poor")
		f.startAgent("poor")
		begun = 2
	case "target":
		f.canary(c, one.ID, func(c *api.Canary) bool { return c.To.Phase == api.CanaryReceived })
		f.killAgent("gen9")
		f.startAgent("gen9")
		begun = 2
	case "server":
		f.canary(c, one.ID, func(c *api.Canary) bool { return c.From.Phase == api.CanaryRecorded })
		f.server.kill()
		f.startServer()
	}
	one = f.canary(c, one.ID, func(*api.Canary) bool { return false })
	if one.State != api.CanarySettled || one.Result != compat.Accepted || one.Begun != begun {
		f.t.Errorf("the %s was killed: %+v", who, one)
	}
}

// interruptedCanary interrupts who waits for an order.
func (f *labFleet) interruptedCanary() {
	f.t.Helper()
	cmd := exec.CommandContext(f.ctx, f.file("kindred"), "prove", "--type", fleetType, "--from", "poor", "--to", "gen9")
	cmd.Env = []string{"KINDRED_SERVER=unix:" + f.file("sock"), "HOME=" + f.file("home")}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	c, err := client.New([]string{"unix:" + f.file("sock")}, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	f.until("the interrupted order has begun", func() bool {
		list, err := c.Canaries(f.ctx, false)
		return err == nil && len(list) == 1 && list[0].From.Phase != ""
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		f.t.Fatal(err)
	}
	_ = cmd.Wait() // its exit code is looked at
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		f.t.Errorf("interrupted: exit code %d", code)
	}
}

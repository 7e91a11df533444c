// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"testing"

	"kindred/api"
	"kindred/compat"
)

// TestVMUnits runs the packaged units under a systemd that is process 1, in their
// sandboxes: the agent reports, prepares what it is assigned, moves states, and is
// started again when it hangs or is killed; the server comes up and keeps what it
// knows.
func TestVMUnits(t *testing.T) {
	image := needVMs(t)
	old, young := known(t, "gen8-open"), known(t, "gen9-open")
	old.Name, young.Name = "gen8", "gen9"
	for _, h := range []*Host{&old, &young} {
		h.Disk, h.Memory = image, 1024 // both have QEMU and libvirt, and devices can go back
	}
	young.Systemd = true
	f := newFleet(t, old, young)
	f.killAgent("gen9") // the unit is its agent from here on
	f.installUnits("gen9")
	u := &units{f, "gen9"}
	t.Cleanup(u.explain)

	u.inGuest("gen9", "systemctl", "start", "kindred-agent")
	u.reports("gen9", fleetDevice, false)
	u.inGuest("gen8", "kindred", "device", "start", fleetDevice, "-p", fleetParent, "-t", fleetType, "--attr", "weight=3")
	u.reports("gen8", fleetDevice, true)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *units)
	}{
		{"verified", unitsVerified}, {"migration", unitsMigrate}, {"canary", unitsCanary}, {"killed", unitsKilled}, {"hung", unitsHung}, {"stopped", unitsStopped}, {"server", unitsServer},
	} {
		t.Run(part.name, func(t *testing.T) {
			here := *f
			here.t = t
			part.run(t, &units{&here, u.host})
		})
	}
	cleanLog(f.ctx, t, f.guests["gen9"])
}

// units are those of one host of a fleet.
type units struct {
	*labFleet
	host string
}

// installUnits does what docs/agents.md and docs/fleet.md say.
func (f *labFleet) installUnits(host string) {
	f.t.Helper()
	put := func(name string, mode os.FileMode, data []byte) {
		f.t.Helper()
		if err := f.guests[host].Put(f.ctx, name, mode, bytes.NewReader(data)); err != nil {
			f.t.Fatal(err)
		}
	}
	for _, name := range []string{"kindred-agent.service", "kindredd.service"} {
		unit, err := os.ReadFile("../packaging/systemd/" + name)
		if err != nil {
			f.t.Fatal(err)
		}
		put("/etc/systemd/system/"+name, 0o644, unit)
	}
	server, err := os.ReadFile(f.file("kindredd"))
	if err != nil {
		f.t.Fatal(err)
	}
	put("/usr/bin/kindredd", 0o755, server)
	put("/etc/kindred/agent.env", 0o644, []byte("KINDRED_SERVER=https://"+f.outside()+
		"\nKINDRED_AGENT_FLAGS=--manage --verbose --poll 1s --canary-listen 0.0.0.0:"+strconv.Itoa(canaryPort)+" --canary-reach "+f.reach[host]+"\n"))
	put("/etc/kindred/server.env", 0o644, []byte("KINDREDD_FLAGS=--listen 127.0.0.1:7443 --reach 127.0.0.1\n"))
	// Hanging is to be noticed sooner than in a minute.
	put("/etc/systemd/system/kindred-agent.service.d/lab.conf", 0o644, []byte("[Service]\nWatchdogSec=15\n"))
	f.inGuest(host, "systemctl", "daemon-reload")
}

// is waits for a property of a unit.
func (u *units) is(unit, property, want string) {
	u.t.Helper()
	u.until(unit+" has "+property+"="+want, func() bool { return u.show(unit, property) == want })
}

func (u *units) show(unit, property string) string {
	u.t.Helper()
	return sh(u.ctx, u.t, u.guests[u.host].Client, "systemctl show --value -p "+property+" "+unit)
}

// explain shows what the units said, when the test failed.
func (u *units) explain() {
	if u.t.Failed() {
		r, err := u.guests[u.host].Run(context.WithoutCancel(u.ctx), Cmd{Argv: []string{"sh", "-c", "journalctl -b --no-pager -n 80 -u kindred-agent -u kindredd; systemctl --failed --no-pager"}})
		u.t.Logf("the units of %s: %v\n%s", u.host, err, r.Stdout)
	}
}

// unitsVerified: systemd understands every line, and what it is told restricts.
func unitsVerified(t *testing.T, u *units) {
	if said := sh(u.ctx, t, u.guests[u.host].Client, "systemd-analyze verify --man=no kindred-agent.service kindredd.service 2>&1 | grep kindred || true"); said != "" {
		t.Error(said)
	}
	for _, unit := range []string{"kindred-agent", "kindredd"} {
		t.Log(sh(u.ctx, t, u.guests[u.host].Client, "systemd-analyze security --no-pager "+unit+" 2>&1 | tail -n 1"))
	}
	pid := u.show("kindred-agent", "MainPID")
	if said := sh(u.ctx, t, u.guests[u.host].Client, "grep -E '^(NoNewPrivs|Seccomp):' /proc/"+pid+"/status | tr -s '[:space:]' ' '"); said != "NoNewPrivs: 1 Seccomp: 2 " && said != "NoNewPrivs: 1 Seccomp: 2" {
		t.Errorf("the agent runs with %q", said)
	}
}

// unitsMigrate: a device comes, is defined, and goes back.
func unitsMigrate(t *testing.T, u *units) {
	device, from, to := fleetDevice, "gen8", "gen9"
	for range 2 {
		_, m := u.prepare(device, from, to)
		target := m.Devices[0].Target
		u.asks(0, nil, nil, "migration", "hand-over", m.ID)
		u.asks(0, nil, nil, "migration", "complete", m.ID)
		u.gets(m.ID, api.Completed)
		if u.there(from, device) || !u.there(to, target) {
			t.Errorf("%s still has the device, or %s has not", from, to)
		}
		u.defined(t, to, target)
		u.reports(to, target, true)
		device, from, to = target, to, from
	}
	u.inGuest("gen8", "kindred", "device", "stop", device)
	u.inGuest("gen8", "kindred", "device", "undefine", device)
}

// unitsCanary: the sandboxed agent opens devices and takes and gives their state.
func unitsCanary(t *testing.T, u *units) {
	before := u.all()
	for _, way := range [][2]string{{"gen8", "gen9"}, {"gen9", "gen8"}} {
		var made []struct {
			Proof compat.Proof `json:"proof"`
		}
		u.asks(0, &made, nil, "prove", "--type", fleetType, "--from", way[0], "--to", way[1])
		if len(made) != 1 || made[0].Proof.Result != compat.Accepted {
			t.Errorf("%v: %+v", way, made)
		}
	}
	u.same(before)
}

// unitsKilled: it is started again, and goes on.
func unitsKilled(t *testing.T, u *units) {
	pid := u.show("kindred-agent", "MainPID")
	u.inGuest(u.host, "kill", "-9", pid)
	u.is("kindred-agent", "NRestarts", "1")
	u.is("kindred-agent", "ActiveState", "active")
	u.goesOn(t)
}

// goesOn has the agent make a device and take it away again.
func (u *units) goesOn(t *testing.T) {
	t.Helper()
	u.inGuest("gen8", "kindred", "device", "start", fleetDevice, "-p", fleetParent, "-t", fleetType)
	u.reports("gen8", fleetDevice, true)
	_, m := u.prepare(fleetDevice, "gen8", "gen9")
	u.asks(0, nil, nil, "migration", "abort", m.ID)
	u.gets(m.ID, api.Aborted)
	u.inGuest("gen8", "kindred", "device", "stop", fleetDevice)
	u.reports("gen8", fleetDevice, false)
}

// unitsHung: an agent that does nothing any more is ended by the watchdog.
func unitsHung(t *testing.T, u *units) {
	pid := u.show("kindred-agent", "MainPID")
	u.inGuest(u.host, "kill", "-STOP", pid)
	u.is("kindred-agent", "NRestarts", "2")
	u.is("kindred-agent", "ActiveState", "active")
	if now := u.show("kindred-agent", "MainPID"); now == pid {
		t.Errorf("the process that hung is still %s", now)
	}
	u.goesOn(t)
}

// unitsStopped: it ends by itself, and cleanly.
func unitsStopped(t *testing.T, u *units) {
	u.inGuest(u.host, "systemctl", "stop", "kindred-agent")
	if result := u.show("kindred-agent", "Result"); result != "success" {
		t.Errorf("it stopped with %s", result)
	}
}

// unitsServer: the server's own unit, with its etcd and its authority.
func unitsServer(t *testing.T, u *units) {
	u.inGuest(u.host, "systemctl", "start", "kindredd")
	g := u.guests[u.host].Client
	for _, again := range []bool{false, true} {
		if again {
			u.inGuest(u.host, "systemctl", "restart", "kindredd")
		}
		if said := sh(u.ctx, t, g, "kindredd token create --host "+u.host); strings.TrimSpace(said) == "" {
			t.Error("no token")
		}
		if mode := sh(u.ctx, t, g, "stat -c %a /var/lib/kindred/server /etc/kindred/seal.key"); mode != "700\n600" {
			t.Errorf("the modes of its data and its key are %q", mode)
		}
	}
	u.inGuest(u.host, "systemctl", "stop", "kindredd")
	if result := u.show("kindredd", "Result"); result != "success" {
		t.Errorf("it stopped with %s", result)
	}
}

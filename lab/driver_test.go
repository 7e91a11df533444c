// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kindred/lab/internal/truth"
)

const driverModules = "/lib/modules/*/extra"

// driverHost is a machine on which every build of the driver can be loaded, one after
// the other: it has the PCI functions some of them want, and none is loaded yet.
func driverHost(name string, pci int) Host {
	h := Host{Name: name, Modules: []string{DriverPrefix + "nomig"}, Memory: 768}
	for i := range pci {
		h.QEMUArgs = append(h.QEMUArgs, "-device", fmt.Sprintf("edu,addr=0x%x", 0x10+i))
	}
	return h
}

// bootDriver boots it with the probe in it.
func bootDriver(t *testing.T, h Host) (context.Context, *Guest) {
	t.Helper()
	ctx, a := needLab(t)
	program := filepath.Join(t.TempDir(), "probe")
	if err := BuildStatic(ctx, "kindred/lab/driver/probe", program); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	g := bootAll(ctx, t, a, h)[0]
	if err := g.Put(ctx, "/usr/bin/probe", 0o755, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	sh(ctx, t, g.Client, "for m in $(lsmod | grep -o '^kdx_[a-z0-9]*'); do rmmod $m; done")
	return ctx, g
}

// badLine is what a kernel says when something is wrong with a driver.
var badLine = regexp.MustCompile(`(?i)\bBUG\b|oops|WARNING|leak|Call Trace|hung_task|blocked for more|use-after-free|refcount|general protection|sysfs: cannot|Unable to handle|scheduling while atomic|rcu.*stall|soft lockup|bad page|Tried to`)

// cleanLog fails the test for every line of the kernel's log that should not be there.
func cleanLog(ctx context.Context, t *testing.T, g *Guest) {
	t.Helper()
	log, err := g.KernelLog(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if badLine.MatchString(line) && !strings.Contains(line, "module verification failed") {
			t.Errorf("the kernel said: %s", strings.TrimSpace(line))
		}
	}
}

// probe runs the probe, which must succeed, and returns what it printed.
func probe(ctx context.Context, t *testing.T, g *Guest, args ...string) []byte {
	t.Helper()
	r, err := g.Run(ctx, Cmd{Argv: append([]string{"probe"}, args...)})
	if err != nil {
		t.Fatal(err)
	}
	if r.ExitCode != 0 {
		t.Fatalf("probe %v: exit code %d: %s", args, r.ExitCode, r.Stderr)
	}
	if len(r.Stderr) > 0 {
		t.Logf("probe %v: %s", args, r.Stderr)
	}
	return r.Stdout
}

func truthPlan(t *testing.T, modules string) truth.Plan {
	t.Helper()
	builds, err := DriverBuilds()
	if err != nil {
		t.Fatal(err)
	}
	plan := truth.Plan{Modules: modules}
	for _, b := range builds {
		add := func(name, params string) {
			plan.Builds = append(plan.Builds, truth.Build{
				Name: name, Module: b.Module(), Params: params, Namespace: b.Namespace, Dialect: b.Dialect, Types: b.Types,
			})
		}
		add(b.Name, "")
		if b.Name == "param" { // its parameter makes it another
			add("param1", "layout=1")
		}
	}
	return plan
}

// TestDriverTruth makes the table of what the driver really accepts, and compares it
// with the one in the source tree; -update writes that.
func TestDriverTruth(t *testing.T) {
	ctx, g := bootDriver(t, driverHost("truth", 1))
	plan := truthPlan(t, sh(ctx, t, g.Client, "echo "+driverModules))
	data, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Put(ctx, "/tmp/plan", 0o644, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	var table truth.Table
	if err := json.Unmarshal(probe(ctx, t, g, "truth", "/tmp/plan"), &table); err != nil {
		t.Fatal(err)
	}
	cleanLog(ctx, t, g)
	made, err := table.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"driver/truth.json": made, "driver/truth.md": table.Markdown()} {
		if *update {
			if err := os.WriteFile(name, got, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(got, want) {
			continue
		}
		old := map[string]bool{}
		for line := range strings.Lines(string(want)) {
			old[line] = true
		}
		for line := range strings.Lines(string(got)) {
			if !old[line] {
				t.Errorf("%s: now %s", name, strings.TrimSpace(line))
			}
		}
		t.Errorf("%s is not what the driver does now; -update writes it", name)
	}
}

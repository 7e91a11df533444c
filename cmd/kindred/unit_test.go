// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kindred/definition"
	"kindred/host/record"
)

const agentUnit = "../../packaging/systemd/kindred-agent.service"

// unitSettings are the settings of a unit's service, each with its words.
func unitSettings(t *testing.T, file string) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, service, _ := strings.Cut(string(data), "\n[Service]\n")
	service, _, _ = strings.Cut(service, "\n[Install]\n")
	settings := make(map[string][]string)
	for line := range strings.Lines(service) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			settings[key] = append(settings[key], strings.Fields(value)...)
		}
	}
	return settings
}

// TestUnitWrites: under its unit, for which the file system is read-only, an
// agent may write all files that it writes, and what it has to find exists.
func TestUnitWrites(t *testing.T) {
	settings := unitSettings(t, agentUnit)
	if !slices.Equal(settings["ProtectSystem"], []string{"strict"}) {
		t.Fatalf("ProtectSystem is %v", settings["ProtectSystem"])
	}
	// systemd.exec(5): these are made, and writable; one of ConfigurationDirectory is
	// made, and a path of ReadWritePaths has to exist.
	made, writable := []string{}, []string{}
	for key, at := range map[string]string{"StateDirectory": "/var/lib/", "RuntimeDirectory": "/run/", "ConfigurationDirectory": "/etc/"} {
		for _, name := range settings[key] {
			made = append(made, at+name)
			if key != "ConfigurationDirectory" {
				writable = append(writable, at+name)
			}
		}
	}
	for _, path := range settings["ReadWritePaths"] {
		if !slices.Contains(made, path) {
			t.Errorf("%s is to be writable, and is not made: the unit does not start without it", path)
		}
		writable = append(writable, path)
	}

	root := t.TempDir()
	definitions, err := definition.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer definitions.Close()
	if err := definitions.Define(t.Context(), &definition.Definition{Parent: "0000:00:02.0", UUID: "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", Type: "t"}); err != nil {
		t.Fatal(err)
	}
	records, err := record.OpenStore(root)
	if err != nil {
		t.Fatal(err)
	}
	defer records.Close()
	if err := records.Put("a", record.Device{}); err != nil {
		t.Fatal(err)
	}
	files := []string{agentCredentials, agentJournal}
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files = append(files, strings.TrimPrefix(path, root))
		}
		return err
	})
	if err != nil || len(files) < 5 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		if !slices.ContainsFunc(writable, func(dir string) bool { return strings.HasPrefix(file, dir+"/") }) {
			t.Errorf("%s cannot be written", file)
		}
	}
	// Others on the host wait for the same lock: it stays when the agent ends.
	if !slices.Equal(settings["RuntimeDirectoryPreserve"], []string{"yes"}) {
		t.Error("/run/kindred goes with the agent")
	}
}

// TestUnits: systemd knows all that the units say.
func TestUnits(t *testing.T) {
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze here")
	}
	units, err := filepath.Glob("../../packaging/systemd/*.service")
	if err != nil || len(units) == 0 {
		t.Fatal(units, err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, unit := range units {
		data, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		// The programs are not installed here: this one is a program.
		text := strings.NewReplacer("/usr/bin/kindredd ", self+" ", "/usr/bin/kindred ", self+" ").Replace(string(data))
		if text == string(data) {
			t.Errorf("%s starts none of the programs", unit)
		}
		copied := filepath.Join(t.TempDir(), filepath.Base(unit))
		if err := os.WriteFile(copied, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), verify, "verify", "--man=no", copied).CombinedOutput()
		if err != nil || strings.Contains(string(out), filepath.Base(unit)) {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}

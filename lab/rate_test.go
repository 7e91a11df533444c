// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRate measures how fast a real device's 256 MiB go through Save and Load with
// a stream, beside bare loops on the data fd. It asserts nothing but that all
// arrives: KINDRED_LAB_RATE=1 KINDRED_LAB=1 go test ./lab -run TestRate -v.
func TestRate(t *testing.T) {
	if os.Getenv("KINDRED_LAB_RATE") == "" {
		t.Skip("a measurement: KINDRED_LAB_RATE=1 runs it")
	}
	h := driverHost("rate", 1)
	h.Memory = 2048
	ctx, g := bootDriver(t, h)
	program := filepath.Join(t.TempDir(), "rate")
	if err := BuildStatic(ctx, "kindred/lab/driver/rate", program); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Put(ctx, "/usr/bin/rate", 0o755, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	sh(ctx, t, g.Client, "modprobe kdx_gen8 scratch_kib=262144")
	for _, id := range []string{sourceDevice, targetDevice} {
		sh(ctx, t, g.Client, "echo "+id+" > /sys/class/mdev_bus/0000:00:10.0/mdev_supported_types/kdx-V4_4/create")
	}
	r, err := g.Run(ctx, Cmd{Argv: []string{"rate", sourceDevice, targetDevice}})
	if err != nil || r.ExitCode != 0 {
		t.Fatalf("%v, exit code %d: %s", err, r.ExitCode, strings.TrimSpace(string(r.Stderr)))
	}
	var rates struct {
		Bytes                               int64
		BareRead, Record, BareWrite, Replay float64
	}
	if err := json.Unmarshal(r.Stdout, &rates); err != nil {
		t.Fatal(err)
	}
	if rates.Bytes < 256<<20 {
		t.Errorf("%d bytes went through", rates.Bytes)
	}
	t.Logf("%d MiB: bare read %.0f MiB/s, record %.0f (%.2f); bare write %.0f, replay %.0f (%.2f)", rates.Bytes>>20,
		rates.BareRead, rates.Record, rates.Record/rates.BareRead, rates.BareWrite, rates.Replay, rates.Replay/rates.BareWrite)
	cleanLog(ctx, t, g)
}

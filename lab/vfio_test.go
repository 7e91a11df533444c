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
	"slices"
	"strings"
	"testing"
	"time"

	"kindred/lab/internal/truth"
)

// installTransfer puts the program that uses package host/vfio into a guest.
func installTransfer(ctx context.Context, t *testing.T, g *Guest) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "transfer")
	if err := BuildStatic(ctx, "kindred/lab/driver/transfer", program); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Put(ctx, "/usr/bin/transfer", 0o755, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

// transfer runs it. Whatever it did, it must have closed all it opened, and nobody
// must find the device half way.
func transfer(ctx context.Context, t *testing.T, g *Guest, args ...string) truth.Report {
	t.Helper()
	// A program that made a driver oops does not come back.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	r, err := g.Run(ctx, Cmd{Argv: append([]string{"transfer"}, args...)})
	if err != nil {
		t.Fatalf("transfer %v: %v", args, err)
	}
	if r.ExitCode != 0 {
		t.Fatalf("transfer %v: exit code %d: %s", args, r.ExitCode, r.Stderr)
	}
	var report truth.Report
	if err := json.Unmarshal(r.Stdout, &report); err != nil {
		t.Fatalf("transfer %v: %v in %q", args, err, r.Stdout)
	}
	if report.Left != 0 {
		t.Errorf("transfer %v left %d descriptors", args, report.Left)
	}
	want := "RUNNING"
	switch {
	case report.Failed == "not migratable", report.Errno == "ENOTTY":
		want = "no state"
	case report.Failed == "busy", report.Failed == "no device":
		want = "not opened"
	}
	if report.Closed != want {
		t.Errorf("transfer %v: after it the device is %s, want %s", args, report.Closed, want)
	}
	return report
}

// The devices of these tests.
const (
	sourceDevice = "6b647800-0000-4000-8000-000000000001"
	targetDevice = "6b647800-0000-4000-8000-000000000002"
)

// withDevices creates devices of a type of the loaded driver, and removes them.
func withDevices(ctx context.Context, t *testing.T, g *Guest, id string, do func(), uuids ...string) {
	t.Helper()
	for _, uuid := range uuids {
		sh(ctx, t, g.Client, fmt.Sprintf("set -- /sys/class/mdev_bus/*/mdev_supported_types/%s; echo %s > $1/create", id, uuid))
	}
	do()
	for _, uuid := range uuids {
		sh(ctx, t, g.Client, "echo 1 > /sys/bus/mdev/devices/"+uuid+"/remove")
	}
}

// withBuild loads a build of our driver for as long as do takes.
func withBuild(ctx context.Context, t *testing.T, g *Guest, build, params string, do func()) {
	t.Helper()
	module, params := "kdx_"+build, params
	if build == "param1" {
		module, params = "kdx_param", "layout=1 "+params
	}
	sh(ctx, t, g.Client, "modprobe "+module+" scratch_kib=4 "+params)
	do()
	// The kernel puts the release of files off.
	sh(ctx, t, g.Client, "n=0; until rmmod "+module+" 2>/dev/null; do n=$((n+1)); test $n -lt 6000; usleep 10000; done")
}

// TestVFIO is package host/vfio on a real kernel, against what drivers do.
func TestVFIO(t *testing.T) {
	ctx, g := bootDriver(t, driverHost("vfio", 1))
	installTransfer(ctx, t, g)
	table := readTruth(t)
	for _, test := range []struct {
		name string
		run  func(context.Context, *testing.T, *Guest, *truth.Table)
	}{
		{"every dialect", vfioDialects},
		{"refusals", vfioRefusals},
		{"faults", vfioFaults},
		{"mtty", vfioMtty},
		{"what cannot be opened", vfioOpen},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(ctx, t, g, table) })
	}
	cleanLog(ctx, t, g)
}

func readTruth(t *testing.T) *truth.Table {
	t.Helper()
	data, err := os.ReadFile("driver/truth.json")
	if err != nil {
		t.Fatal(err)
	}
	table := &truth.Table{}
	if err := json.Unmarshal(data, table); err != nil {
		t.Fatal(err)
	}
	return table
}

// recording is where a guest keeps the stream that a source gave.
func recording(s truth.Stream) string { return "/tmp/stream-" + s.Build + "-" + s.Type }

// vfioDialects saves a device of each dialect and loads it into another of the same
// build, and compares what the driver said before with what came.
func vfioDialects(ctx context.Context, t *testing.T, g *Guest, table *truth.Table) {
	seen := map[string]bool{}
	for _, s := range table.Streams {
		if s.None != "" || seen[s.Dialect] {
			continue
		}
		seen[s.Dialect] = true
		t.Run(s.Dialect, func(t *testing.T) {
			withBuild(ctx, t, g, s.Build, "", func() {
				withDevices(ctx, t, g, s.ID, func() {
					saved := transfer(ctx, t, g, "save", sourceDevice, recording(s))
					if saved.Failed != "" || saved.Bytes != int64(s.Size) || saved.Said != s.Said || saved.Initial != s.Initial || saved.State != "STOP" {
						t.Errorf("saving: %+v, want %d bytes, %d said, %d of them initial", saved, s.Size, s.Said, s.Initial)
					}
					if saved.PreCopy < int64(s.Initial) {
						t.Errorf("%d bytes in PRE_COPY, and %d should be read there", saved.PreCopy, s.Initial)
					}
					// The source lost its state when it was closed: the driver gives a new
					// device to each opener.
					loaded := transfer(ctx, t, g, "load", targetDevice, recording(s))
					if loaded.Failed != "" || loaded.Bytes != saved.Bytes || loaded.Visible != saved.Visible || loaded.State != "RUNNING" {
						t.Errorf("loading: %+v\nsaved: %+v", loaded, saved)
					}
					at := transfer(ctx, t, g, "save", "-skip-precopy", sourceDevice, recording(s)+"-short")
					if at.Failed != "" || at.PreCopy != 0 || at.Bytes == 0 || at.State != "STOP" {
						t.Errorf("without PRE_COPY: %+v", at)
					}
				}, sourceDevice, targetDevice)
			})
		})
	}
	if len(seen) < 8 {
		t.Errorf("only the dialects %v", seen)
	}
}

// vfioRefusals gives targets what the table says that they refuse: of each dialect
// one of each place and errno.
func vfioRefusals(ctx context.Context, t *testing.T, g *Guest, table *truth.Table) {
	streams := map[string]truth.Stream{}
	for _, s := range table.Streams {
		streams[s.Name()] = s
	}
	seen := map[string]bool{}
	var pairs []truth.Pair
	for _, p := range table.Pairs {
		from, to := streams[p.From], streams[p.To]
		// nomig is of the dialect window, and is below all.
		key := fmt.Sprint(from.Dialect, p.Where, p.Errno, to.None)
		if p.Outcome != truth.Refused || from.Dialect != to.Dialect || seen[key] {
			continue
		}
		seen[key] = true
		pairs = append(pairs, p)
	}
	dialects := map[string]bool{}
	recorded := map[string]bool{}
	for _, p := range pairs {
		from, to := streams[p.From], streams[p.To]
		dialects[from.Dialect] = true
		t.Run(fmt.Sprintf("%s to %s", p.From, p.To), func(t *testing.T) {
			if !recorded[p.From] {
				recorded[p.From] = true
				withBuild(ctx, t, g, from.Build, "", func() {
					withDevices(ctx, t, g, from.ID, func() {
						transfer(ctx, t, g, "save", sourceDevice, recording(from))
					}, sourceDevice)
				})
			}
			withBuild(ctx, t, g, to.Build, "", func() {
				withDevices(ctx, t, g, to.ID, func() {
					got := transfer(ctx, t, g, "load", "-piece", "1", targetDevice, recording(from))
					step, at, then := "write", int64(p.Byte), "RESUMING"
					switch p.Where {
					case truth.AtStop:
						step, at = "commit", int64(from.Size)
					case truth.AtStart: // before RESUMING is asked for
						step, at, then = "ask", 0, "ERROR"
					}
					if got.Failed != "refused" && got.Failed != "not migratable" || got.Step != step || got.At != at || got.Errno != p.Errno {
						t.Errorf("%+v\nwant step %s, byte %d, %s", got, step, at, p.Errno)
					}
					if got.Then != then && step != "commit" || p.Where != truth.AtStart && got.State != "RUNNING" {
						t.Errorf("right after it the device was in %s, then in %s; want %s and RUNNING", got.Then, got.State, then)
					}
				}, targetDevice)
			})
		})
	}
	if len(dialects) < 8 {
		t.Errorf("only refusals of %v", dialects)
	}
}

// vfioFaults switches the driver's faults on.
func vfioFaults(ctx context.Context, t *testing.T, g *Guest, _ *truth.Table) {
	fault := func(name, value string) {
		sh(ctx, t, g.Client, "echo "+value+" > /sys/module/kdx_rel11/parameters/"+name)
	}
	save := func(args ...string) truth.Report {
		return transfer(ctx, t, g, append(append([]string{"save"}, args...), sourceDevice, "/tmp/rel11")...)
	}
	load := func(args ...string) truth.Report {
		return transfer(ctx, t, g, append(append([]string{"load"}, args...), targetDevice, "/tmp/rel11")...)
	}
	withBuild(ctx, t, g, "rel11", "", func() {
		withDevices(ctx, t, g, "kdx-V4_4", func() {
			whole := save()

			fault("fault_write_at", "5000")
			if r := load("-piece", "1"); r.Failed != "refused" || r.Step != "write" || r.At != 5000 || r.Errno != "EIO" || r.Then != "RESUMING" || r.State != "RUNNING" {
				t.Errorf("fault_write_at: %+v", r)
			}
			// The offset is that of the write, as it was made.
			if r := load(); r.At != 0 || r.Errno != "EIO" {
				t.Errorf("fault_write_at, in one write: %+v", r)
			}
			fault("fault_write_at", "-1")

			fault("fault_stop", "1")
			if r := load(); r.Failed != "refused" || r.Step != "commit" || r.At != whole.Bytes || r.Errno != "EIO" || r.State != "RUNNING" {
				t.Errorf("fault_stop: %+v", r)
			}
			fault("fault_stop", "0")

			fault("short_read", "10")
			if r := save(); r.Failed != "" || r.Bytes != whole.Bytes || r.Visible != whole.Visible {
				t.Errorf("short_read: %+v", r)
			}
			fault("short_read", "0")

			for _, end := range []string{"0", "enomsg"} {
				fault("precopy_end", end)
				if r := save(); r.Failed != "" || r.Bytes != whole.Bytes || r.PreCopy != whole.PreCopy || r.PreCopy == 0 {
					t.Errorf("precopy_end=%s: %+v", end, r)
				}
			}
			fault("precopy_end", "own")

			// Every read and write takes 300 ms, and a signal would end it.
			fault("stall_ms", "300")
			if r := save(); r.Failed != "" || r.Bytes != whole.Bytes || r.Took < 600 {
				t.Errorf("stall_ms: %+v", r)
			}
			if r := save("-timeout", "100ms"); r.Failed != "ended" || r.Errno != "" || r.State != "RUNNING" || r.Took > 3000 {
				t.Errorf("stall_ms, saving ended: %+v", r)
			}
			// A read before may have been cut.
			fault("stall_ms", "0")
			save()
			fault("stall_ms", "300")
			if r := load("-timeout", "100ms"); r.Failed != "ended" || r.State != "RUNNING" || r.Took > 3000 {
				t.Errorf("stall_ms, loading ended: %+v", r)
			}
			fault("stall_ms", "0")
			if r := load(); r.Failed != "" || r.Visible != whole.Visible {
				t.Errorf("after all faults: %+v", r)
			}
		}, sourceDevice, targetDevice)
	})
}

// vfioMtty is the kernel's own sample driver.
func vfioMtty(ctx context.Context, t *testing.T, g *Guest, _ *truth.Table) {
	sh(ctx, t, g.Client, "modprobe mtty; modprobe mdpy")
	const one = "6b647800-0000-4000-8000-000000000003"
	withDevices(ctx, t, g, "mtty-2", func() {
		vfioMttyWith(ctx, t, g)
		withDevices(ctx, t, g, "mtty-1", func() {
			if r := transfer(ctx, t, g, "load", "-piece", "1", one, "/tmp/mtty"); r.Failed != "refused" || r.Step != "write" || r.Errno != "EFAULT" || r.At != 23 {
				t.Errorf("an mtty-2 into an mtty-1, byte by byte: %+v", r)
			}
			if r := transfer(ctx, t, g, "load", one, "/tmp/mtty"); r.Failed != "refused" || r.Step != "write" || r.Errno != "ENOMEM" || r.At != 0 {
				t.Errorf("an mtty-2 into an mtty-1, at once: %+v", r)
			}
		}, one)
		sh(ctx, t, g.Client, "head -c 95 /tmp/mtty > /tmp/cut")
		if r := transfer(ctx, t, g, "load", targetDevice, "/tmp/cut"); r.Failed != "refused" || r.Step != "commit" || r.Errno != "EINVAL" || r.Then != "RESUMING" || r.State != "RUNNING" {
			t.Errorf("a stream that lacks a byte: %+v", r)
		}
	}, sourceDevice, targetDevice)
	withDevices(ctx, t, g, "mdpy-xga", func() {
		if r := transfer(ctx, t, g, "info", sourceDevice); r.Failed != "not migratable" || r.API != "vfio-pci" {
			t.Errorf("mdpy: %+v", r)
		}
		if r := transfer(ctx, t, g, "load", sourceDevice, "/tmp/mtty"); r.Failed != "not migratable" && (r.Failed != "refused" || r.Errno != "ENOTTY") {
			t.Errorf("loading an mdpy: %+v", r)
		}
	}, sourceDevice)
	sh(ctx, t, g.Client, "rmmod mtty; rmmod mdpy")
}

// vfioMttyWith moves between two mtty-2 and tries what the driver does not survive.
func vfioMttyWith(ctx context.Context, t *testing.T, g *Guest, path ...string) {
	t.Helper()
	with := func(command string, args ...string) truth.Report {
		t.Helper()
		return transfer(ctx, t, g, slices.Concat([]string{command}, path, args)...)
	}
	if r := with("info", sourceDevice); r.API != "vfio-pci" || r.Flags != 7 || r.Regions != 9 {
		t.Errorf("mtty says %+v", r)
	}
	if r := with("save", sourceDevice, "/tmp/mtty"); r.Failed != "" || r.Bytes != 96 || r.Said != 96 || r.Initial != 24 || r.PreCopy != 24 || r.State != "STOP" {
		t.Errorf("saving an mtty-2: %+v", r)
	}
	if r := with("load", targetDevice, "/tmp/mtty"); r.Failed != "" || r.State != "RUNNING" {
		t.Errorf("loading an mtty-2: %+v", r)
	}
	// State survives closing, and stopping an mtty that was closed while RESUMING
	// is a NULL dereference in Linux 6.12.
	for _, state := range []string{"4", "1", "3"} {
		args := slices.Concat([]string{"transfer", "leave"}, path, []string{targetDevice, state})
		if r, err := g.Run(ctx, Cmd{Argv: args}); err != nil || r.ExitCode != 0 {
			t.Fatalf("leaving the device in state %s: %v, %s", state, err, r.Stderr)
		}
		if r := with("stop", targetDevice); r.State != "STOP" || r.Closed != "RUNNING" {
			t.Errorf("left in state %s: %+v", state, r)
		}
	}
}

// vfioOpen is what callers are to tell apart.
func vfioOpen(ctx context.Context, t *testing.T, g *Guest, _ *truth.Table) {
	withBuild(ctx, t, g, "rel11", "", func() {
		withDevices(ctx, t, g, "kdx-V4_4", func() {
			sh(ctx, t, g.Client, `group=$(basename $(readlink /sys/bus/mdev/devices/`+sourceDevice+`/iommu_group)); mkfifo /tmp/held
				(exec 3<>/dev/vfio/$group 4</tmp/held; cat <&4) >/dev/null 2>&1 & exec 5>/tmp/held; echo $! > /tmp/holder; sleep 600 >/dev/null 2>&1 5>&5 & echo $! > /tmp/keeper`)
			if r := transfer(ctx, t, g, "info", sourceDevice); r.Failed != "busy" {
				t.Errorf("a device that is in use: %+v", r)
			}
			sh(ctx, t, g.Client, "kill $(cat /tmp/keeper) $(cat /tmp/holder)")
			if r := transfer(ctx, t, g, "info", "-path", "cdev", targetDevice); r.Failed != "no path" {
				t.Errorf("by cdev on a kernel without: %+v", r)
			}
			if r := transfer(ctx, t, g, "info", "-path", "group", strings.ToUpper(targetDevice)); r.Failed != "" || r.API != "vfio-pci" {
				t.Errorf("in upper case: %+v", r)
			}
		}, sourceDevice, targetDevice)
		if r := transfer(ctx, t, g, "info", sourceDevice); r.Failed != "no device" {
			t.Errorf("a device that was removed: %+v", r)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A device of the host gen8-open, whose attribute weight can be written.
const (
	changeDevice = "83b8f4f2-509f-382f-3c1e-e6bfe0fa4001"
	changeParent = "0000:00:10.0"
	changeType   = "kdx-V4_4"
)

// install builds programs of the lab and puts them into the guest.
func install(ctx context.Context, t *testing.T, g *Guest, programs ...string) {
	t.Helper()
	for _, p := range programs {
		file := filepath.Join(t.TempDir(), filepath.Base(p))
		if err := BuildStatic(ctx, "kindred/lab/"+p, file); err != nil {
			t.Fatal(err)
		}
		putFile(ctx, t, g, "/usr/bin/"+filepath.Base(p), file)
	}
}

func putFile(ctx context.Context, t *testing.T, g *Guest, to, from string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Put(ctx, to, 0o755, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

// says runs a command of the guest that may fail: its exit code, and all it
// printed.
func says(ctx context.Context, t *testing.T, g *Guest, argv ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := g.Run(ctx, Cmd{Argv: argv})
	if err != nil {
		t.Fatal(err)
	}
	return r.ExitCode, strings.TrimSpace(string(r.Stdout) + string(r.Stderr))
}

// expect runs a command that must end with that code and say all of the texts.
func expect(ctx context.Context, t *testing.T, g *Guest, code int, texts []string, argv ...string) string {
	t.Helper()
	got, said := says(ctx, t, g, argv...)
	if got != code {
		t.Fatalf("%q: exit code %d, want %d: %s", argv, got, code, said)
	}
	for _, text := range texts {
		if !strings.Contains(said, text) {
			t.Errorf("%q says %q, which has no %q", argv, said, text)
		}
	}
	return said
}

// hold has a device open in the guest, until release.
func hold(ctx context.Context, t *testing.T, g *Guest, id string) (pid string, release func()) {
	t.Helper()
	pid = sh(ctx, t, g.Client, `rm -f /tmp/held; hold `+id+` > /tmp/held 2>&1 < /dev/null & echo $!
		for i in $(seq 100); do grep -q . /tmp/held && break; sleep 0.05; done; grep -q open /tmp/held || { cat /tmp/held >&2; exit 1; }`)
	return pid, func() { sh(ctx, t, g.Client, "kill "+pid+"; while test -d /proc/"+pid+"/fd/0; do sleep 0.01; done") }
}

// TestChanges starts and stops mediated devices of a real driver.
func TestChanges(t *testing.T) {
	ctx, a := needLab(t)
	g := bootAll(ctx, t, a, known(t, "gen8-open"))[0]
	installKindred(ctx, t, g)
	install(ctx, t, g, "driver/hold", "kill")
	t.Run("errors", func(t *testing.T) { changeErrors(ctx, t, g) })
	t.Run("in use", func(t *testing.T) { changeInUse(ctx, t, g) })
	t.Run("killed", func(t *testing.T) { changeKilled(ctx, t, g) })
	cleanLog(ctx, t, g)
}

func changeErrors(ctx context.Context, t *testing.T, g *Guest) {
	start := []string{"kindred", "device", "start", changeDevice, "-p", changeParent, "-t", changeType}
	expect(ctx, t, g, 0, []string{changeDevice}, append(start, "--attr", "weight=3", "--attr", "weight=7")...)
	if got := sh(ctx, t, g.Client, "cat /sys/bus/mdev/devices/"+changeDevice+"/weight"); got != "7" {
		t.Errorf("the weight is %s, want the last that was set", got)
	}
	inv := inspect(ctx, t, g)
	if d := inv.Device(changeDevice); d == nil || !d.Ours || d.Contract == nil || d.Contract.Type.Full() != changeType || d.Contract.DeviceAttributes.Get("weight").Text() != "7" {
		t.Errorf("the inventory has %+v", d)
	}
	expect(ctx, t, g, 1, []string{"the UUID is taken by a device of type " + changeType + " on " + changeParent}, start...)
	expect(ctx, t, g, 0, nil, "kindred", "device", "stop", changeDevice[:8])
	expect(ctx, t, g, 7, []string{"no such device"}, "kindred", "device", "stop", changeDevice)

	// A value that the driver refuses leaves no device.
	expect(ctx, t, g, 1, []string{"weight=99", "invalid argument"}, append(start, "--attr", "weight=99")...)
	expect(ctx, t, g, 1, []string{"no attribute height"}, append(start, "--attr", "weight=1", "--attr", "height=1")...)
	expect(ctx, t, g, 1, []string{"it offers: " + changeType}, "kindred", "device", "start", "-p", changeParent, "-t", "kdx-V5_4")
	expect(ctx, t, g, 1, []string{"parents: " + changeParent + ", 0000:00:11.0"}, "kindred", "device", "start", "-p", "0000:00:12.0", "-t", changeType)
	clean(ctx, t, g)
}

// clean fails the test when a device, a record or a process of Kindred is left.
func clean(ctx context.Context, t *testing.T, g *Guest) {
	t.Helper()
	if left := sh(ctx, t, g.Client, `ls /sys/bus/mdev/devices /var/lib/kindred/devices; grep -l kindred /proc/[0-9]*/comm || true`); strings.Contains(left, "-") || strings.Contains(left, "/comm") {
		t.Errorf("left behind: %s", left)
	}
}

// changeInUse stops a device that a process has open, again and again: nobody
// hangs, everybody is told who has it, and it is gone when it was closed.
func changeInUse(ctx context.Context, t *testing.T, g *Guest) {
	began := time.Now()
	for i := range 50 {
		expect(ctx, t, g, 0, nil, "kindred", "device", "start", changeDevice, "-p", changeParent, "-t", changeType)
		pid, release := hold(ctx, t, g, changeDevice)
		who := "process " + pid + " (hold)"
		expect(ctx, t, g, 1, []string{"in use by " + who}, "kindred", "device", "stop", changeDevice)
		if i%2 == 0 { // it is left alone, and works
			sh(ctx, t, g.Client, "test -d /sys/bus/mdev/devices/"+changeDevice+"/vfio-dev")
			release()
			expect(ctx, t, g, 0, nil, "kindred", "device", "stop", changeDevice)
			continue
		}
		expect(ctx, t, g, 1, []string{"still being removed", who}, "kindred", "device", "stop", "--force", changeDevice)
		expect(ctx, t, g, 1, []string{"still being removed", who}, "kindred", "device", "stop", changeDevice)
		expect(ctx, t, g, 1, []string{"still being removed", who}, "kindred", "device", "start", changeDevice, "-p", changeParent, "-t", changeType)
		release()
		sh(ctx, t, g.Client, "for i in $(seq 200); do test -e /sys/class/mdev_bus/"+changeParent+"/"+changeDevice+" || exit 0; sleep 0.05; done; exit 1")
	}
	t.Logf("50 devices in use were stopped in %.1f s", time.Since(began).Seconds())
	clean(ctx, t, g)
}

// changeKilled kills kindred before each system call that changes something.
func changeKilled(ctx context.Context, t *testing.T, g *Guest) {
	start := []string{"kindred", "device", "start", changeDevice, "-p", changeParent, "-t", changeType, "--attr", "weight=3", "--attr", "weight=7"}
	stop := []string{"kindred", "device", "stop", changeDevice}
	for name, how := range map[string][]string{"a family": {"kill"}, "the parent of a child": {"kill", "-children"}} {
		for _, op := range []struct {
			argv   []string
			before []string
		}{{start, nil}, {stop, start}} {
			points, completed := 0, 0
			for n := 1; ; n++ {
				if op.before != nil {
					expect(ctx, t, g, 0, nil, op.before...)
				}
				code, said := says(ctx, t, g, append(append(append([]string{}, how...), fmt.Sprint(n)), op.argv...)...)
				if code == 3 {
					break
				}
				if code != 0 {
					t.Fatalf("%s, killed before call %d: exit code %d: %s", op.argv[2], n, code, said)
				}
				points++
				// A child that was left goes on: what it does is soon over.
				sh(ctx, t, g.Client, "for i in $(seq 100); do grep -q kindred /proc/[0-9]*/comm || exit 0; sleep 0.02; done; exit 1")
				expect(ctx, t, g, 0, nil, "kindred", "device", "repair")
				expect(ctx, t, g, 0, []string{"nothing to repair"}, "kindred", "device", "repair")
				state := sh(ctx, t, g.Client, `cd /var/lib/kindred/devices; ls; test ! -e *.json || grep -c '"change"' *.json || true
					test ! -d /sys/bus/mdev/devices/`+changeDevice+` || cat /sys/bus/mdev/devices/`+changeDevice+`/weight
					cat /sys/class/mdev_bus/`+changeParent+`/mdev_supported_types/`+changeType+`/available_instances`)
				switch full := changeDevice + ".json\n0\n7\n"; {
				case strings.HasPrefix(state, full) && strings.Count(state, "\n") == 3: // whole, and on record
					completed++
					expect(ctx, t, g, 0, nil, stop...)
				case strings.Contains(state, "\n"):
					t.Fatalf("%s, killed before call %d, repaired: %q", op.argv[2], n, state)
				}
				clean(ctx, t, g)
			}
			t.Logf("%s of %s: killed at %d calls; afterwards the device was there %d times", op.argv[2], name, points, completed)
			if points < 5 {
				t.Errorf("only %d calls were found", points)
			}
			says(ctx, t, g, stop...)
		}
	}
	_, trace := says(ctx, t, g, append([]string{"kill", "0"}, start...)...)
	t.Logf("start:\n%s", trace)
	_, trace = says(ctx, t, g, append([]string{"kill", "0"}, stop...)...)
	t.Logf("stop:\n%s", trace)
	clean(ctx, t, g)
}

// TestManyStarts starts more devices at once than there is room for.
func TestManyStarts(t *testing.T) {
	ctx, a := needLab(t)
	g := bootAll(ctx, t, a, Host{Name: "many", Modules: []string{"mtty"}, Memory: 1024, QEMUArgs: []string{"-smp", "2"}})[0]
	installKindred(ctx, t, g)
	mdevctl := installMdevctl(ctx, t, g)
	for _, mixed := range []bool{false, true} {
		if mixed && !mdevctl {
			t.Skip("mdevctl is not installed here")
		}
		var all sync.WaitGroup
		codes, texts := make([]int, 64), make([]string, 64)
		began := time.Now()
		for i := range 64 {
			all.Go(func() {
				argv := []string{"kindred", "device", "start", fmt.Sprintf("83b8f4f2-509f-382f-3c1e-e6bfe0fa5%03d", i), "--parent", "mtty", "--type", "mtty-1"}
				if mixed && i%2 == 1 {
					argv = []string{"mdevctl", "start", "-u", argv[3], "-p", "mtty", "-t", "mtty-1"}
				}
				ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
				defer cancel()
				r, err := g.Run(ctx, Cmd{Argv: argv})
				if err != nil {
					t.Errorf("%q: %v", argv, err)
					return
				}
				codes[i], texts[i] = r.ExitCode, string(r.Stderr)
			})
		}
		all.Wait()
		succeeded, byMdevctl := 0, 0
		for i, code := range codes {
			switch ours := !mixed || i%2 == 0; {
			case code == 0:
				succeeded++
				if !ours {
					byMdevctl++
				}
			case ours && (!strings.Contains(texts[i], "on mtty: no room") || !strings.Contains(texts[i], "no space left")):
				t.Errorf("start %d: exit code %d: %s", i, code, texts[i])
			}
		}
		t.Logf("mixed %t: %d of 64 started, %d of them by mdevctl, in %.1f s", mixed, succeeded, byMdevctl, time.Since(began).Seconds())
		devices := strings.Fields(sh(ctx, t, g.Client, "ls /sys/bus/mdev/devices"))
		records := strings.Fields(sh(ctx, t, g.Client, "ls /var/lib/kindred/devices"))
		if succeeded != 24 || len(devices) != 24 || len(records) != 24-byMdevctl {
			t.Errorf("%d succeeded, %d devices are there, %d on record; want 24, and those that Kindred made on record", succeeded, len(devices), len(records))
		}
		expect(ctx, t, g, 0, []string{"nothing to repair"}, "kindred", "device", "repair", "--dry-run")
		expect(ctx, t, g, 0, nil, append([]string{"kindred", "device", "stop"}, devices...)...)
		clean(ctx, t, g)
	}
}

// installMdevctl puts Debian's mdevctl, which this machine has, into the guest.
func installMdevctl(ctx context.Context, t *testing.T, g *Guest) bool {
	t.Helper()
	if _, err := os.Stat("/usr/bin/mdevctl"); err != nil {
		return false
	}
	for to, from := range map[string]string{
		"/usr/bin/mdevctl":                    "/usr/bin/mdevctl",
		"/lib64/ld-linux-x86-64.so.2":         "/lib64/ld-linux-x86-64.so.2",
		"/lib/x86_64-linux-gnu/libc.so.6":     "/lib/x86_64-linux-gnu/libc.so.6",
		"/lib/x86_64-linux-gnu/libgcc_s.so.1": "/lib/x86_64-linux-gnu/libgcc_s.so.1",
	} {
		putFile(ctx, t, g, to, from)
	}
	sh(ctx, t, g.Client, "mkdir -p /etc/mdevctl.d/scripts.d/callouts /etc/mdevctl.d/scripts.d/notifiers")
	expect(ctx, t, g, 0, []string{"mdevctl 1."}, "mdevctl", "--version")
	return true
}

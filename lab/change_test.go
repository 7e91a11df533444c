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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
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
		for i in $(seq 1200); do grep -q . /tmp/held && break; sleep 0.05; done; grep -q open /tmp/held || { cat /tmp/held >&2; exit 1; }`)
	return pid, func() { sh(ctx, t, g.Client, "kill "+pid+"; while test -d /proc/"+pid+"/fd/0; do sleep 0.01; done") }
}

// TestChanges starts and stops mediated devices of a real driver.
func TestChanges(t *testing.T) {
	_, a := needLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	g := bootAll(ctx, t, a, known(t, "gen8-open"))[0]
	installKindred(ctx, t, g)
	install(ctx, t, g, "driver/hold", "kill")
	t.Run("errors", func(t *testing.T) { changeErrors(ctx, t, g) })
	t.Run("definitions", func(t *testing.T) { changeDefined(ctx, t, g) })
	t.Run("in use", func(t *testing.T) { changeInUse(ctx, t, g) })
	t.Run("killed", func(t *testing.T) { changeKilled(ctx, t, g) })
	t.Run("killed while defining", func(t *testing.T) { definitionsKilled(ctx, t, g) })
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
		sh(ctx, t, g.Client, "for i in $(seq 1200); do test -e /sys/class/mdev_bus/"+changeParent+"/"+changeDevice+" || exit 0; sleep 0.05; done; exit 1")
	}
	t.Logf("50 devices in use were stopped in %.1f s", time.Since(began).Seconds())
	clean(ctx, t, g)
}

// killed kills kindred before each system call by which it changes something,
// and calls check after one repair. before makes what the command needs; there
// reports whether what it makes is there whole, and fails when half of it is.
func killed(ctx context.Context, t *testing.T, g *Guest, argv []string, before func(), check func(n int) (there bool)) {
	t.Helper()
	for how, kill := range map[string][]string{"with its children": {"kill"}, "while a child writes": {"kill", "-children"}} {
		points, whole := 0, 0
		for n := 1; ; n++ {
			before()
			code, said := says(ctx, t, g, slices.Concat(kill, []string{strconv.Itoa(n)}, argv)...)
			if code == 3 {
				if check(n) != (argv[2] != "stop" && argv[2] != "undefine") {
					t.Errorf("%s, not killed, did not do it", argv[2])
				}
				break
			}
			if code != 0 {
				t.Fatalf("%s, killed %s before call %d: exit code %d: %s", argv[2], how, n, code, said)
			}
			points++
			// A child that lives goes on: what it does is soon over.
			sh(ctx, t, g.Client, "for i in $(seq 3000); do grep -q kindred /proc/[0-9]*/comm || exit 0; sleep 0.02; done; exit 1")
			expect(ctx, t, g, 0, nil, "kindred", "device", "repair")
			expect(ctx, t, g, 0, []string{"nothing to repair"}, "kindred", "device", "repair")
			if check(n) {
				whole++
			}
		}
		t.Logf("%s, killed %s at %d calls: %d times what it is about was there afterwards", argv[2], how, points, whole)
		if points < 4 && len(kill) == 1 {
			t.Errorf("only %d calls were found", points)
		}
	}
	before()
	_, trace := says(ctx, t, g, slices.Concat([]string{"kill", "0"}, argv)...)
	t.Logf("%s:\n%s", argv[2], trace)
	check(0)
}

func changeKilled(ctx context.Context, t *testing.T, g *Guest) {
	start := []string{"kindred", "device", "start", changeDevice, "-p", changeParent, "-t", changeType, "--attr", "weight=3", "--attr", "weight=7"}
	stop := []string{"kindred", "device", "stop", changeDevice}
	room := sh(ctx, t, g.Client, "cat /sys/class/mdev_bus/"+changeParent+"/mdev_supported_types/"+changeType+"/available_instances")
	// Afterwards it is as if it had not been there.
	check := func(n int) bool {
		t.Helper()
		record := sh(ctx, t, g.Client, `cd /var/lib/kindred/devices; ls; cat * 2>/dev/null || true`)
		weight := sh(ctx, t, g.Client, `cat /sys/bus/mdev/devices/`+changeDevice+`/weight 2>/dev/null || true`)
		there := weight != ""
		if there && (weight != "7" || !strings.HasPrefix(record, changeDevice+".json\n") || strings.Contains(record, `"change"`) || !strings.Contains(record, `"ours": true`)) || !there && record != "" {
			t.Fatalf("killed before call %d and repaired: weight %q, record %q", n, weight, record)
		}
		if there {
			expect(ctx, t, g, 0, nil, stop...)
		}
		if now := sh(ctx, t, g.Client, "cat /sys/class/mdev_bus/"+changeParent+"/mdev_supported_types/"+changeType+"/available_instances"); now != room {
			t.Fatalf("killed before call %d: there is room for %s, want %s", n, now, room)
		}
		clean(ctx, t, g)
		return there
	}
	killed(ctx, t, g, start, func() {}, check)
	killed(ctx, t, g, stop, func() { expect(ctx, t, g, 0, nil, start...) }, check)
}

// definitionsKilled: a definition is the old one or the new one.
func definitionsKilled(ctx context.Context, t *testing.T, g *Guest) {
	file := "/etc/mdevctl.d/" + changeParent + "/" + changeDevice
	define := []string{"kindred", "device", "define", changeDevice, "-p", changeParent, "-t", changeType, "--attr", "weight=3"}
	modify := []string{"kindred", "device", "modify", changeDevice, "--auto", "--attr", "weight=7"}
	undefine := []string{"kindred", "device", "undefine", changeDevice}
	read := func() string { return sh(ctx, t, g.Client, "cat "+file+" 2>/dev/null || true") }
	expect(ctx, t, g, 0, nil, define...)
	old := read()
	expect(ctx, t, g, 0, nil, modify...)
	changed := read()
	if old == changed || !strings.Contains(changed, `"weight": "7"`) {
		t.Fatalf("%q was changed to %q", old, changed)
	}
	// Whatever there was, it is undefined at the end, and nothing is left.
	check := func(n int) bool {
		t.Helper()
		now := read()
		if now != "" && now != old && now != changed {
			t.Fatalf("killed before call %d: the definition is %q", n, now)
		}
		if _, said := says(ctx, t, g, "kindred", "device", "list", "--defined"); strings.Contains(said, "warning") || strings.Contains(said, changeDevice) != (now != "") {
			t.Fatalf("killed before call %d: listed as %q", n, said)
		}
		if now == "" { // the next writer sweeps
			expect(ctx, t, g, 0, nil, define...)
		}
		expect(ctx, t, g, 0, nil, undefine...)
		if left := sh(ctx, t, g.Client, "ls -A /etc/mdevctl.d/"+changeParent); left != "" {
			t.Fatalf("killed before call %d: left is %q", n, left)
		}
		return now != ""
	}
	expect(ctx, t, g, 0, nil, undefine...)
	killed(ctx, t, g, define, func() {}, check)
	defined := func() { expect(ctx, t, g, 0, nil, define...) }
	killed(ctx, t, g, undefine, defined, check)
	killed(ctx, t, g, modify, defined, func(n int) bool {
		now := read()
		check(n)
		return now == changed
	})
}

// changeDefined keeps a device and starts it from its definition.
func changeDefined(ctx context.Context, t *testing.T, g *Guest) {
	uuid := expect(ctx, t, g, 0, nil, "kindred", "device", "define", "-p", changeParent, "-t", changeType, "--auto", "--attr", "weight=5")
	if len(uuid) != 36 {
		t.Fatalf("define printed %q", uuid)
	}
	expect(ctx, t, g, 1, []string{"already defined"}, "kindred", "device", "define", uuid, "-p", changeParent, "-t", changeType)
	expect(ctx, t, g, 0, []string{uuid + "  " + changeParent + "  " + changeType + "  auto   no"}, "kindred", "device", "list", "--defined")
	expect(ctx, t, g, 0, []string{uuid}, "kindred", "device", "start", "--auto")
	if again := expect(ctx, t, g, 0, nil, "kindred", "device", "start", "--auto"); again != "" {
		t.Errorf("what runs was started again: %s", again)
	}
	expect(ctx, t, g, 0, []string{"weight", "5", "defined", "with its parent", "weight=5", "made by Kindred   yes", "in use            no"}, "kindred", "device", "show", uuid[:8])
	expect(ctx, t, g, 0, nil, "kindred", "device", "modify", uuid, "--manual", "--attr", "weight=6")
	expect(ctx, t, g, 0, nil, "kindred", "device", "stop", uuid)
	expect(ctx, t, g, 0, []string{uuid}, "kindred", "device", "start", uuid[:8])
	if got := sh(ctx, t, g.Client, "cat /sys/bus/mdev/devices/"+uuid+"/weight"); got != "6" {
		t.Errorf("the weight is %s, want what the definition says now", got)
	}
	expect(ctx, t, g, 0, nil, "kindred", "device", "undefine", uuid)
	expect(ctx, t, g, 0, []string{"running", "yes"}, "kindred", "device", "show", uuid)
	// A device that runs is defined as it is.
	expect(ctx, t, g, 0, []string{uuid}, "kindred", "device", "define", uuid)
	expect(ctx, t, g, 0, []string{changeType, "manual"}, "kindred", "device", "list", "-d")
	expect(ctx, t, g, 0, nil, "kindred", "device", "undefine", uuid)
	expect(ctx, t, g, 0, nil, "kindred", "device", "stop", uuid)
	clean(ctx, t, g)
}

// TestFunctionChanges gives a real VF to vfio-pci and back to the driver it had.
func TestFunctionChanges(t *testing.T) {
	_, a := needLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	g := bootAll(ctx, t, a, known(t, "vf"))[0]
	installKindred(ctx, t, g)
	install(ctx, t, g, "driver/hold", "kill")
	const vf, typ = "0000:01:00.1", "vfio-pci-1b36:0010"
	dir := "/sys/bus/pci/devices/" + vf
	sh(ctx, t, g.Client, `modprobe pci-stub
		cd /sys/bus/pci/devices/0000:01:00.0; echo 0 > sriov_drivers_autoprobe; echo 2 > sriov_numvfs
		echo pci-stub > `+dir+`/driver_override; echo `+vf+` > /sys/bus/pci/drivers/pci-stub/bind`)
	state := func() string {
		return sh(ctx, t, g.Client, "cd "+dir+"; basename $(readlink driver || echo none); cat driver_override; cat physfn/sriov_numvfs; ls vfio-dev 2>/dev/null | sed 's/[0-9]*$//'; ls /var/lib/kindred/devices")
	}
	before := lines("pci-stub", "pci-stub", "2")
	started := lines("vfio-pci", "vfio-pci", "2", "vfio", vf+".json")
	wants := func(what, want string) {
		t.Helper()
		if got := state(); got != want {
			t.Fatalf("%s: %q, want %q", what, got, want)
		}
	}
	start := []string{"kindred", "device", "start", vf, "-t", typ}
	stop := []string{"kindred", "device", "stop", vf}
	sh(ctx, t, g.Client, "mkdir -p /var/lib/kindred/devices")
	wants("before", before)
	expect(ctx, t, g, 0, []string{vf}, start...)
	wants("started", started)
	if d := inspect(ctx, t, g).Device(vf); d == nil || !d.Ours || d.Contract == nil || d.Contract.Type.Full() != typ || d.Contract.TypeAttributes.Get("bars").Text() == "" {
		t.Errorf("the inventory has %+v", d)
	}
	expect(ctx, t, g, 1, []string{"started already", "vfio-pci"}, start...)

	pid, release := hold(ctx, t, g, vf)
	expect(ctx, t, g, 1, []string{"in use by process " + pid + " (hold)"}, stop...)
	wants("refused", started)
	expect(ctx, t, g, 1, []string{"process " + pid + " (hold) closes it", "kindred device repair"}, append(stop, "--force")...)
	expect(ctx, t, g, 1, []string{"process " + pid + " (hold) closes it"}, "kindred", "device", "repair")
	release()
	sh(ctx, t, g.Client, "for i in $(seq 1200); do test -e "+dir+"/vfio-dev/vfio* || exit 0; sleep 0.05; done")
	expect(ctx, t, g, 0, []string{"completed"}, "kindred", "device", "repair")
	wants("released and repaired", before)

	expect(ctx, t, g, 0, nil, start...)
	expect(ctx, t, g, 0, nil, stop...)
	wants("stopped", before)
	expect(ctx, t, g, 1, []string{"the function is 1b36:0010"}, "kindred", "device", "start", vf, "-t", "vfio-pci-1b36:0011")
	expect(ctx, t, g, 1, []string{"modprobe mlx5_vfio_pci"}, "kindred", "device", "start", vf, "-t", "mlx5_vfio_pci-1b36:0010")
	expect(ctx, t, g, 1, []string{"mac cannot be set", "no network interface"}, append(start, "--attr", "mac=52:54:00:00:00:01")...)
	expect(ctx, t, g, 1, []string{"migratable cannot be set"}, append(start, "--attr", "migratable=enable")...)
	expect(ctx, t, g, 1, []string{"not an SR-IOV", "no virtual function"}[1:], "kindred", "device", "start", "0000:01:00.0", "-t", typ)
	wants("refused", before)

	// Another takes it from us, and keeps it.
	expect(ctx, t, g, 0, nil, start...)
	sh(ctx, t, g.Client, "echo "+vf+" > "+dir+"/driver/unbind; echo "+vf+" > /sys/bus/pci/drivers/vfio-pci/bind")
	expect(ctx, t, g, 1, []string{"somebody took it since"}, stop...)
	sh(ctx, t, g.Client, "echo "+vf+" > "+dir+"/driver/unbind; echo pci-stub > "+dir+"/driver_override; echo "+vf+" > /sys/bus/pci/drivers/pci-stub/bind")
	wants("taken and given back by another", before)

	check := func(n int) bool {
		t.Helper()
		there := state() == started
		if there {
			if strings.Contains(sh(ctx, t, g.Client, "cat /var/lib/kindred/devices/*"), `"change"`) {
				t.Fatalf("killed before call %d: a change is on record", n)
			}
			expect(ctx, t, g, 0, nil, stop...)
		}
		wants(fmt.Sprintf("killed before call %d", n), before)
		return there
	}
	killed(ctx, t, g, start, func() {}, check)
	killed(ctx, t, g, stop, func() { expect(ctx, t, g, 0, nil, start...) }, check)

	// Defined, it is started by its address or the definition's UUID.
	uuid := expect(ctx, t, g, 0, nil, "kindred", "device", "define", vf, "-p", "0000:01:00.0", "-t", typ, "--auto")
	expect(ctx, t, g, 0, []string{vf}, "kindred", "device", "start", "--auto")
	wants("started by its definition", started)
	expect(ctx, t, g, 0, []string{"running", "with its parent", uuid}, "kindred", "device", "show", vf)
	expect(ctx, t, g, 0, nil, stop...)
	expect(ctx, t, g, 0, []string{vf}, "kindred", "device", "start", vf)
	expect(ctx, t, g, 0, nil, stop...)
	wants("stopped", before)
	cleanLog(ctx, t, g)
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

// TestWatch hears a real kernel tell of devices and parents.
func TestWatch(t *testing.T) {
	ctx, a := needLab(t)
	g := bootAll(ctx, t, a, known(t, "gen8"))[0]
	installKindred(ctx, t, g)
	watch := sh(ctx, t, g.Client, `kindred watch -o json >> /tmp/watch 2> /tmp/watch.err < /dev/null & echo $!
		for i in $(seq 1200); do grep -q 0000:00:11.0 /tmp/watch && break; sleep 0.05; done`)
	// told waits until the watch has said all of this, and nothing more.
	told := func(want ...string) {
		t.Helper()
		var got []string
		for range 1200 {
			out := sh(ctx, t, g.Client, "cat /tmp/watch; cat /tmp/watch.err >&2; test ! -s /tmp/watch.err")
			got = nil
			for line := range strings.Lines(out) {
				var c struct {
					Event          string
					Parent, Device *struct {
						Name, ID, Parent string
						Type             struct{ Namespace, Name string }
						Types            []struct{ Name string }
					}
				}
				if err := json.Unmarshal([]byte(line), &c); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				switch {
				case c.Parent != nil:
					got = append(got, fmt.Sprintf("%s parent %s, %d types", c.Event, c.Parent.Name, len(c.Parent.Types)))
				case c.Device != nil:
					got = append(got, fmt.Sprintf("%s device %s %s-%s on %s", c.Event, c.Device.ID, c.Device.Type.Namespace, c.Device.Type.Name, c.Device.Parent))
				default:
					got = append(got, c.Event)
				}
			}
			if len(got) >= len(want) {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-want +told:\n%s", diff)
		}
		sh(ctx, t, g.Client, ": > /tmp/watch")
	}
	device := " device " + changeDevice + " " + changeType + " on " + changeParent
	told("present parent 0000:00:10.0, 1 types", "present parent 0000:00:11.0, 1 types")
	create(ctx, t, g, changeParent, changeType, changeDevice)
	told("added" + device)
	sh(ctx, t, g.Client, "echo 1 > /sys/bus/mdev/devices/"+changeDevice+"/remove")
	told("removed" + device)

	// One that comes and goes at once is told all the same.
	sh(ctx, t, g.Client, "kill -STOP "+watch)
	create(ctx, t, g, changeParent, changeType, changeDevice)
	sh(ctx, t, g.Client, "echo 1 > /sys/bus/mdev/devices/"+changeDevice+"/remove; kill -CONT "+watch)
	gone := " device " + changeDevice + " - on " + changeParent
	told("added"+gone, "removed"+gone)

	// More events than the socket holds.
	sh(ctx, t, g.Client, "kill -STOP "+watch)
	create(ctx, t, g, changeParent, changeType, changeDevice)
	sh(ctx, t, g.Client, `for i in $(seq 6000); do echo change; done > /tmp/changes
		while read line; do echo $line > /sys/devices/pci0000:00/0000:00:11.0/uevent; done < /tmp/changes; kill -CONT `+watch)
	told("rescanned", "added"+device)

	// The parent goes with its driver, and its devices with it.
	sh(ctx, t, g.Client, "echo "+changeParent+" > /sys/bus/pci/devices/"+changeParent+"/driver/unbind")
	told("removed"+device, "removed parent "+changeParent+", 1 types")
	sh(ctx, t, g.Client, "echo "+changeParent+" > /sys/bus/pci/drivers/kdx/bind")
	told("added parent " + changeParent + ", 1 types")
	sh(ctx, t, g.Client, "kill -INT "+watch+"; for i in $(seq 3000); do test -d /proc/"+watch+"/fd/0 || exit 0; sleep 0.02; done; exit 1")
}

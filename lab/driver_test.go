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
	"slices"
	"strings"
	"testing"
	"time"

	"kindred/lab/internal/truth"
)

const driverModules = "/lib/modules/*/extra"

// driverHost is a machine on which every build of the driver can be loaded, one after
// the other: it has the PCI functions some of them want, and none is loaded yet.
func driverHost(name string, pci int) Host {
	// Two processors: races are what a driver dies of.
	h := Host{Name: name, Modules: []string{DriverPrefix + "nomig"}, Memory: 1280, QEMUArgs: []string{"-smp", "2"}}
	for i := range pci {
		h.QEMUArgs = append(h.QEMUArgs, "-device", fmt.Sprintf("edu,addr=0x%x", 0x10+i))
	}
	return h
}

// bootDriver boots it with the probe in it.
func bootDriver(t *testing.T, h Host) (context.Context, *Guest) {
	t.Helper()
	_, a := needLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	t.Cleanup(cancel)
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
var badLine = regexp.MustCompile(`\bBUG:|(?i)\boops|WARNING:|leak|Call Trace|hung_task|blocked for more|use-after-free|refcount|general protection|sysfs: cannot|Unable to handle|scheduling while atomic|rcu.*stall|soft lockup|bad page|Tried to`)

// cleanLog fails the test for every line of the kernel's log that should not be there.
func cleanLog(ctx context.Context, t *testing.T, g *Guest) {
	t.Helper()
	log, err := g.KernelLog(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		known := strings.Contains(line, "module verification failed") || strings.Contains(line, "rcu_cpu_stall_suppress")
		if badLine.MatchString(line) && !known {
			t.Errorf("the kernel said: %s", strings.TrimSpace(line))
		}
	}
}

// probe runs the probe, which must succeed, and returns what it printed.
func probe(ctx context.Context, t *testing.T, g *Guest, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
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

// modprobe loads a build, with parameters, and unloads it when the test is over.
func modprobe(ctx context.Context, t *testing.T, g *Guest, build string, params ...string) {
	t.Helper()
	sh(ctx, t, g.Client, "modprobe kdx_"+build+" "+strings.Join(params, " "))
	t.Cleanup(func() { sh(ctx, t, g.Client, "rmmod kdx_"+build) })
}

// TestDriver is what the driver promises besides its streams.
func TestDriver(t *testing.T) {
	ctx, g := bootDriver(t, driverHost("driver", 2))
	for name, test := range map[string]func(context.Context, *testing.T, *Guest){
		"every build loads": driverLoads,
		"parameters":        driverParameters,
		"capacity":          driverCapacity,
		"self-description":  driverDescribes,
		"two namespaces":    driverNamespaces,
		"busy":              driverBusy,
		"outlived":          driverOutlived,
		"faults":            driverFaults,
		"kept state":        driverKeeps,
		"256 MiB":           driverLarge,
	} {
		t.Run(name, func(t *testing.T) { test(ctx, t, g) })
	}
	t.Run("cycles", func(t *testing.T) { driverCycles(ctx, t, g, 1000) })
	t.Run("transfers", func(t *testing.T) { driverTransfers(ctx, t, g, 300) })
	t.Run("fuzz", func(t *testing.T) { driverFuzz(ctx, t, g, 2, 10) })
	cleanLog(ctx, t, g)
}

func driverLoads(ctx context.Context, t *testing.T, g *Guest) {
	builds, err := DriverBuilds()
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, b := range builds {
		got := sh(ctx, t, g.Client, `modprobe `+b.Module()+`
			for p in /sys/class/mdev_bus/*; do basename $(readlink $p/driver); ls $p/mdev_supported_types | sort; cat $p/mdev_supported_types/*/device_api | uniq; done
			test -e $p/driver/module/notes/.note.gnu.build-id
			rmmod `+b.Module()+`; ls /sys/class/mdev_bus`)
		one := b.Namespace + "\n"
		types := append([]string(nil), b.Types...)
		slices.Sort(types)
		for _, typ := range types {
			one += b.Namespace + "-" + typ + "\n"
		}
		one += "vfio-pci\n"
		if b.PCI {
			one += one
		}
		if got != strings.TrimSpace(one) {
			t.Errorf("%s: parents and types %q, want %q", b.Name, got, one)
		}
		id := sh(ctx, t, g.Client, `modprobe `+b.Module()+`; hexdump -e '1/1 "%02x"' -s 16 /sys/module/`+b.Module()+`/notes/.note.gnu.build-id; rmmod `+b.Module())
		if other, taken := ids[id]; taken {
			t.Errorf("%s and %s have one build-id", b.Name, other)
		}
		ids[id] = b.Name
	}
	// All that the kernel has to say of them is the taint, once.
	log := sh(ctx, t, g.Client, "dmesg | grep -v 'lab: \\|not a number\\|not a power\\|not own\\|invalid for parameter' | grep -o 'kdx_[a-z0-9]*: .*' || true")
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "loading out-of-tree module taints kernel") && !strings.Contains(line, "module verification failed") {
			t.Errorf("loading said %s", strings.TrimSpace(line))
		}
	}
}

func driverParameters(ctx context.Context, t *testing.T, g *Guest) {
	for _, c := range []struct{ params, says string }{
		{"scratch_kib=3", "scratch_kib: not a power of two from 4 to 262144"},
		{"scratch_kib=524288", "scratch_kib: not a power of two from 4 to 262144"},
		{"scratch_kib=x", "scratch_kib: not a power of two"},
		{"units=0", "units: not a number from 1 to 4096"},
		{"parents=9", "parents: not a number from 1 to 8"},
		{"fault_write_at=-2", "fault_write_at: not a number from -1 to"},
		{"stall_ms=60001", "stall_ms: not a number from 0 to 60000"},
		{"precopy_end=never", "precopy_end: not own, 0 or enomsg"},
		{"describe=2", "describe: not a number from 0 to 1"},
		{"layout=2", "layout: not a number from 0 to 1"},
	} {
		r, err := g.Run(ctx, Cmd{Argv: append([]string{"modprobe", "kdx_param"}, c.params)})
		if err != nil {
			t.Fatal(err)
		}
		log := sh(ctx, t, g.Client, "dmesg | tail -n 3")
		if r.ExitCode == 0 || !strings.Contains(log, "kdx_param: "+c.says) {
			t.Errorf("%s: exit code %d, and the kernel says %q", c.params, r.ExitCode, log)
		}
	}
	modprobe(ctx, t, g, "gen8")
	if got := sh(ctx, t, g.Client, "cd /sys/module/kdx_gen8/parameters; echo 70000 > stall_ms || echo 5 > stall_ms; cat stall_ms; echo 0 > stall_ms; echo 8 > scratch_kib || true; cat scratch_kib"); got != "5\n64" {
		t.Errorf("switching parameters gave %q", got)
	}
}

func driverCapacity(ctx context.Context, t *testing.T, g *Guest) {
	const begin = `
		cd /sys/class/mdev_bus/0000:00:10.0/mdev_supported_types
		uuid() { echo 6b647800-0000-4000-8000-00000000000$1; }
		left() { cat kdx-V4_1/available_instances kdx-V4_2/available_instances kdx-V4_4/available_instances | xargs; }
		left; uuid 1 > kdx-V4_2/create; left; `
	const end = `; for d in /sys/bus/mdev/devices/*; do echo 1 > $d/remove; done; left`
	cases := []struct{ build, script, want string }{
		{"pool", "uuid 2 > kdx-V4_1/create; left; (uuid 3 > kdx-V4_4/create) 2>&1 | grep -o 'No space left'", "5 2 1\n3 1 0\n2 1 0\nNo space left\n5 2 1"},
		{"solo", "uuid 2 > kdx-V4_2/create; left; (uuid 3 > kdx-V4_1/create) 2>&1 | grep -o 'No space left'", "5 2 1\n0 1 0\n0 0 0\nNo space left\n5 2 1"},
	}
	for _, c := range cases {
		t.Run(c.build, func(t *testing.T) {
			modprobe(ctx, t, g, c.build, "units=5")
			if got := sh(ctx, t, g.Client, begin+c.script+end); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func driverDescribes(ctx context.Context, t *testing.T, g *Guest) {
	const list = "cd /sys/class/mdev_bus/0000:00:10.0/mdev_supported_types/kdx-V4_4; ls | xargs"
	t.Run("hidden", func(t *testing.T) {
		modprobe(ctx, t, g, "gen9")
		if got, want := sh(ctx, t, g.Client, list), "available_instances create description device_api devices name"; got != want {
			t.Errorf("type attributes %q, want %q", got, want)
		}
	})
	t.Run("published", func(t *testing.T) {
		modprobe(ctx, t, g, "gen9", "describe=1")
		got := sh(ctx, t, g.Client, list+`; for f in software_version features compatible_type compatible_pci_ids dynamic_resources; do cat $f; done
			echo 6b647800-0000-4000-8000-000000000001 > create; cd devices/*; cat weight; echo 17 > weight || echo 7 > weight; cat weight; echo 1 > remove`)
		want := `available_instances compatible_pci_ids compatible_type create description device_api devices dynamic_resources features name software_version
1.0.0
fill,hash,mix
kdx-V4_4
1234:4b04
weight
1
7`
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func driverNamespaces(ctx context.Context, t *testing.T, g *Guest) {
	// Both drivers on one host: each has the function it was given.
	sh(ctx, t, g.Client, "echo kdx-v5 > /sys/bus/pci/devices/0000:00:11.0/driver_override")
	modprobe(ctx, t, g, "split4")
	modprobe(ctx, t, g, "split5")
	if got, want := sh(ctx, t, g.Client, "cd /sys/class/mdev_bus; ls -d */mdev_supported_types/*"), lines(
		"0000:00:10.0/mdev_supported_types/kdx-v4-4q", "0000:00:11.0/mdev_supported_types/kdx-v5-4q", "0000:00:11.0/mdev_supported_types/kdx-v5-4q-new"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	sh(ctx, t, g.Client, "echo > /sys/bus/pci/devices/0000:00:11.0/driver_override")
	// A second driver of a name that is taken does not load, and leaves nothing.
	r, err := g.Run(ctx, Cmd{Argv: []string{"sh", "-c", "modprobe kdx_gen8; modprobe kdx_gen9; s=$?; rmmod kdx_gen8; exit $s"}})
	if err != nil {
		t.Fatal(err)
	}
	if r.ExitCode == 0 {
		t.Error("two drivers of one namespace were loaded")
	}
}

func driverBusy(ctx context.Context, t *testing.T, g *Guest) {
	modprobe(ctx, t, g, "gen8")
	const uuid = "6b647800-0000-4000-8000-000000000001"
	got := sh(ctx, t, g.Client, `echo `+uuid+` > /sys/class/mdev_bus/0000:00:10.0/mdev_supported_types/kdx-V4_4/create
		mkfifo /tmp/end; probe hold `+uuid+` < /tmp/end & exec 3> /tmp/end
		while ! test -e /tmp/hold; do usleep 10000; done
		rmmod kdx_gen8 2>&1 | grep -o 'Resource temporarily unavailable'
		(echo `+uuid+` > /sys/class/mdev_bus/0000:00:11.0/mdev_supported_types/kdx-V4_4/create) 2>&1 | grep -o 'File exists'
		exec 3>&-; echo 1 > /sys/bus/mdev/devices/`+uuid+`/remove; wait
		rm /tmp/end /tmp/hold; ls /sys/bus/mdev/devices; ls -d /sys/class/mdev_bus/* | wc -l`)
	if want := "Resource temporarily unavailable\nFile exists\n2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func driverOutlived(ctx context.Context, t *testing.T, g *Guest) {
	sh(ctx, t, g.Client, "modprobe kdx_rel12")
	got := strings.TrimSpace(string(probe(ctx, t, g, "outlive", "kdx_rel12")))
	if want := "write: ENODEV, read: EBADF, info: ENOTTY, unloading: EAGAIN, then: ok"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func driverFaults(ctx context.Context, t *testing.T, g *Guest) {
	modprobe(ctx, t, g, "rel11", "scratch_kib=4")
	got := string(probe(ctx, t, g, "faults", "kdx_rel11"))
	for _, want := range []string{
		"fault_write_at=100: write at 100: EIO, again: EIO, stop: EINVAL",
		"fault_stop=1: stop: EIO, then: ok",
		"short_read=7: reads of 7",
		"stall_ms=200: took longer than 200 ms, interrupted: EINTR",
		"precopy_end=0: 0",
		"precopy_end=enomsg: ENOMSG",
		"precopy_end=own: ENOMSG",
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("want %q in:\n%s", want, got)
		}
	}
}

func driverKeeps(ctx context.Context, t *testing.T, g *Guest) {
	for keep, want := range map[string]string{"0": "opened again: new, reset: new", "1": "opened again: STOP kept, reset: kept"} {
		t.Run(keep, func(t *testing.T) {
			modprobe(ctx, t, g, "mtty10", "keep_state="+keep)
			if got := strings.TrimSpace(string(probe(ctx, t, g, "keep", "kdmtty"))); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func driverLarge(ctx context.Context, t *testing.T, g *Guest) {
	modprobe(ctx, t, g, "rel12", "scratch_kib=262144")
	t.Logf("from one device of 256 MiB to another: %s", probe(ctx, t, g, "large", "-namespace", "kdx"))
	// Eight of them are more than this machine has: one is refused, and nothing is killed for it.
	got := sh(ctx, t, g.Client, `for n in 1 2 3 4 5 6 7 8; do
			(echo 6b647800-0000-4000-8000-00000000000$n > /sys/class/mdev_bus/0000:00:1$((n/5)).0/mdev_supported_types/kdx-V4_4/create) 2>&1 | grep -o 'memory' || true
		done | sort -u
		for d in /sys/bus/mdev/devices/*; do echo 1 > $d/remove; done
		dmesg | grep -ic 'out of memory\|oom' || true`)
	if got != "memory\n0" {
		t.Errorf("creating more than fits gave %q, want a refusal and no OOM killer", got)
	}
}

// probeReport is what a soak prints.
type probeReport struct {
	Done          int
	Seconds       float64
	Before, After struct {
		Slabs      map[string]int
		Each       map[string]int
		Free, Slab int
	}
}

// noGrowth compares the kernel's memory before and after. A leak has an object in
// every round, or in every eighth when it is in what only opened devices do; what
// goes on in the kernel anyway is less than one in a hundred and some.
func noGrowth(t *testing.T, what string, out []byte) {
	t.Helper()
	var r probeReport
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d in %.1f s; free %d -> %d KiB, unreclaimable slab %d -> %d KiB, kmalloc-64 %d -> %d, kmalloc-1k %d -> %d", what, r.Done, r.Seconds,
		r.Before.Free, r.After.Free, r.Before.Slab, r.After.Slab,
		r.Before.Slabs["kmalloc-64"], r.After.Slabs["kmalloc-64"], r.Before.Slabs["kmalloc-1k"], r.After.Slabs["kmalloc-1k"])
	most, grew := "", 0
	for name, before := range r.Before.Slabs {
		if d := r.After.Slabs[name] - before; d > grew {
			most, grew = name, d
		}
		// All of a slab counts as in use while a processor has it.
		allowed := r.Done/100 + 100 + 2*r.After.Each[name]
		if name == "vmap_area" {
			// The kernel gives back address space of vmalloc in batches of 32 MiB times
			// the logarithm of the processors; what was in it is in free memory below.
			allowed = 1500
		}
		if after := r.After.Slabs[name]; after-before > allowed {
			t.Errorf("%s: slab cache %s grew from %d to %d objects", what, name, before, after)
		}
	}
	t.Logf("%s: the slab cache that grew most: %s, by %d objects", what, most, grew)
	// A page in every tenth round, and what the allocator keeps in blocks of 4 MiB.
	if lost := r.Before.Free - r.After.Free; lost > 8192+r.Done*4/10 {
		t.Errorf("%s: %d KiB of free memory are gone", what, lost)
	}
}

func driverCycles(ctx context.Context, t *testing.T, g *Guest, n int) {
	modprobe(ctx, t, g, "gen8")
	noGrowth(t, "create and remove", probe(ctx, t, g, "cycles", "-n", fmt.Sprint(n)))
}

func driverTransfers(ctx context.Context, t *testing.T, g *Guest, n int) {
	for build, namespace := range map[string]string{
		"rel12": "kdx", "mtty10": "kdmtty", "hisi10": "kdhisi", "qat1": "kdqat", "mlx1": "kdmlx", "vio1": "kdvirtio", "xe1": "kdxe", "pds1": "kdpds",
	} {
		t.Run(build, func(t *testing.T) {
			modprobe(ctx, t, g, build)
			noGrowth(t, "transfers of "+build, probe(ctx, t, g, "transfers", "-namespace", namespace, "-n", fmt.Sprint(n)))
		})
	}
}

// driverFuzz attacks builds of all dialects at once.
func driverFuzz(ctx context.Context, t *testing.T, g *Guest, rounds, seconds int) {
	for round := range rounds {
		for _, build := range []string{"rel12", "mtty10", "hisi10", "qat1", "mlx1", "viotag", "xe1", "pds1", "keep"} {
			params := "units=16"
			if build == "keep" {
				build, params = "mtty11", "keep_state=1"
			} else if round%2 == 1 {
				params = "short_read=100 fault_write_at=5000 precopy_end=enomsg"
			}
			if r, err := g.Run(ctx, Cmd{Argv: []string{"modprobe", "kdx_" + build, params}}); err != nil || r.ExitCode != 0 {
				sh(ctx, t, g.Client, "modprobe kdx_"+build+" "+params)
			}
		}
		t.Logf("round %d: %s", round, probe(ctx, t, g, "fuzz", "-seconds", fmt.Sprint(seconds), "-seed", fmt.Sprint(round+1)))
		sh(ctx, t, g.Client, "for m in $(lsmod | grep -o '^kdx_[a-z0-9]*'); do rmmod $m; done")
	}
}

// TestDriverSoak is what takes minutes.
func TestDriverSoak(t *testing.T) {
	if os.Getenv("KINDRED_LAB_SOAK") != "1" {
		t.Skip("takes ten minutes; run it with KINDRED_LAB=1 KINDRED_LAB_SOAK=1")
	}
	ctx, g := bootDriver(t, driverHost("soak", 2))
	t.Run("cycles", func(t *testing.T) { driverCycles(ctx, t, g, 10000) })
	t.Run("transfers", func(t *testing.T) { driverTransfers(ctx, t, g, 2000) })
	t.Run("fuzz", func(t *testing.T) { driverFuzz(ctx, t, g, 6, 60) })
	cleanLog(ctx, t, g)
}

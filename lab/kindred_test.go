// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"

	"kindred/compat"
	"kindred/fleet"
	"kindred/inventory"
)

var update = flag.Bool("update", false, "record what the lab's hosts show, for the demo and for tests of package host")

// The device that is asked about, and others, by fixed names: recordings are
// to be equal from one run to the next.
const (
	movingDevice = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
	mdpyDevice   = "83b8f4f2-509f-382f-3c1e-e6bfe0fa2001"
)

// kindredProgram is the program under test, built once.
var kindredProgram = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "kindred-lab-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "kindred")
	if err := BuildStatic(context.Background(), "kindred/cmd/kindred", out); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
})

func installKindred(ctx context.Context, t *testing.T, g *Guest) {
	t.Helper()
	program, err := kindredProgram()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Put(ctx, "/usr/bin/kindred", 0o755, bytes.NewReader(program)); err != nil {
		t.Fatal(err)
	}
}

// create makes a device the way any tool does.
func create(ctx context.Context, t *testing.T, g *Guest, parent, typ, uuid string) {
	t.Helper()
	sh(ctx, t, g.Client, fmt.Sprintf("echo %s > /sys/class/mdev_bus/%s/mdev_supported_types/%s/create", uuid, parent, typ))
}

// inspect is the guest's inventory, as kindred prints it there.
func inspect(ctx context.Context, t *testing.T, g *Guest, args ...string) *inventory.Inventory {
	t.Helper()
	r, err := g.Run(ctx, Cmd{Argv: append([]string{"kindred", "inspect", "-o", "json"}, args...)})
	if err != nil {
		t.Fatal(err)
	}
	if r.ExitCode != 0 || len(r.Stderr) > 0 {
		t.Fatalf("kindred inspect on %s: exit code %d: %s", g.Name, r.ExitCode, r.Stderr)
	}
	inv, err := inventory.Decode(r.Stdout)
	if err != nil {
		t.Fatalf("the inventory of %s: %v\n%s", g.Name, err, r.Stdout)
	}
	return inv
}

// record keeps an inventory for the demo.
func record(t *testing.T, inv *inventory.Inventory) {
	t.Helper()
	data, err := inventory.Encode(inv)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("..", "demo", "recorded", inv.Host.Name+".json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// capture keeps a guest's /sys and what else an inventory is read from.
func capture(ctx context.Context, t *testing.T, g *Guest, name string, globs ...string) {
	t.Helper()
	var tar bytes.Buffer
	if err := g.Capture(ctx, globs, &tar); err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(tar.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d bytes, %d packed", name, tar.Len(), packed.Len())
	if err := os.WriteFile(filepath.Join("..", "host", "testdata", name+".tar.gz"), packed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// wholeSys is all of /sys that tells of devices and drivers; the rest of it
// (slab caches, tracing, power statistics) is as large and tells nothing.
var wholeSys = []string{
	"/sys/class", "/sys/bus", "/sys/devices", "/sys/module", "/sys/kernel/notes", "/sys/kernel/iommu_groups",
	"/proc/sys/kernel/hostname", "/proc/sys/kernel/osrelease", "/proc/sys/kernel/version", "/proc/sys/kernel/arch", "/etc/os-release",
}

// TestTargets is the main job on real kernels: inventories taken in guests
// decide where a device of one of them can go.
func TestTargets(t *testing.T) {
	ctx, a := needLab(t)
	var inventories []*inventory.Inventory
	taken := func(g *Guest) {
		inv := inspect(ctx, t, g)
		if len(inv.Warnings) > 0 {
			t.Errorf("%s: warnings: %+v", g.Name, inv.Warnings)
		}
		inventories = append(inventories, inv)
		if *update {
			record(t, inv)
		}
	}

	same := []string{"mtty", "mdpy", "mbochs"}
	guests := bootAll(ctx, t, a, Host{Name: "host-a", Modules: same}, Host{Name: "host-b", Modules: same})
	for _, g := range guests {
		installKindred(ctx, t, g)
	}
	hostA, hostB := guests[0], guests[1]
	create(ctx, t, hostA, "mtty", "mtty-2", movingDevice)
	create(ctx, t, hostA, "mdpy", "mdpy-xga", mdpyDevice)
	taken(hostA)
	taken(hostB)
	if *update {
		capture(ctx, t, hostA, "mdev", wholeSys...)
	}
	// host-b again, under another name, with its ports used up: two by an
	// mtty-2, the other 22 by mtty-1 devices, which share them.
	sh(ctx, t, hostB.Client, "echo host-d > /proc/sys/kernel/hostname")
	create(ctx, t, hostB, "mtty", "mtty-2", "83b8f4f2-509f-382f-3c1e-e6bfe0fa3000")
	for i := range 22 {
		create(ctx, t, hostB, "mtty", "mtty-1", fmt.Sprintf("83b8f4f2-509f-382f-3c1e-e6bfe0fa3%03d", i+1))
	}
	taken(hostB)
	for _, g := range guests {
		g.Close()
	}

	guests = bootAll(ctx, t, a, Host{Name: "host-c", Modules: []string{"mtty-rebuilt", "mdpy"}}, Host{Name: "host-e", Modules: []string{"mdpy"}})
	for _, g := range guests {
		installKindred(ctx, t, g)
		taken(g)
	}

	catalogs, err := compat.NewCatalogs(compat.BuiltIn(), nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fleet.New(compat.NewEngine(catalogs, nil), inventories)
	if err != nil {
		t.Fatal(err)
	}
	mtty2 := inventory.TypeName{Namespace: "mtty", Name: "2"}
	answer := targetsOf(t, f, movingDevice)
	for _, want := range []struct {
		host  string
		group fleet.Group
		typ   inventory.TypeName
		room  int
		code  compat.Code
	}{
		{"host-b", fleet.Ready, mtty2, 12, ""},
		{"host-d", fleet.Full, mtty2, 0, ""},
		{"host-c", fleet.Unsettled, mtty2, 12, compat.BuildUnproven},
		{"host-e", fleet.NotAllowed, inventory.TypeName{}, -1, compat.TypeNotOffered},
	} {
		got := answer[want.host]
		room := -1
		if got.Room != nil && got.Room.Count != nil {
			room = *got.Room.Count
		}
		if got.Group != want.group || got.Type != want.typ || room != want.room {
			t.Errorf("%s: %s as %q with room %d, want %s as %q with room %d", want.host, got.Group, got.Type.Full(), room, want.group, want.typ.Full(), want.room)
		}
		if want.code != "" && (got.Verdict.Worst() == nil || got.Verdict.Worst().Code != want.code) {
			t.Errorf("%s: the reason is %+v, want %s", want.host, got.Verdict.Worst(), want.code)
		}
	}
	// Not as mtty-1, and the answer says why.
	if !slices.ContainsFunc(answer["host-b"].Others, func(o fleet.Other) bool {
		return o.Type == inventory.TypeName{Namespace: "mtty", Name: "1"} && o.Outcome == compat.Incompatible && o.Findings[0].Code == compat.TypeDifferent
	}) {
		t.Errorf("host-b: %+v does not say why not mtty-1", answer["host-b"].Others)
	}
	if back := answer["host-b"].Return; back == nil || *back != compat.Compatible {
		t.Errorf("host-b: the way back is %v, want compatible", back)
	}
	for name, got := range targetsOf(t, f, mdpyDevice) {
		if got.Group != fleet.NotAllowed || got.Verdict.Worst().Code != compat.MigrationUnsupported {
			t.Errorf("mdpy to %s: %s because of %+v, want not allowed because it cannot migrate", name, got.Group, got.Verdict.Worst())
		}
	}
}

func targetsOf(t *testing.T, f *fleet.Fleet, device string) map[string]fleet.Target {
	t.Helper()
	s, err := f.Source(device)
	if err != nil {
		t.Fatal(err)
	}
	byHost := make(map[string]fleet.Target)
	for _, target := range f.Targets(s, fleet.Options{Others: true}).Hosts {
		byHost[target.Host] = target
	}
	return byHost
}

// TestProbe asks real drivers whether they migrate, and leaves alone what is
// not Kindred's or is in use.
func TestProbe(t *testing.T) {
	ctx, a := needLab(t)
	g := bootAll(ctx, t, a, Host{Name: "host-p", Modules: []string{"mtty", "mdpy"}})[0]
	installKindred(ctx, t, g)
	const foreign = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002"
	create(ctx, t, g, "mtty", "mtty-2", movingDevice)
	create(ctx, t, g, "mtty", "mtty-1", foreign)
	create(ctx, t, g, "mdpy", "mdpy-xga", mdpyDevice)
	sh(ctx, t, g.Client, fmt.Sprintf(`mkdir -p /var/lib/kindred/devices
		echo '{"ours": true, "contract": null}' | tee /var/lib/kindred/devices/%s.json > /var/lib/kindred/devices/%s.json`, movingDevice, mdpyDevice))

	for _, d := range inspect(ctx, t, g).Devices {
		if d.Migration != nil || d.InUse != inventory.No {
			t.Errorf("without --probe, %s: migration %+v, in use %s; want nothing observed, not in use", d.ID, d.Migration, d.InUse)
		}
	}
	check := func(inv *inventory.Inventory, id string, want string) {
		t.Helper()
		got := "not observed"
		if m := inv.Device(id).Migration; m != nil {
			got = string(m.Can) + " " + strings.Join(m.Flags, ",")
		}
		if got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	inv := inspect(ctx, t, g, "--probe")
	check(inv, movingDevice, "yes stop-copy,p2p,pre-copy")
	check(inv, mdpyDevice, "no ")
	check(inv, foreign, "not observed")

	// Held open by somebody, it is left alone.
	sh(ctx, t, g.Client, `group=$(basename $(readlink /sys/bus/mdev/devices/`+movingDevice+`/iommu_group))
		exec 3<>/dev/vfio/$group; sleep 600 >/dev/null 2>&1 & echo started`)
	inv = inspect(ctx, t, g, "--probe")
	check(inv, movingDevice, "not observed")
	if got := inv.Device(movingDevice).InUse; got != inventory.Yes {
		t.Errorf("a device held open is in use: %s, want yes", got)
	}
}

// TestFunctions inspects real VFs bound to vfio-pci.
func TestFunctions(t *testing.T) {
	ctx, a := needLab(t)
	g := bootAll(ctx, t, a, known(t, "vf"))[0]
	installKindred(ctx, t, g)
	pf := sh(ctx, t, g.Client, "dirname /sys/bus/pci/devices/*/sriov_totalvfs")
	sh(ctx, t, g.Client, "cd "+pf+`; echo 0 > sriov_drivers_autoprobe; echo 2 > sriov_numvfs
		for v in virtfn*; do echo vfio-pci > $v/driver_override; basename $(readlink $v) > /sys/bus/pci/drivers_probe; done`)
	inv := inspect(ctx, t, g)
	if *update {
		capture(ctx, t, g, "functions", wholeSys...)
	}
	p := inv.Parent(pciName(pf))
	if p == nil || len(p.Types) != 1 || len(inv.Devices) != 2 {
		t.Fatalf("parent %s, %d devices in\n%+v", pciName(pf), len(inv.Devices), inv)
	}
	typ := p.Types[0]
	if got := typ.Full(); got != "vfio-pci-1b36:0010" {
		t.Errorf("type %s, want vfio-pci-1b36:0010", got)
	}
	if typ.Available == nil || *typ.Available != 2 {
		t.Errorf("room %v, want 2: both are idle", typ.Available)
	}
	for _, name := range []string{"bars", "class", "revision", "subsystem_vendor", "subsystem_device"} {
		if v := typ.Attributes.Get(name); v.Text() == "" {
			t.Errorf("attribute %s is %s", name, v)
		}
	}
	for _, d := range inv.Devices {
		if d.Kind != inventory.VF || d.PCI.PF.Text() != pciName(pf) || d.Node.Text() == "" || d.InUse != inventory.No {
			t.Errorf("VF %+v", d)
		}
	}
}

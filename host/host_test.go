// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindred/compat"
	"kindred/host"
	"kindred/internal/fixture"
	"kindred/inventory"
)

var update = flag.Bool("update", false, "write the inventories that fixtures give")

// read takes the inventory of the tree at root and checks that nothing is left
// open.
func read(t *testing.T, root string) *inventory.Inventory {
	t.Helper()
	before := openFiles(t)
	h, err := host.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := h.Inventory(context.Background(), host.Options{Modules: []string{"mtty"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d open files before, %d after", before, after)
	}
	return inv
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestFixtures reads recorded machines, one for each back end, and compares
// the whole inventories with the ones that were reviewed.
func TestFixtures(t *testing.T) {
	for _, name := range []string{"mdev", "functions"} {
		t.Run(name, func(t *testing.T) {
			inv := read(t, fixture.Unpack(t, "testdata/"+name+".tar.gz"))
			inv.Taken = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
			compare(t, inv, "testdata/"+name+".json")
		})
	}
	for name, files := range built {
		t.Run(name, func(t *testing.T) {
			inv := read(t, build(t, files))
			inv.Taken = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
			compare(t, inv, "testdata/"+name+".json")
		})
	}
}

func compare(t *testing.T, inv *inventory.Inventory, golden string) {
	t.Helper()
	got, err := inventory.Encode(inv)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := inventory.Decode(got); err != nil {
		t.Errorf("what was written cannot be read: %v", err)
	}
}

// build makes a tree of files: a text that starts with "-> " is a link.
func build(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		target, isLink := strings.CutPrefix(text, "-> ")
		switch {
		case isLink:
			err = os.Symlink(target, path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case strings.HasSuffix(name, "/create"), strings.HasSuffix(name, "/remove"):
			err = os.WriteFile(path, nil, 0o200)
		default:
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func function(files map[string]string, dir, address string, more map[string]string) {
	files["sys/bus/pci/devices/"+address] = "-> ../../../devices/" + dir + "/" + address
	base := map[string]string{
		"vendor": "0x10de\n", "device": "0x26b9\n", "subsystem_vendor": "0x10de\n", "subsystem_device": "0x1851\n",
		"class": "0x030200\n", "revision": "0xa1\n", "numa_node": "0\n", "driver_override": "(null)\n",
		"resource":  "0x0000000000000000 0x0000000000000000 0x0000000000000000\n" + strings.Repeat("0x00000000e0000000 0x00000000e0ffffff 0x0000000000140204\n", 6),
		"subsystem": "-> ../../../bus/pci", "driver": "-> ../../../bus/pci/drivers/nvidia",
	}
	for name, text := range base {
		files["sys/devices/"+dir+"/"+address+"/"+name] = text
	}
	for name, text := range more {
		files["sys/devices/"+dir+"/"+address+"/"+name] = text
	}
}

// built are machines that cannot be had here, put together from what their
// drivers' documents and sources say; reference and limits are in
// testdata/README.md.
var built = map[string]map[string]string{
	"nvidia": func() map[string]string {
		files := map[string]string{
			"proc/sys/kernel/hostname": "gpu-1\n", "proc/sys/kernel/osrelease": "6.8.0-60-generic\n",
			"sys/bus/pci/drivers/nvidia/module":          "-> ../../../../module/nvidia",
			"sys/module/nvidia/initstate":                "live\n",
			"sys/module/nvidia/version":                  "570.158.02\n",
			"sys/module/nvidia/srcversion":               "0C2C1C7A1F2B6B6A1D6A5D6\n",
			"sys/module/nvidia/notes/.note.gnu.build-id": "\x04\x00\x00\x00\x14\x00\x00\x00\x03\x00\x00\x00GNU\x000123456789abcdefghij",
			"etc/kindred/facts.d/50-site.yaml":           "facts:\n  - host: \"gpu-*\"\n    parent: \"0000:41:00.0\"\n    set: {ecc: \"on\", mig: null}\n  - set: {vgpu-manager: \"570.158.02\"}\n",
			"etc/kindred/facts.d/60-broken.yaml":         "facts:\n  - sett: {a: b}\n",
			"usr/share/nvidia/vgpu/vgpuConfig.xml":       `<vgpuconfig><vgpuType id="1148" name="NVIDIA L40S-2Q"/><vgpuType id="0x47d" name="NVIDIA L40S-4Q"/><vgpuType id="1150" name="NVIDIA L40S-48Q"/><pgpu><devId vendorId="0x10de" deviceId="0x26B9" subsystemVendorId="0x10de" subsystemId="0x0"/><supportedVgpu vgpuId="1148"><maxVgpus>24</maxVgpus></supportedVgpu><supportedVgpu vgpuId="1149"/><supportedVgpu vgpuId="1150"/></pgpu></vgpuconfig>`,
			"var/lib/kindred/devices/0000:41:00.4.json":  `{"ours": true, "contract": {"type": {"namespace": "nvidia", "name": "1148"}, "label": "NVIDIA L40S-2Q", "device_api": "vfio-pci", "recorded": "2026-11-01T00:00:00Z"}}`,
		}
		function(files, "pci0000:40", "0000:41:00.0", map[string]string{"sriov_totalvfs": "32\n", "sriov_numvfs": "3\n"})
		for i, current := range []string{"1148", "0", "0"} {
			listed := "ID    : vGPU Name\n"
			if current == "0" {
				listed += "1148  : NVIDIA L40S-2Q\n"
			}
			function(files, "pci0000:40", fmt.Sprintf("0000:41:00.%d", 4+i), map[string]string{
				"physfn": "-> ../0000:41:00.0", "nvidia/current_vgpu_type": current + "\n", "nvidia/creatable_vgpu_types": listed,
				"nvidia/vgpu_params": "\n", "nvidia/gpu_instance_id": "0\n",
				"vfio-dev/vfio" + fmt.Sprint(i) + "/": "", "iommu_group": fmt.Sprintf("-> ../../../kernel/iommu_groups/%d", 100+i),
			})
		}
		return files
	}(),
	"s390": {
		"proc/sys/kernel/hostname": "zvm1\n", "proc/sys/kernel/arch": "s390x\n",
		"sys/class/mdev_bus/matrix":                                                               "-> ../../devices/vfio_ap/matrix",
		"sys/devices/vfio_ap/matrix/subsystem":                                                    "-> ../../../bus/matrix",
		"sys/devices/vfio_ap/matrix/driver":                                                       "-> ../../../bus/matrix/drivers/vfio_ap",
		"sys/devices/vfio_ap/matrix/features":                                                     "guest_matrix hotplug ap_config\n",
		"sys/devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/name":                "VFIO AP Passthrough Device\n",
		"sys/devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/device_api":          "vfio-ap\n",
		"sys/devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/available_instances": "65535\n",
		"sys/devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create":              "",
		"sys/bus/mdev/devices/669d9b23-fe1b-4ecb-be08-a2fabca99b71":                               "-> ../../../devices/vfio_ap/matrix/669d9b23-fe1b-4ecb-be08-a2fabca99b71",
		"sys/devices/vfio_ap/matrix/669d9b23-fe1b-4ecb-be08-a2fabca99b71/mdev_type":               "-> ../mdev_supported_types/vfio_ap-passthrough",
		"sys/devices/vfio_ap/matrix/669d9b23-fe1b-4ecb-be08-a2fabca99b71/matrix":                  "05.0004\n05.00ab\n06.0004\n06.00ab\n",
		"sys/devices/vfio_ap/matrix/669d9b23-fe1b-4ecb-be08-a2fabca99b71/guest_matrix":            "05.0004\n05.00ab\n",
		"sys/devices/vfio_ap/matrix/669d9b23-fe1b-4ecb-be08-a2fabca99b71/control_domains":         "00ab\n",
		"sys/devices/vfio_ap/matrix/669d9b23-fe1b-4ecb-be08-a2fabca99b71/ap_config":               "0x0600000000000000000000000000000000000000000000000000000000000000,0x0800000000000000000000000000000000000000001000000000000000000000,0x0000000000000000000000000000000000000000001000000000000000000000\n",
		"sys/devices/vfio_ap/matrix/669d9b23-fe1b-4ecb-be08-a2fabca99b71/remove":                  "",
		"sys/class/mdev_bus/0.0.0313":                                                             "-> ../../devices/css0/0.0.0313",
		"sys/devices/css0/0.0.0313/subsystem":                                                     "-> ../../../bus/css",
		"sys/devices/css0/0.0.0313/driver":                                                        "-> ../../../bus/css/drivers/vfio_ccw",
		"sys/devices/css0/0.0.0313/type":                                                          "0\n",
		"sys/devices/css0/0.0.0313/chpids":                                                        "1a 00 00 00 00 00 00 00\n",
		"sys/devices/css0/0.0.0313/pimpampom":                                                     "80 80 ff\n",
		"sys/devices/css0/0.0.0313/mdev_supported_types/vfio_ccw-io/name":                         "I/O subchannel (Non-QDIO)\n",
		"sys/devices/css0/0.0.0313/mdev_supported_types/vfio_ccw-io/device_api":                   "vfio-ccw\n",
		"sys/devices/css0/0.0.0313/mdev_supported_types/vfio_ccw-io/available_instances":          "1\n",
	},
}

// TestHostile reads trees made to mislead: nothing escapes the root, nothing
// hangs, and what is well stays visible.
func TestHostile(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	longText := strings.Repeat("a line of a description\n", 400)
	root := build(t, map[string]string{
		"proc/sys/kernel/hostname":                                        "evil\x1b[31m\n",
		"sys/class/mdev_bus/good":                                         "-> ../../devices/good",
		"sys/devices/good/driver":                                         "-> ../../bus/pci/drivers/drv",
		"sys/devices/good/mdev_supported_types/drv-1/name":                "one\n",
		"sys/devices/good/mdev_supported_types/drv-1/device_api":          "vfio-pci\n",
		"sys/devices/good/mdev_supported_types/drv-1/available_instances": "3\n",
		"sys/devices/good/mdev_supported_types/drv-1/description":         longText,
		"sys/devices/good/mdev_supported_types/drv-1/leak":                "-> " + secret,
		"sys/devices/good/mdev_supported_types/drv-1/binary":              "\xff\xfe",
		"sys/devices/good/mdev_supported_types/drv-2/name":                "two\n",
		"sys/devices/good/mdev_supported_types/drv-2/available_instances": "-4\n",
		"sys/devices/good/mdev_supported_types/other-3/name":              "three\n",
		"sys/class/mdev_bus/outside":                                      "-> " + filepath.Dir(secret),
		"sys/class/mdev_bus/up":                                           "-> ../../../../../../../../" + filepath.Dir(secret),
		"sys/class/mdev_bus/loop":                                         "-> loop",
		"sys/class/mdev_bus/empty":                                        "-> ../../devices/empty",
		"sys/devices/empty/":                                              "",
		"sys/class/mdev_bus/file":                                         "plain",
		"sys/bus/mdev/devices/d1":                                         "-> ../../../devices/good/d1",
		"sys/devices/good/d1/mdev_type":                                   "-> ../mdev_supported_types/drv-1",
		"sys/bus/mdev/devices/d2":                                         "-> ../../../devices/good/d2",
		"sys/devices/good/d2/":                                            "",
		"sys/bus/mdev/devices/d4":                                         "plain",
		"sys/bus/mdev/devices/d3":                                         "-> /nowhere/parent/d3",
	})
	if err := syscall.Mkfifo(filepath.Join(root, "sys/devices/good/mdev_supported_types/drv-2/device_api"), 0o644); err != nil {
		t.Fatal(err)
	}
	inv := read(t, root)
	text, err := inventory.Encode(inv)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "outside\"") && strings.Contains(string(text), "\"leak\": \"outside\"") {
		t.Errorf("a file outside the root was read:\n%s", text)
	}
	good := inv.Parent("good")
	if good == nil || len(good.Types) != 3 {
		t.Fatalf("the good parent with its three types is hidden: %+v", inv.Parents)
	}
	one := good.Type(inventory.TypeName{Namespace: "drv", Name: "1"})
	if one == nil || one.Description.Text() != strings.TrimSuffix(longText, "\n") {
		t.Errorf("the long description was cut: %+v", one)
	}
	if v := one.Attributes.Get("binary"); v.State() != inventory.NotObserved {
		t.Errorf("bytes that are no text became %s", v)
	}
	for _, path := range []string{"outside", "loop", "empty", "drv-1/binary", "drv-2/available_instances", "other-3", "d2/mdev_type", "d3"} {
		found := false
		for _, w := range inv.Warnings {
			found = found || strings.Contains(w.Path, path)
		}
		if !found {
			t.Errorf("no warning names %s: %+v", path, inv.Warnings)
		}
	}
	if !inv.DevicesUnread { // d4 is no link
		t.Error("a device that could not be listed is forgotten")
	}
	if d := inv.Device("d1"); d == nil || d.Type.Full() != "drv-1" {
		t.Errorf("device d1: %+v", d)
	}
	// The inventory of a hostile tree can still be judged.
	catalogs, err := compat.NewCatalogs(compat.BuiltIn(), nil)
	if err != nil {
		t.Fatal(err)
	}
	e := compat.NewEngine(catalogs, nil)
	for i := range inv.Devices {
		s := e.Source(inv, &inv.Devices[i])
		for _, o := range e.Offers(inv) {
			if v := e.Check(s, o); v.Outcome == compat.Compatible {
				t.Errorf("%s to %s is compatible", s.ID, o.Type().Full())
			}
		}
	}
}

func TestNotAHost(t *testing.T) {
	if _, err := host.Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no sys directory") {
		t.Errorf("an empty directory: %v", err)
	}
	inv := read(t, build(t, map[string]string{"sys/": "", "etc/hostname": "bare\n"}))
	if len(inv.Parents)+len(inv.Devices)+len(inv.Warnings) != 0 || inv.Host.Name != "bare" {
		t.Errorf("a host without any bus: %+v", inv)
	}
}

// TestNotWhole: what could not be read leaves the lists open instead of making
// them short, a name stands once, and a bad record hides nothing else.
func TestNotWhole(t *testing.T) {
	const card, first, second = "0000:41:00.0", "sys/devices/pci0000:40/0000:41:00.5/", "sys/devices/pci0000:40/0000:41:00.6/"
	for _, c := range []struct {
		name        string
		change      map[string]string // "" removes
		typesUnread bool
		unread      bool // parents
		warning     string
	}{
		{"all read", nil, false, false, "60-broken.yaml"},
		{"the current type is no text", map[string]string{first + "nvidia/current_vgpu_type": "\xff"}, true, false, "current_vgpu_type"},
		{"the list is no list", map[string]string{first + "nvidia/creatable_vgpu_types": "nonsense"}, true, false, "creatable_vgpu_types"},
		{"another function given whole", map[string]string{second + "driver": "-> ../../../bus/pci/drivers/vfio-pci"}, true, false, "as vgpu parent and as function parent"},
		{"functions that cannot be listed", map[string]string{"sys/bus/pci/devices": "a file"}, false, true, "sys/bus/pci/devices"},
		{"a nameless type on record", map[string]string{"var/lib/kindred/idle/" + card + ".json": `{"taken": "2026-11-01T00:00:00Z", "types": [{"namespace": "nvidia", "name": ""}]}`}, false, false, "idle/" + card},
		{"a contract that says two things", map[string]string{"var/lib/kindred/devices/0000:41:00.4.json": `{"ours": true, "contract": {"device_attributes": {"values": {"a": "b"}, "unread": ["a"]}}}`}, false, false, "devices/0000:41:00.4"},
		{"a record with more after it", map[string]string{"var/lib/kindred/devices/0000:41:00.4.json": `{"ours": true, "contract": null} more`}, false, false, "devices/0000:41:00.4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := maps.Clone(built["nvidia"])
			for name, text := range c.change {
				maps.DeleteFunc(files, func(old, _ string) bool { return strings.HasPrefix(old, name+"/") })
				files[name] = text
			}
			inv := read(t, build(t, files))
			if inv.ParentsUnread != c.unread {
				t.Errorf("parents unread: %v", inv.ParentsUnread)
			}
			if p := inv.Parent(card); p != nil && p.TypesUnread != c.typesUnread || p == nil && !c.unread {
				t.Errorf("the card is %+v", p)
			}
			for _, p := range inv.Parents {
				for _, typ := range p.Types {
					if c.typesUnread && strings.HasSuffix(c.name, "type is no text") && (typ.Available != nil || typ.Creatable == inventory.No) {
						t.Errorf("with a function unread, %s has room %v, creatable %s", typ.Full(), typ.Available, typ.Creatable)
					}
				}
			}
			if !slices.ContainsFunc(inv.Warnings, func(w inventory.Warning) bool { return strings.Contains(w.Path+": "+w.Problem, c.warning) }) {
				t.Errorf("no warning of %q: %v", c.warning, inv.Warnings)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package nvidia

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindred/inventory"
)

func TestParseCreatable(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []Entry
		bad        bool
	}{
		{"full card", "ID    : vGPU Name\n", nil, false},
		{"two", "ID    : vGPU Name\n1148  : NVIDIA L40S-2Q\n1149  : NVIDIA L40S-4Q\n", []Entry{{"1148", "NVIDIA L40S-2Q"}, {"1149", "NVIDIA L40S-4Q"}}, false},
		{"colon in a label", "12 : A: B", []Entry{{"12", "A: B"}}, false},
		{"empty", "", nil, false},
		{"no number", "x : A", nil, true},
		{"number 0 is none", "0 : A", nil, true},
		{"no label", "12 :", nil, true},
		{"the good ones stay", "12 : A\nnonsense", []Entry{{"12", "A"}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseCreatable(c.text)
			if diff := cmp.Diff(c.want, got); diff != "" || c.bad != (err != nil) {
				t.Errorf("error %v, -want +got:\n%s", err, diff)
			}
		})
	}
}

func TestSupported(t *testing.T) {
	config, err := ParseConfig([]byte(`<vgpuconfig>
		<vgpuType id="1" name="one"/><vgpuType id="0x2" name="two"/><vgpuType id="3" name="three"/>
		<pgpu><devId vendorId="0x10de" deviceId="0x1BB4" subsystemVendorId="0x10de" subsystemId="0x0"/><supportedVgpu vgpuId="1"/></pgpu>
		<pgpu><devId vendorId="0x10de" deviceId="0x1BB4" subsystemVendorId="0x10de" subsystemId="0x1234"/><supportedVgpu vgpuId="2"/><supportedVgpu vgpuId="9"/></pgpu>
	</vgpuconfig>`))
	if err != nil {
		t.Fatal(err)
	}
	card := func(device, subsystem string) *inventory.PCI {
		return &inventory.PCI{Vendor: inventory.Of("0x10de"), Device: inventory.Of(device), SubsystemDevice: inventory.Of(subsystem)}
	}
	for _, c := range []struct {
		name string
		card *inventory.PCI
		want []Entry
	}{
		{"any subsystem", card("0x1bb4", "0x9999"), []Entry{{"1", "one"}}},
		{"exact subsystem wins, unnamed types are left out", card("0x1bb4", "0x1234"), []Entry{{"2", "two"}}},
		{"another card", card("0x2236", "0x1234"), nil},
		{"unknown card", &inventory.PCI{Vendor: inventory.Of("0x10de")}, nil},
	} {
		if diff := cmp.Diff(c.want, config.supported(c.card)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", c.name, diff)
		}
	}
	for _, bad := range []string{"", "<vgpuconfig>", `<vgpuconfig><vgpuType id="x" name="y"/></vgpuconfig>`, "plain"} {
		if _, err := ParseConfig([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a configuration", bad)
		}
	}
}

func FuzzParseCreatable(f *testing.F) {
	f.Add("ID    : vGPU Name\n1148  : NVIDIA L40S-2Q\n")
	f.Add("ID:\n:\n1:\x00")
	f.Fuzz(func(t *testing.T, text string) {
		entries, _ := ParseCreatable(text)
		for _, e := range entries {
			if e.Number == "" || e.Label == "" {
				t.Errorf("%+v has no number or label", e)
			}
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`<vgpuconfig><vgpuType id="1" name="one"/><pgpu><devId vendorId="0x10de" deviceId="1"/><supportedVgpu vgpuId="1"/></pgpu></vgpuconfig>`))
	f.Add([]byte(`<!DOCTYPE x [<!ENTITY a "b">]><vgpuconfig>&a;</vgpuconfig>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		config, err := ParseConfig(data)
		if err == nil {
			config.supported(&inventory.PCI{Vendor: inventory.Of("0x10de"), Device: inventory.Of("1"), SubsystemDevice: inventory.Of("0")})
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"

	"kindred/inventory"
)

// answer encodes what the kernel answers: groups of name and version.
func answer(t testing.TB, versions ...[3]string) []byte {
	t.Helper()
	enc := netlink.NewAttributeEncoder()
	enc.String(attrBusName, "pci")
	for _, v := range versions {
		kind := map[string]uint16{"fixed": attrFixed, "running": attrRunning, "stored": 102}[v[0]]
		enc.Nested(kind, func(nested *netlink.AttributeEncoder) error {
			nested.String(attrVersionName, v[1])
			nested.String(attrVersionText, v[2])
			return nil
		})
	}
	data, err := enc.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseInfo(t *testing.T) {
	attrs := inventory.Attributes{Complete: true}
	data := answer(t, [3]string{"running", "fw", "22.36.1010"}, [3]string{"fixed", "fw.psid", "MT_0000000359"},
		[3]string{"fixed", "fw", "1"}, [3]string{"stored", "fw", "22.40.0001"}, [3]string{"stored", "fw.undi", "2"})
	if err := parseInfo(data, &attrs); err != nil {
		t.Fatal(err)
	}
	want := inventory.Attributes{Complete: true, Values: map[string]inventory.Value{"fw": inventory.Of("22.36.1010"), "fw.psid": inventory.Of("MT_0000000359")}}
	if diff := cmp.Diff(want, attrs, cmp.AllowUnexported(inventory.Value{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestDial asks the kernel this runs on, if it has devlink.
func TestDial(t *testing.T) {
	conn, err := Dial()
	if err != nil {
		t.Skipf("no devlink to ask here: %v", err)
	}
	defer conn.Close()
	attrs, err := conn.Info(t.Context(), "pci", "ffff:ff:1f.7")
	if err != nil || !attrs.Complete || len(attrs.Values) > 0 {
		t.Errorf("a device that does not exist: %+v, %v; want a complete, empty set", attrs, err)
	}
}

func FuzzParseInfo(f *testing.F) {
	f.Add(answer(f, [3]string{"running", "fw", "1.2"}, [3]string{"fixed", "board.id", "x"}))
	f.Add([]byte{4, 0, 101, 128})
	f.Fuzz(func(t *testing.T, data []byte) {
		var attrs inventory.Attributes
		_ = parseInfo(data, &attrs)
	})
}

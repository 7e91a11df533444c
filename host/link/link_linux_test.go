// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"
)

// kernel is a socket without deadlines.
type kernel struct{ *netlink.Conn }

func (kernel) SetDeadline(time.Time) error { return nil }

// answer is what rtnl_fill_vf() prints of two functions.
func answer(t *testing.T) []byte {
	t.Helper()
	enc := netlink.NewAttributeEncoder()
	enc.String(unix.IFLA_IFNAME, "ens1f0")
	enc.Nested(unix.IFLA_VFINFO_LIST, func(list *netlink.AttributeEncoder) error {
		for vf := range uint32(2) {
			list.Nested(vfInfo, func(info *netlink.AttributeEncoder) error {
				mac := make([]byte, 4+macLen)
				binary.NativeEndian.PutUint32(mac, vf)
				copy(mac[4:], []byte{0x52, 0x54, 0, 0x12, 0x34, byte(vf)})
				info.Bytes(unix.IFLA_VF_MAC, mac)
				vlan := make([]byte, 12)
				for i, n := range []uint32{vf, 100 + vf, 3 * vf} {
					binary.NativeEndian.PutUint32(vlan[4*i:], n)
				}
				info.Bytes(unix.IFLA_VF_VLAN, vlan)
				return nil
			})
		}
		return nil
	})
	data, err := enc.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(make([]byte, headerLen), data...)
}

func TestVF(t *testing.T) {
	c := &Conn{kernel{nltest.Dial(func(req []netlink.Message) ([]netlink.Message, error) {
		if req[0].Header.Type != unix.RTM_GETLINK || binary.NativeEndian.Uint32(req[0].Data[4:]) != 7 {
			t.Errorf("asked %+v", req[0])
		}
		return []netlink.Message{{Header: netlink.Header{Type: unix.RTM_NEWLINK, Sequence: req[0].Header.Sequence, PID: req[0].Header.PID}, Data: answer(t)}}, nil
	})}}
	defer c.Close()
	for vf := range uint32(2) {
		got, err := c.VF(t.Context(), 7, vf)
		want := VF{MAC: net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, byte(vf)}, VLAN: 100 + vf, QoS: 3 * vf}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v, -want +got:\n%s", err, diff)
		}
	}
	if _, err := c.VF(t.Context(), 7, 2); !errors.Is(err, ErrNone) {
		t.Errorf("a function that is not listed: %v", err)
	}
}

// TestSet: the messages, for interface 7, byte by byte: struct ifinfomsg, and
// the nested attributes with struct ifla_vf_mac or ifla_vf_vlan.
func TestSet(t *testing.T) {
	var sent []byte
	refuse := false
	c := &Conn{kernel{nltest.Dial(func(req []netlink.Message) ([]netlink.Message, error) {
		if h := req[0].Header; h.Type != unix.RTM_SETLINK || h.Flags != netlink.Request|netlink.Acknowledge {
			t.Errorf("sent %+v", h)
		}
		sent = req[0].Data
		if refuse {
			return nltest.Error(int(unix.EOPNOTSUPP), req)
		}
		return nltest.Error(0, req)
	})}}
	defer c.Close()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes are those of a little-endian machine")
	}
	header := "00000000" + "07000000" + "00000000" + "00000000"
	check := func(what string, err error, want string) {
		t.Helper()
		if got := hex.EncodeToString(sent); err != nil || got != header+want {
			t.Errorf("%s: %v\n got %s\nwant %s", what, err, got, header+want)
		}
	}
	check("mac", c.SetMAC(t.Context(), 7, 1, net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}),
		"30001680"+"2c000180"+"28000100"+"01000000"+"525400123456"+"0000"+"000000000000000000000000000000000000000000000000")
	check("vlan", c.SetVLAN(t.Context(), 7, 1, 100, 3), "18001680"+"14000180"+"10000200"+"01000000"+"64000000"+"03000000")
	refuse = true
	if err := c.SetVLAN(t.Context(), 7, 1, 0, 0); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("the kernel refused: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(make([]byte, headerLen), uint32(0))
	f.Fuzz(func(_ *testing.T, data []byte, vf uint32) { _, _ = parse(data, vf) })
}

// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/genetlink/genltest"
	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nlenc"
)

// kernel is a socket without deadlines.
type kernel struct{ *genetlink.Conn }

func (kernel) SetDeadline(time.Time) error { return nil }

// entry is a port as the kernel lists it.
type entry struct {
	device          string
	index           uint32
	flavour, vf     uint16
	external        uint8
	value, selector uint32
}

func (e entry) message(t *testing.T) genetlink.Message {
	t.Helper()
	enc := netlink.NewAttributeEncoder()
	enc.String(attrBusName, "pci")
	enc.String(attrDevName, e.device)
	enc.Uint32(attrPortIndex, e.index)
	enc.Uint16(attrFlavour, e.flavour)
	enc.Uint16(attrVFNumber, e.vf)
	enc.Uint8(attrExternal, e.external)
	enc.Nested(attrPortFunction, func(function *netlink.AttributeEncoder) error {
		function.Bytes(attrCaps, append(nlenc.Uint32Bytes(e.value), nlenc.Uint32Bytes(e.selector)...))
		return nil
	})
	data, err := enc.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return genetlink.Message{Data: data}
}

func TestMigratable(t *testing.T) {
	const card = "0000:01:00.0"
	listed := []genetlink.Message{
		entry{"0000:02:00.0", 1, flavourVF, 1, 0, 0, 3}.message(t),
		entry{card, 2, flavourVF, 1, 1, 0, 3}.message(t), // another host's, on a smart NIC
		entry{card, 3, 3, 1, 0, 0, 3}.message(t),         // a physical function
		entry{card, 4, flavourVF, 1, 0, 3, 3}.message(t),
		entry{card, 5, flavourVF, 2, 0, 1, 3}.message(t),
		entry{card, 6, flavourVF, 3, 0, 1, 1}.message(t), // of a driver that knows none
	}
	var set []byte
	conn := genltest.Dial(func(gen genetlink.Message, req netlink.Message) ([]genetlink.Message, error) {
		switch gen.Header.Command {
		case cmdPortGet:
			if req.Header.Flags&netlink.Dump != netlink.Dump {
				t.Errorf("asked with %v", req.Header.Flags)
			}
			return listed, nil
		case cmdPortSet:
			set = gen.Data
			return nil, nil
		case 0: // the library's own question for more answers
			return nil, nil
		}
		t.Errorf("command %d", gen.Header.Command)
		return nil, nil
	})
	c := &Conn{conn: kernel{conn}}
	defer c.Close()
	for vf, want := range map[int]bool{1: true, 2: false} {
		if got, err := c.Migratable(t.Context(), "pci", card, vf); err != nil || got != want {
			t.Errorf("function %d: %t, %v; want %t", vf, got, err, want)
		}
	}
	if _, err := c.Migratable(t.Context(), "pci", card, 3); !errors.Is(err, ErrNoMigratable) {
		t.Errorf("a driver that knows none: %v", err)
	}
	if _, err := c.Migratable(t.Context(), "pci", card, 9); !errors.Is(err, ErrNoPort) {
		t.Errorf("no port: %v", err)
	}
	for _, is := range []bool{true, false} {
		if err := c.SetMigratable(t.Context(), "pci", card, 2, is); err != nil {
			t.Fatal(err)
		}
		// bus, device, index 5, function { caps { value, selector } }
		value := map[bool]string{true: "02000000", false: "00000000"}[is]
		want := "0800010070636900" + "11000200" + hex.EncodeToString([]byte(card)) + "00000000" + "0800030005000000" + "10009180" + "0c000400" + value + "02000000"
		if got := hex.EncodeToString(set); got != want {
			t.Errorf("set %t\n got %s\nwant %s", is, got, want)
		}
	}
	if err := c.SetMigratable(t.Context(), "pci", card, 9, true); !errors.Is(err, ErrNoPort) {
		t.Errorf("no port: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package change

import (
	"context"
	"errors"
	"net"
	"testing"

	"kindred/host/link"
)

// TestUplink: in switchdev mode a card's directory of interfaces has those that
// represent its virtual functions, too; settings are at the other one.
func TestUplink(t *testing.T) {
	m, _ := newMachine(t)
	const pf = "0000:01:00.0"
	if _, _, err := uplink(t.Context(), m, pf, 0, nil); err == nil {
		t.Error("a card without interfaces has one")
	}
	dir := "sys/devices/pci/" + pf + "/net/"
	m.file(dir+"enp1s0f0_0/ifindex", "8\n") // sorted before the card's own
	m.file(dir+"enp1s0f0np0/ifindex", "7\n")
	ask := func(_ context.Context, index int, vf uint32) (link.VF, error) {
		if index != 7 || vf != 3 {
			return link.VF{}, link.ErrNone
		}
		return link.VF{MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 3}}, nil
	}
	index, has, err := uplink(t.Context(), m, pf, 3, ask)
	if err != nil || index != 7 || has.MAC.String() != "52:54:00:00:00:03" {
		t.Errorf("interface %d, %+v, %v", index, has, err)
	}
	if _, _, err := uplink(t.Context(), m, pf, 4, ask); !errors.Is(err, link.ErrNone) {
		t.Errorf("a function that none lists: %v", err)
	}
}

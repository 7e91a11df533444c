// SPDX-License-Identifier: Apache-2.0

package change

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// The settings of a VF.
const (
	MAC        = "mac"        // 52:54:00:12:34:56
	VLAN       = "vlan"       // ID or ID:QOS; 0 is none
	Migratable = "migratable" // enable or disable
)

// Settings is what a VF has outside of sysfs. A value that was set is returned
// as it was set.
type Settings interface {
	Get(ctx context.Context, pf, vf, name string) (string, error)
	Set(ctx context.Context, pf, vf, name, value string) error
}

// checkSetting refuses what no kernel takes, before anything is changed. It
// wants values in the form in which they are read back.
func checkSetting(a Attribute) error {
	switch a.Name {
	case MAC:
		mac, err := net.ParseMAC(a.Value)
		if err != nil || len(mac) != 6 || mac.String() != a.Value || mac[0]&1 != 0 {
			return fmt.Errorf("mac=%s: it is the address of one station, as 52:54:00:12:34:56 in lower case", a.Value)
		}
		return nil
	case VLAN:
		_, _, err := ParseVLAN(a.Value)
		return err
	case Migratable:
		if a.Value != "enable" && a.Value != "disable" {
			return fmt.Errorf("migratable=%s: it is enable or disable", a.Value)
		}
		return nil
	}
	return fmt.Errorf("a VF has no attribute %q: they are mac, vlan and migratable", a.Name)
}

// ParseVLAN reads ID or ID:QOS.
func ParseVLAN(text string) (id, qos uint32, err error) {
	first, second, has := strings.Cut(text, ":")
	n, err := strconv.ParseUint(first, 10, 12)
	if err == nil && has {
		var q uint64
		q, err = strconv.ParseUint(second, 10, 3)
		qos = uint32(q)
	}
	if err != nil || n == 4095 || has && qos == 0 || formatVLAN(uint32(n), qos) != text {
		return 0, 0, fmt.Errorf("vlan=%s: it is a VLAN's number up to 4094, or number:priority with a priority up to 7", text)
	}
	return uint32(n), qos, nil
}

func formatVLAN(id, qos uint32) string {
	text := strconv.Itoa(int(id))
	if qos != 0 {
		text += ":" + strconv.Itoa(int(qos))
	}
	return text
}

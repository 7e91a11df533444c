// SPDX-License-Identifier: Apache-2.0

package change

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"

	"kindred/host/devlink"
	"kindred/host/link"
	"kindred/host/pci"
	"kindred/host/tree"
)

// kernel is the Settings of the running kernel, whose sysfs d shows.
type kernel struct{ d tree.Dir }

func kernelSettings(d tree.Dir) Settings { return kernel{d} }

// Migratable's values.
const (
	enable  = "enable"
	disable = "disable"
)

func (k kernel) Get(ctx context.Context, pf, vf, name string) (string, error) {
	number, err := k.number(pf, vf)
	if err != nil {
		return "", err
	}
	if name == Migratable {
		conn, err := devlink.Dial()
		if err != nil {
			return "", err
		}
		defer conn.Close()
		is, err := conn.Migratable(ctx, "pci", pf, number)
		if err != nil || !is {
			return disable, err
		}
		return enable, nil
	}
	conn, err := link.Dial()
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_, has, err := uplink(ctx, k.d, pf, uint32(number), conn.VF)
	if err != nil {
		return "", err
	}
	if name == VLAN {
		return formatVLAN(has.VLAN, has.QoS), nil
	}
	return has.MAC.String(), nil
}

func (k kernel) Set(ctx context.Context, pf, vf, name, value string) error {
	number, err := k.number(pf, vf)
	if err != nil {
		return err
	}
	if name == Migratable {
		conn, err := devlink.Dial()
		if err != nil {
			return err
		}
		defer conn.Close()
		return conn.SetMigratable(ctx, "pci", pf, number, value == enable)
	}
	conn, err := link.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	index, _, err := uplink(ctx, k.d, pf, uint32(number), conn.VF)
	if err != nil {
		return err
	}
	if name == VLAN {
		id, qos, err := ParseVLAN(value)
		if err != nil {
			return err
		}
		return conn.SetVLAN(ctx, index, uint32(number), id, qos)
	}
	mac, err := net.ParseMAC(value)
	if err != nil {
		return err
	}
	return conn.SetMAC(ctx, index, uint32(number), mac)
}

// number is which of the physical function's it is: the link virtfn<number>
// leads to it (drivers/pci/iov.c).
func (k kernel) number(pf, vf string) (int, error) {
	dir := path.Join(pci.Devices, pf)
	entries, err := k.d.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name, "virtfn")
		n, err := strconv.Atoi(text)
		if !ok || err != nil {
			continue
		}
		if to, err := k.d.Readlink(dir + "/" + e.Name); err == nil && path.Base(to) == vf {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s is no virtual function of %s", vf, pf)
}

// uplink is the number of the physical function's network interface that lists
// the virtual function, and what it lists. In switchdev mode the interfaces that
// represent the virtual functions are in the same directory, and list none.
func uplink(ctx context.Context, d tree.Dir, pf string, vf uint32, ask func(ctx context.Context, index int, vf uint32) (link.VF, error)) (int, link.VF, error) {
	dir := path.Join(pci.Devices, pf, "net")
	entries, err := d.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return 0, link.VF{}, errors.New("its physical function " + pf + " has no network interface")
	}
	for _, e := range entries {
		name := dir + "/" + e.Name + "/ifindex"
		text, err := tree.Text(d, name)
		if err != nil {
			return 0, link.VF{}, err
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, link.VF{}, fmt.Errorf("/%s: %q is not a number", name, text)
		}
		if has, err := ask(ctx, n, vf); !errors.Is(err, link.ErrNone) {
			return n, has, err
		}
	}
	return 0, link.VF{}, fmt.Errorf("%d interfaces of %s: %w", len(entries), pf, link.ErrNone)
}

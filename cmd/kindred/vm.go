// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kindred/libvirt"
	"kindred/qmp"
	"kindred/vm"
)

func newVM() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "Move this host's VMs with their devices",
		Long: `Move this host's virtual machines with the devices that they have of it. The VMs
are those of libvirt; all devices of one are judged together, and go together.
Where libvirt is not what starts VMs, --qmp names one QEMU's own socket.`,
		Example: `  kindred vm list
  kindred vm check desk host-b
  kindred vm migrate desk host-b`,
		Args: cobra.ArbitraryArgs,
		RunE: needsSubcommand,
	}
	cmd.AddCommand(newVMList(), newVMTargets(), newVMCheck(), newVMMigrate())
	return cmd
}

// vmFlags say which VM manager is asked, and what the fleet calls this host.
type vmFlags struct {
	connect, host  string
	qmp, targetQMP string // sockets
}

func (f *vmFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.connect, "connect", "c", libvirt.System, "which libvirt is asked, `URI`")
	cmd.Flags().StringVar(&f.qmp, "qmp", "", "ask one QEMU instead, at its QMP `SOCKET`")
	cmd.MarkFlagsMutuallyExclusive("connect", "qmp")
}

func (f *vmFlags) addHost(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.host, "host", "", "this host as the fleet calls it, `NAME` (the machine's own name)")
}

// vmLimit bounds questions to a VM manager.
const vmLimit = 30 * time.Second

func (f *vmFlags) open(ctx context.Context) (vm.Manager, error) {
	ctx, cancel := context.WithTimeout(ctx, vmLimit)
	defer cancel()
	if f.qmp == "" {
		c, err := libvirt.Dial(ctx, f.connect)
		if err != nil {
			return nil, err
		}
		return libvirt.Manager{Conn: c}, nil
	}
	c, err := qmp.Dial(ctx, f.qmp)
	if err != nil {
		return nil, err
	}
	m := qmp.Manager{Conn: c}
	if f.targetQMP != "" {
		if m.Target, err = qmp.Dial(ctx, f.targetQMP); err != nil {
			c.Close()
			return nil, fmt.Errorf("the target's QEMU: %w", err)
		}
	}
	return m, nil
}

// guest opens the VM manager and finds a VM with devices.
func (f *vmFlags) guest(cmd *cobra.Command, name string) (vm.Manager, *vm.Guest, error) {
	m, err := f.open(cmd.Context())
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), vmLimit)
	defer cancel()
	g, err := m.Guest(ctx, name)
	if err == nil && len(g.Devices) == 0 {
		err = fmt.Errorf("%s has none of this host's devices: its VM manager migrates it alone", g.Name)
	}
	if err != nil {
		m.Close()
		if errors.Is(err, libvirt.ErrNoDomain) || errors.Is(err, qmp.ErrNoGuest) {
			err = &exitError{exitNoSuch, err}
		}
		return nil, nil, err
	}
	return m, g, nil
}

// here is this host's name in the fleet.
func (f *vmFlags) here() (string, error) {
	if f.host != "" {
		return f.host, nil
	}
	return os.Hostname()
}

// refs names a VM's devices as the fleet does.
func (f *vmFlags) refs(g *vm.Guest) ([]string, error) {
	host, err := f.here()
	if err != nil {
		return nil, err
	}
	var refs []string
	for _, id := range g.IDs() {
		refs = append(refs, host+"/"+id)
	}
	return refs, nil
}

func newVMList() *cobra.Command {
	flags, output := new(vmFlags), new(outputFlag)
	all := false
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List VMs with the host's devices that they have",
		Example: "  kindred vm list\n  kindred vm list --all -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.check(cmd); err != nil {
				return err
			}
			return runVMList(cmd, flags, output, all)
		},
	}
	flags.add(cmd)
	output.add(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "also VMs that have no such devices")
	return cmd
}

func runVMList(cmd *cobra.Command, flags *vmFlags, output *outputFlag, all bool) error {
	m, err := flags.open(cmd.Context())
	if err != nil {
		return err
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), vmLimit)
	defer cancel()
	guests, err := m.Guests(ctx)
	if err != nil {
		return err
	}
	list := []vm.Guest{}
	for _, g := range guests {
		if all || len(g.Devices) > 0 {
			list = append(list, g)
		}
	}
	if len(list) == 0 {
		cmd.PrintErrln("kindred: no VM has devices of this host")
	}
	return output.print(cmd, list, func() {
		t := newTable("VM", "STATE", "DEVICE", "MODEL")
		for i := range list {
			g := &list[i]
			if len(g.Devices) == 0 {
				t.add(g.Name, string(g.State), "-", "-")
			}
			for n, d := range g.Devices {
				name, state := g.Name, string(g.State)
				if n > 0 {
					name, state = "", ""
				}
				t.add(name, state, d.ID, orDash(d.Model))
			}
		}
		if len(list) > 0 {
			cmd.Print(t.String())
		}
	})
}

type vmTargetsOptions struct {
	targetsOptions
	vm vmFlags
}

func newVMTargets() *cobra.Command {
	opts := new(vmTargetsOptions)
	cmd := &cobra.Command{
		Use:   "targets VM",
		Short: "Show which hosts a VM can move to with all its devices",
		Long: `Show, for every other host, whether the VM can move there with all of its
devices together, as kindred targets does for devices that are named.

Exit code: 0 some host is ready, 5 compatible ones are all full, 3 at best
unknown, 4 none is allowed; 7 there is no such VM.`,
		Example: `  kindred vm targets desk
  kindred vm targets desk --inventory fleet/ --explain`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.check(cmd); err != nil {
				return err
			}
			m, g, err := opts.vm.guest(cmd, args[0])
			if err != nil {
				return err
			}
			m.Close()
			refs, err := opts.vm.refs(g)
			if err != nil {
				return err
			}
			return runTargets(cmd, &opts.targetsOptions, strings.Join(refs, ","))
		},
	}
	opts.add(cmd)
	opts.vm.add(cmd)
	opts.vm.addHost(cmd)
	return cmd
}

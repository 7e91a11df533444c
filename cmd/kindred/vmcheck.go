// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/fleet"
	"kindred/inventory"
	"kindred/vm"
)

type vmCheckOptions struct {
	vm       vmFlags
	server   serverFlags
	files    inputFlags
	catalogs catalogFlags
	proofs   proofFlags
	output   outputFlag
	explain  bool
}

// vmCheck is the answer to whether a VM can go to one host.
type vmCheck struct {
	VM         *vm.Guest          `json:"vm"`
	Target     *fleet.JointTarget `json:"target"`
	Conditions []vm.Condition     `json:"conditions"`
}

func newVMCheck() *cobra.Command {
	opts := new(vmCheckOptions)
	cmd := &cobra.Command{
		Use:   "check VM HOST",
		Short: "Say whether a VM can move to a host now",
		Long: `Say whether a VM can move to a host with all its devices: whether they are
compatible and there is room for all of them, and what else a move needs, on both
hosts: QEMU, libvirt, kernel, P2P states where a VM has several devices. Post-copy
is never used: VFIO devices cannot go that way.

Nothing is changed or held. Only the source's QEMU itself knows some things that
stand against a migration, such as a device without dirty tracking: it says so
when it is asked to migrate, with the VM untouched.

Exit code: 0 yes, 5 there is no room, 3 something is not known, 4 no; 7 there is
no such VM or host.`,
		Example: `  kindred vm check desk host-b
  kindred vm check desk host-b --inventory fleet/ --explain`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return runVMCheck(cmd, opts, args[0], args[1]) },
	}
	opts.vm.add(cmd)
	opts.vm.addHost(cmd)
	opts.server.add(cmd.Flags())
	opts.files.addFiles(cmd.Flags())
	opts.catalogs.add(cmd.Flags())
	opts.proofs.add(cmd.Flags())
	opts.output.add(cmd)
	cmd.Flags().BoolVar(&opts.explain, "explain", false, "show every finding")
	return cmd
}

func runVMCheck(cmd *cobra.Command, opts *vmCheckOptions, name, target string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	m, g, err := opts.vm.guest(cmd, name)
	if err != nil {
		return err
	}
	m.Close()
	here, err := opts.vm.here()
	if err != nil {
		return err
	}
	refs, err := opts.vm.refs(g)
	if err != nil {
		return err
	}
	var joint *fleet.Joint
	var both [2]*inventory.Inventory
	if c, err := opts.server.instead(cmd, opts.files.inventories); err != nil {
		return err
	} else if c != nil {
		defer c.Close()
		for i, host := range []string{here, target} {
			h, err := c.Host(cmd.Context(), host)
			if err != nil {
				return refusal(err)
			}
			both[i] = h.Inventory
		}
		if joint, err = c.Joint(cmd.Context(), &api.JointRequest{Devices: refs}); err != nil {
			return refusal(err)
		}
	} else if joint, both, err = opts.offline(cmd, refs, here, target); err != nil {
		return err
	}
	i := slices.IndexFunc(joint.Hosts, func(h fleet.JointTarget) bool { return h.Host == target })
	if i < 0 {
		return &exitError{exitNoSuch, fmt.Errorf("host %q is none that %s could go to", target, g.Name)}
	}
	answer := &vmCheck{VM: g, Target: &joint.Hosts[i], Conditions: vm.Conditions(g, both[0], both[1])}
	for _, c := range answer.Target.Ready {
		answer.Conditions = append(answer.Conditions, vm.Condition{Code: string(c.Code), Met: c.Met, Detail: c.Detail})
	}
	if err := opts.output.print(cmd, answer, func() { printVMCheck(cmd, answer, opts.explain) }); err != nil {
		return err
	}
	return answer.exit()
}

// offline answers from files.
func (o *vmCheckOptions) offline(cmd *cobra.Command, refs []string, hosts ...string) (joint *fleet.Joint, both [2]*inventory.Inventory, err error) {
	engine, err := openEngine(cmd, &o.catalogs, &o.proofs)
	if err != nil {
		return nil, both, err
	}
	list, err := readFiles(o.files.inventories)
	if err != nil {
		return nil, both, err
	}
	for i, name := range hosts {
		n := slices.IndexFunc(list, func(inv *inventory.Inventory) bool { return inv.Host.Name == name })
		if n < 0 {
			return nil, both, &exitError{exitNoSuch, fmt.Errorf("host %q is in none of these inventories", name)}
		}
		both[i] = list[n]
	}
	f, err := fleet.New(engine, list)
	if err != nil {
		return nil, both, &exitError{exitInput, err}
	}
	var sources []*fleet.Source
	for _, ref := range refs {
		s, err := source(f, ref)
		if err != nil {
			return nil, both, err
		}
		sources = append(sources, s)
	}
	if joint, err = f.Joint(sources, fleet.Options{}); err != nil {
		return nil, both, noSuch(err)
	}
	return joint, both, nil
}

// exit is the answer as an exit code: the worst of the devices' and the VM's.
func (c *vmCheck) exit() error {
	met := vm.Met(c.Conditions)
	switch g := c.Target.Group; {
	case g == fleet.NotAllowed || g == fleet.NotReporting || met == inventory.No:
		return &exitError{code: exitNo}
	case g == fleet.Full:
		return &exitError{code: exitFull}
	case g == fleet.Unsettled || met == inventory.Unknown:
		return &exitError{code: exitUnknown}
	}
	return nil
}

func printVMCheck(cmd *cobra.Command, c *vmCheck, explain bool) {
	cmd.Printf("%s, %s, to %s: %s\n", clean(c.VM.Name), c.VM.State, clean(c.Target.Host), groupText(c.Target.Group))
	if text := reasonText(c.Target.Reason); text != "" {
		cmd.Println(clean(text))
	}
	if len(c.Target.Places) > 0 {
		t := newTable("DEVICE", "CREATE", "ROOM", "PARENT")
		for _, p := range c.Target.Places {
			t.add(p.Device, typeText(p.Type), roomText(p.Room.Count), p.Parent)
		}
		cmd.Print("\n" + t.String())
	}
	t := newTable("MET", "CONDITION", "DETAIL")
	for _, one := range c.Conditions {
		t.add(string(one.Met), one.Code, one.Detail)
	}
	cmd.Print("\n" + t.String())
	if !explain {
		return
	}
	for _, p := range c.Target.Places {
		cmd.Printf("\n%s as %s on %s\n", clean(p.Device), clean(typeText(p.Type)), clean(p.Parent))
		printFindings(cmd, p.Verdict.Findings)
	}
}

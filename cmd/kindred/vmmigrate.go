// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/vm"
)

type vmMigrateOptions struct {
	vm     vmFlags
	server serverFlags
	output outputFlag
	want   wantFlags
	to     vm.Target
	wait   time.Duration
	quiet  bool
}

func newVMMigrate() *cobra.Command {
	opts := new(vmMigrateOptions)
	cmd := &cobra.Command{
		Use:   "migrate VM HOST",
		Short: "Move a running VM to a host, with all its devices",
		Long: `Move a running VM to a host, with all its devices: hold room there, have the
host's agent make the devices, have libvirt move the VM with their addresses put
in, and clear the end that is left. It is virsh migrate --live --p2p, with the
devices; a hook on the target is not needed for it.

A migration or a claim that was made for the VM before is used. Where the VM does
not come to run on the target it stays where it is, and what was made there is
removed. Ctrl-C has libvirt stop the migration.

With --qmp it is one QEMU's VM, and --to is where the target's QEMU listens. That
one has to be started with the devices that were prepared for the VM, before: see
docs/libvirt.md. With --target-qmp it is looked whether it was, and whether the VM
runs there at last; then the source's QEMU is ended. Else that is left to you.

Exit code: 0 the VM runs on HOST; 4 it cannot go there, 5 there is no room, 3
something is not known and was not accepted; 1 the move failed.`,
		Example: `  kindred vm migrate desk host-b
  kindred vm migrate desk host-b --to qemu+tls://host-b.example.org/system
  kindred vm migrate desk host-b --persistent --undefine-source
  kindred vm migrate desk host-b --qmp /run/desk.sock --to tcp:host-b:4444`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return runVMMigrate(cmd, opts, args[0], args[1]) },
	}
	opts.vm.add(cmd)
	opts.vm.addHost(cmd)
	opts.server.add(cmd.Flags())
	opts.output.add(cmd)
	opts.want.addTerms(cmd)
	fs := cmd.Flags()
	fs.StringVar(&opts.to.URI, "to", "", "`URI` of the target's libvirt, for this host's (qemu+ssh://HOST/system)")
	fs.StringVar(&opts.vm.targetQMP, "target-qmp", "", "with --qmp: the target's QEMU, to be asked too, at its `SOCKET`")
	fs.StringVar(&opts.to.Migrate, "migrate-uri", "", "where the state goes, `URI`, as virsh's --migrateuri")
	fs.BoolVar(&opts.to.Persist, "persistent", false, "define the VM on the target for good")
	fs.BoolVar(&opts.to.Undefine, "undefine-source", false, "remove its definition here")
	fs.DurationVar(&opts.wait, "wait", time.Minute, "how long the target may take to make the devices")
	fs.BoolVarP(&opts.quiet, "quiet", "q", false, "do not tell on standard error how far it is")
	return cmd
}

// check refuses flags that do not go together.
func (o *vmMigrateOptions) check(cmd *cobra.Command) error {
	switch {
	case o.vm.qmp == "" && o.vm.targetQMP != "":
		return usage(cmd, errors.New("--target-qmp goes with --qmp"))
	case o.vm.qmp != "" && o.to.URI == "":
		return usage(cmd, errors.New("--qmp needs --to: where the target's QEMU listens, such as tcp:host-b:4444"))
	case o.vm.qmp != "" && (o.to.Persist || o.to.Undefine || o.to.Migrate != ""):
		return usage(cmd, errors.New("--persistent, --undefine-source and --migrate-uri are for libvirt, and not for --qmp"))
	}
	return nil
}

func runVMMigrate(cmd *cobra.Command, opts *vmMigrateOptions, name, target string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	if err := opts.check(cmd); err != nil {
		return err
	}
	want, err := opts.want.request(cmd, nil)
	if err != nil {
		return err
	}
	c, err := opts.server.need(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	manager, guest, err := opts.vm.guest(cmd, name)
	if err != nil {
		return err
	}
	defer manager.Close()
	if opts.to.URI == "" { // of libvirt
		opts.to.URI = "qemu+ssh://" + target + "/system"
	}
	here, err := opts.vm.here()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	tell := &vmProgress{to: cmd.ErrOrStderr(), terminal: newProgress(cmd.ErrOrStderr()) != nil}
	if opts.quiet {
		tell = &vmProgress{to: io.Discard}
	}
	move := &vm.Migration{
		Preparation: vm.Preparation{Fleet: c, Guest: guest, Source: here, Target: target, Want: *want, Seen: tell.state},
		Manager:     manager, To: opts.to, Wait: opts.wait, Tell: tell.moving,
	}
	result, err := move.Run(ctx)
	tell.clear()
	if result == nil {
		if err != nil && ctx.Err() != nil && cmd.Context().Err() == nil {
			return &exitError{exitInterrupt, err}
		}
		return refusal(err)
	}
	if err != nil { // it runs there all the same
		cmd.PrintErrln("kindred: " + clean(oneLine(err.Error())))
	}
	return opts.output.print(cmd, result, func() { printVMEnd(cmd, guest, result) })
}

// vmProgress tells how far a move is: each state on a line of its own, and on a
// terminal what goes over in between.
type vmProgress struct {
	to       io.Writer
	terminal bool
	last     api.MigrationState
	drawn    bool
}

func (p *vmProgress) state(m *api.Migration) {
	if m.State != p.last {
		p.clear()
		p.last = m.State
		fmt.Fprintf(p.to, "%s  %s  %s -> %s\n", m.ID, m.State, clean(m.Source), clean(m.Target))
	}
}

func (p *vmProgress) moving(now vm.Progress) {
	if !p.terminal {
		return
	}
	text := sizeText(now.Done) + " of " + sizeText(now.Total)
	if now.Rate > 0 {
		text += ", " + sizeText(now.Rate) + "/s"
	}
	if now.Device > 0 {
		text += ", of it devices " + sizeText(now.Device)
	}
	p.drawn = true
	fmt.Fprint(p.to, "\r\x1b[K"+text)
}

func (p *vmProgress) clear() {
	if p.drawn {
		fmt.Fprint(p.to, "\r\x1b[K")
		p.drawn = false
	}
}

func printVMEnd(cmd *cobra.Command, g *vm.Guest, r *vm.Result) {
	cmd.Printf("%s runs on %s; migration %s is %s\n", clean(g.Name), clean(r.Migration.Target), r.Migration.ID, r.Migration.State)
	if r.End != nil {
		for _, one := range []struct {
			what string
			took *time.Duration
		}{{"took", r.End.Took}, {"down for", r.End.Downtime}} {
			if one.took != nil {
				cmd.Printf("%s %s\n", one.what, one.took.Round(time.Millisecond))
			}
		}
		if r.End.Bytes != nil {
			cmd.Printf("moved %s", sizeText(*r.End.Bytes))
			if r.End.Device != nil {
				cmd.Printf(", of it devices %s", sizeText(*r.End.Device))
			}
			cmd.Println()
		}
	}
	if r.End != nil && r.End.Open {
		cmd.Println("The source's QEMU still has its devices open: end it, and they are removed.")
	}
	t := newTable("WAS", "IS")
	for _, d := range r.Migration.Devices {
		t.add(d.Source, d.Target)
	}
	cmd.Print("\n" + t.String())
}

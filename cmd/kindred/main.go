// SPDX-License-Identifier: Apache-2.0

// Command kindred shows what a host's assignable devices are and answers where
// they can live-migrate to. It is thin: flags, reading input, printing; the
// answers come from packages host, compat and fleet.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"kindred/prove"
)

// main leaves signals alone: they end the program, which holds its output back
// until it is whole. Commands that wait for others stop at them in order.
func main() {
	collectLate()
	if name := calledAs(os.Args[0]); name != "" {
		os.Exit(runMdevctl(context.Background(), name, os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// Exit codes, for scripts. docs/cli.md explains them.
const (
	exitOK        = 0 // done; for a question: yes
	exitFailed    = 1 // something else went wrong
	exitUsage     = 2 // wrong flags or arguments
	exitUnknown   = 3 // the answer is unknown
	exitNo        = 4 // the answer is no
	exitFull      = 5 // compatible, but nowhere has room
	exitInput     = 6 // a file could not be read or is wrong
	exitNoSuch    = 7 // no such device, or several
	exitInterrupt = 130
)

// exitError ends the program with a code. With a nil Err nothing is printed:
// the answer was.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// run is the program without its process: arguments in, exit code out. All
// that is printed on stdout is held back until the command succeeded.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var out strings.Builder
	root := newRoot(args...)
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(stderr)
	err := root.ExecuteContext(context.WithValue(ctx, streamKey{}, stdout))
	code := exitOK
	exit, isExit := errors.AsType[*exitError](err)
	switch {
	case isExit:
		code = exit.code
	case err != nil:
		code = exitFailed
	}
	if err != nil && (!isExit || exit.err != nil) {
		fmt.Fprintln(stderr, "kindred: "+clean(oneLine(err.Error())))
		return code
	}
	if _, err := io.WriteString(stdout, out.String()); err != nil && !errors.Is(err, syscall.EPIPE) {
		fmt.Fprintln(stderr, "kindred: write the answer: "+err.Error())
		return exitFailed
	}
	return code
}

// streamKey is the key of standard output itself in a command's context, for
// the command whose answer has no end.
type streamKey struct{}

// commands are what kindred can do.
var commands = []command{
	{name: "inspect", make: newInspect},
	{name: "type", make: newType},
	{name: "device", make: newDevice, under: []command{
		{name: "list", make: newDeviceList},
		{name: "show", make: newDeviceShow},
		{name: "define", make: newDeviceDefine},
		{name: "undefine", make: newDeviceUndefine},
		{name: "modify", make: newDeviceModify},
		{name: "start", make: newDeviceStart},
		{name: "stop", make: newDeviceStop},
		{name: "repair", make: newDeviceRepair},
	}},
	{name: "check", make: newCheck},
	{name: "targets", make: newTargets},
	{name: "matrix", make: newMatrix},
	{name: "reach", make: newReach},
	{name: "whatif", make: newWhatIf},
	{name: "drain", make: newDrain},
	{name: "watch", make: newWatch},
	{name: "agent", make: newAgent},
	{name: "host", make: newHost},
	{name: "claim", make: newClaim},
	{name: "migration", make: newMigration},
	{name: "events", make: newEvents},
	{name: "vm", make: newVM},
	{name: "hook", make: newHook},
	{name: "catalog", make: newCatalog},
	{name: "prove", make: newProve},
	{name: "proof", make: newProof},
	{name: "canary", make: newCanary},
	{name: "stream", make: newStream},
	{name: prove.GuardCommand, make: newCanaryGuard},
	{name: "reason", make: newReason},
	{name: "mdevctl", make: newMdevctl},
	{name: "version", make: newVersion},
}

type command struct {
	name  string
	make  func() *cobra.Command
	under []command
}

// add makes the command that args call and adds it to cmd. Unless they begin
// with its name it adds all, and says so.
func add(cmd *cobra.Command, commands []command, args []string) (all bool) {
	called := slices.IndexFunc(commands, func(c command) bool { return len(args) > 0 && c.name == args[0] })
	for i, c := range commands {
		if called >= 0 && i != called {
			continue
		}
		made := c.make()
		var below []string
		if i == called {
			below = args[1:]
		}
		add(made, c.under, below)
		cmd.AddCommand(made)
	}
	return called < 0
}

// newRoot makes the command that args call and, unless they begin with its
// name, all others too: making them takes longer than starting to read.
func newRoot(args ...string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kindred",
		Short: "Find where a VM's assigned devices can live-migrate to",
		Long: `Kindred answers, for virtual machines with assigned devices (mediated devices,
SR-IOV functions, vGPUs): which hosts can this device live-migrate to, why not
the others, and is the target ready?

It reads hosts and changes nothing, but for what is asked for by the name of
its command: device define, undefine, modify, start, stop, repair; claim and
migration, by a server.`,
		Example: `  kindred inspect -o json > host-a.json    # on each host
  kindred device list --inventory host-a.json
  kindred targets 83b8f4f2 --inventory host-a.json,host-b.json`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err) })
	if add(cmd, commands, args) {
		cmd.InitDefaultCompletionCmd()
	}
	cmd.CompletionOptions.DisableDefaultCmd = true // cobra would add it still
	for _, sub := range everyCommand(cmd) {
		if sub.Args != nil {
			check := sub.Args
			sub.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return usage(cmd, err)
				}
				return nil
			}
		}
	}
	return cmd
}

// everyCommand is cmd and all below it.
func everyCommand(cmd *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		list = append(list, everyCommand(sub)...)
	}
	return list
}

// usage is an error in how the program was called.
func usage(cmd *cobra.Command, err error) error {
	return &exitError{exitUsage, fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
}

// needsSubcommand refuses a bare or unknown word after a noun.
func needsSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return usage(cmd, fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath()))
}

// SPDX-License-Identifier: Apache-2.0

// Package mdevctl speaks the command line of mdevctl, for libvirt's
// node-device driver, udev, scripts and habits.
//
// What list and types print, and their exit codes, are those of mdevctl 1.2.0
// byte for byte; so are the files that define and modify write. The flags of
// 1.3 and 1.4 are taken (--force, --live, --defined and --jsonfile of modify),
// and their scripts (package definition/callout) are run. Where mdevctl fails
// as a whole because of one file, waits for ever or panics, this package does
// not: docs/mdevctl.md lists every difference.
//
// Devices are read with package host/mdev and changed through [Changer].
package mdevctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"kindred/definition"
	"kindred/definition/callout"
	"kindred/host/mdev"
	"kindred/host/tree"
)

// Exit codes of mdevctl.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Changer starts and stops devices.
type Changer interface {
	// Start creates the device of the definition and writes its attributes.
	// When it fails there is no device.
	Start(ctx context.Context, d *definition.Definition) error
	// Stop removes the device, and fails when somebody has it open.
	Stop(ctx context.Context, uuid string) error
}

// System is the machine and the process that a command runs in.
type System struct {
	Root    string // "/", or what MDEVCTL_ENV_ROOT names
	Change  Changer
	Version string // of Kindred
	// Interruptible makes a context that ends when the process is asked to end.
	// It is called before the first script or change: what only reads is ended
	// by the signal itself, and starts sooner. Nil leaves the context as it is.
	Interruptible func(context.Context) (until context.Context, stop context.CancelFunc)
	Stdout        io.Writer
	Stderr        io.Writer
}

// Run runs one command of the program called name (mdevctl, or lsmdev, which
// is its list) and returns the exit code.
func Run(ctx context.Context, name string, args []string, sys System) int {
	r := &run{System: sys}
	var stop context.CancelFunc = func() {}
	defer func() { stop() }()
	r.context = sync.OnceValue(func() context.Context {
		if sys.Interruptible != nil {
			ctx, stop = sys.Interruptible(ctx)
		}
		return ctx
	})
	err := r.dispatch(name, args)
	usage, isUsage := errors.AsType[*usageError](err)
	switch {
	case isUsage:
		fmt.Fprintf(r.Stderr, "error: %s\n\nFor more information try %s --help\n", visible(usage.Error()), usage.command)
		return exitUsage
	case err != nil:
		fmt.Fprintf(r.Stderr, "Error: %s\n", visible(err.Error()))
		return exitFailed
	}
	return exitOK
}

// run is one command on its way.
type run struct {
	System
	context func() context.Context
	telling sync.Mutex
}

// usageError is an error in how the program was called.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func (r *run) dispatch(name string, args []string) error {
	if name == "lsmdev" {
		return r.command(&lsmdev, args)
	}
	if len(args) == 0 {
		r.print(r.Stderr, programHelp())
		return &usageError{"mdevctl", errors.New("no command was given")}
	}
	switch args[0] {
	case "-h", "--help":
		return r.print(r.Stdout, programHelp())
	case "-V", "--version":
		return r.print(r.Stdout, "mdevctl "+r.version())
	case "help":
		return r.help(args[1:])
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return r.command(c, args[1:])
		}
	}
	return &usageError{"mdevctl", fmt.Errorf("unknown command or flag %q", args[0])}
}

func (r *run) help(args []string) error {
	if len(args) == 0 {
		return r.print(r.Stdout, programHelp())
	}
	commands := commands()
	i := slices.IndexFunc(commands, func(c *command) bool { return c.name == args[0] })
	if i < 0 || len(args) > 1 {
		return &usageError{"mdevctl", fmt.Errorf("there is no help for %q", strings.Join(args, " "))}
	}
	return r.print(r.Stdout, commands[i].help())
}

func (r *run) command(c *command, args []string) error {
	o, err := c.parse(args)
	switch {
	case err != nil:
		return err
	case o.help:
		return r.print(r.Stdout, c.help())
	case o.version:
		return r.print(r.Stdout, c.program()+" "+r.version())
	}
	return c.run(r, o)
}

// version is the newest mdevctl whose flags are taken, for scripts that look
// at it, and our own.
func (r *run) version() string { return "1.4.0 (Kindred " + r.Version + ")\n" }

func (r *run) print(w io.Writer, text string) error {
	if _, err := io.WriteString(w, text); err != nil && !errors.Is(err, errClosed) {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// printLong is print to standard output, without making a string of it first.
func (r *run) printLong(text []byte) error {
	if _, err := r.Stdout.Write(text); err != nil && !errors.Is(err, errClosed) {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// warn tells of what could not be read, on standard error.
func (r *run) warn(name string, err error) {
	if errors.Is(err, mdev.ErrNamespace) {
		return // mdevctl never splits a type's name
	}
	r.tell("Warning: /" + name + ": " + reason(err))
}

// tell writes one message, whole.
func (r *run) tell(text string) {
	r.telling.Lock()
	defer r.telling.Unlock()
	_, _ = io.WriteString(r.Stderr, visible(strings.TrimRight(text, "\n"))+"\n")
}

func (r *run) open() (tree.Dir, error) {
	d, err := tree.Open(r.Root)
	if err != nil {
		return nil, fmt.Errorf("read this machine: %w", err)
	}
	return d, nil
}

func (r *run) store() (*definition.Store, error) { return definition.Open(r.Root) }

func (r *run) scripts() *callout.Scripts { return callout.Find(r.Root, r.tell) }

// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Kindred-lab gives a person hosts with real mediated devices, and a shell on
// each: real kernels under QEMU, up in seconds, gone with Ctrl-C.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"kindred/lab"
)

const usage = `Hosts with real mediated devices, in QEMU, for trying Kindred by hand.

Usage:
  kindred-lab up [-kindred PATH] [-tmux] [HOST...]   boot hosts (default: a b) and keep them until Ctrl-C
  kindred-lab shell HOST                             a shell on a host that is up; Ctrl-] leaves it
  kindred-lab exec HOST -- COMMAND...                run one command on a host that is up
  kindred-lab prepare                                only fill the cache
  kindred-lab prepare libvirt                        add libvirt, for the test with it
  kindred-lab prepare mdevctl                        add mdevctl 1.4.0, and print how to run it here
  kindred-lab prepare vm                             add the root of hosts that run VMs
  kindred-lab prepare iommufd                        add a kernel with IOMMUFD, for the test with it: minutes

Hosts:
%s
A host reaches this machine's loopback at 10.0.2.2.

Examples:
  kindred-lab up                       in one terminal, and in others:
  kindred-lab shell a
  kindred-lab exec b -- sh -c 'cat /sys/class/mdev_bus/*/mdev_supported_types/*/available_instances'
  kindred-lab up -tmux a c             both shells side by side in this terminal
  kindred-lab up -kindred ./bin/kindred a
`

// exitCode ends the program with a code of somebody else's and no message.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, os.Args[1:])
	var code exitCode
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code))
	default:
		fmt.Fprintf(os.Stderr, "kindred-lab: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		printUsage()
		return exitCode(2)
	}
	command, args := args[0], args[1:]
	switch command {
	case "up":
		return up(ctx, args)
	case "shell":
		if len(args) != 1 || strings.HasPrefix(args[0], "-") {
			return errors.New("usage: kindred-lab shell HOST")
		}
		return shell(ctx, args[0])
	case "exec":
		return execute(ctx, args)
	case "prepare":
		return prepare(ctx, args)
	case "help", "-h", "-help", "--help":
		printUsage()
		return nil
	}
	return fmt.Errorf("no command %q; kindred-lab help lists them", command)
}

func prepare(ctx context.Context, args []string) error {
	switch {
	case len(args) == 0:
		a, err := lab.Prepare(ctx, "", logf)
		if err == nil {
			fmt.Println(a.Dir)
		}
		return err
	case len(args) == 1 && args[0] == "libvirt":
		_, err := lab.PrepareLibvirt(ctx, "", logf)
		return err
	case len(args) == 1 && args[0] == "mdevctl":
		command, err := lab.PrepareMdevctl(ctx, "", logf)
		if err == nil {
			fmt.Println(command)
		}
		return err
	case len(args) == 1 && args[0] == "vm":
		file, err := lab.PrepareHypervisor(ctx, "", logf)
		if err == nil {
			fmt.Println(file)
		}
		return err
	case len(args) == 1 && args[0] == "iommufd":
		return lab.BuildIOMMUFD(ctx, "", logf)
	}
	return errors.New("usage: kindred-lab prepare [libvirt|mdevctl|vm|iommufd]")
}

func printUsage() {
	var hosts strings.Builder
	for _, h := range lab.KnownHosts() {
		fmt.Fprintf(&hosts, "  %-9s  %s\n", h.Name, strings.Join(h.Modules, ", "))
	}
	fmt.Fprintf(os.Stderr, usage, hosts.String())
}

// newFlags makes a flag set whose help is the program's.
func newFlags(name string) *flag.FlagSet {
	f := flag.NewFlagSet("kindred-lab "+name, flag.ContinueOnError)
	f.Usage = printUsage
	return f
}

func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

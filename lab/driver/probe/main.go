// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Probe runs in a guest of the lab and tries the lab's own driver by system calls
// alone. It shares no code with what that driver's truth is to judge.
//
//	probe truth FILE      every ordered pair of builds and types, as JSON
//	probe cycles ...      creates and removes devices, and watches the kernel's memory
//	probe transfers ...   moves state to and fro between two devices, and watches too
//	probe fuzz ...        does what no program should
//	probe faults MODULE   switches every fault on and says what it does
//	probe outlive MODULE  closes and removes a device before its data fd
//	probe keep NAMESPACE  what a second opener finds
//	probe large           moves a large state, and times it
//	probe hold UUID       opens a device, says so, and keeps it until its input ends
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"kindred/lab/driver/internal/raw"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "probe: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("what? see the package's comment")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	namespace := flags.String("namespace", "kdx", "the namespace whose first type is used")
	count := flags.Int("n", 1000, "how many")
	seconds := flags.Int("seconds", 20, "for how long")
	seed := flags.Uint64("seed", 1, "what randomness starts from")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "truth":
		return truthOf(flags.Arg(0))
	case "cycles":
		return cycles(*namespace, *count)
	case "transfers":
		return transfers(*namespace, *count)
	case "fuzz":
		return fuzz(time.Duration(*seconds)*time.Second, *seed)
	case "faults":
		return faults(flags.Arg(0), *namespace)
	case "outlive":
		return outlive(flags.Arg(0), *namespace)
	case "keep":
		return keep(flags.Arg(0))
	case "large":
		return large(*namespace)
	case "hold":
		return hold(flags.Arg(0))
	default:
		return fmt.Errorf("no command %q", args[0])
	}
}

// hold keeps a device open, and a data fd that outlives the device's own.
func hold(uuid string) error {
	d, err := raw.Open(uuid)
	if err != nil {
		return err
	}
	if _, err := d.SetState(raw.StopCopy); err != nil {
		return err
	}
	if err := os.WriteFile("/tmp/hold", nil, 0o600); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	time.Sleep(time.Second)
	d.Close()
	return nil
}

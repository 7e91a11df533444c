// SPDX-License-Identifier: Apache-2.0

// Command fleet-bench measures the questions asked of a whole fleet, on one
// that does not exist, and prints a Markdown table:
//
//	go run ./bench/cmd/fleet-bench -hosts 100000
//
// The fleet is written to a directory as a server stores it, loaded from there,
// changed and asked. Run it on an otherwise idle machine.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"kindred/bench/fleets"
	"kindred/bench/synth"
	"kindred/fleet"
)

func main() {
	var size fleets.Size
	flag.IntVar(&size.Hosts, "hosts", 100_000, "how many `HOSTS`")
	flag.IntVar(&size.Parents, "parents", 8, "how many `PARENTS` each has")
	flag.IntVar(&size.Types, "types", 16, "how many `TYPES` each parent offers, a multiple of 4")
	flag.IntVar(&size.Devices, "devices", 5, "how many `DEVICES` are made on each host, where they fit")
	seed := flag.Uint64("seed", 1, "`NUMBER` that the fleet is made from")
	flag.Parse()
	if err := start(*seed, size); err != nil {
		fmt.Fprintln(os.Stderr, "fleet-bench:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func start(seed uint64, size fleets.Size) error {
	made, err := fleets.New(seed, size)
	if err != nil {
		return err
	}
	dir, err := synth.TempDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := made.Store(dir, runtime.GOMAXPROCS(0)); err != nil {
		return err
	}
	fmt.Printf("%s; %d cores; %s. %d hosts × %d parents × %d types = %.1f million offers.\n\n", time.Now().UTC().Format("2006-01-02 15:04 MST"),
		runtime.GOMAXPROCS(0), runtime.Version(), made.Size.Hosts, made.Size.Parents, made.Size.Types, float64(made.Size.Hosts*made.Size.Parents*made.Size.Types)/1e6)
	fmt.Print("| what | result | wanted |\n|---|---|---|\n")
	x := fleet.NewIndex(made.Engine)
	begin := time.Now()
	if err := fleets.Load(x, dir); err != nil {
		return err
	}
	row("load from the store", time.Since(begin), "at most 30 s")
	return ask(x, made)
}

func row(what string, result any, wanted string) {
	if d, ok := result.(time.Duration); ok {
		switch {
		case d > 10*time.Second:
			d = d.Round(100 * time.Millisecond)
		case d > 10*time.Millisecond:
			d = d.Round(100 * time.Microsecond)
		default:
			d = d.Round(100 * time.Nanosecond)
		}
		result = d
	}
	fmt.Printf("| %s | %v | %s |\n", what, result, wanted)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/spf13/cobra"

	"kindred/fleet"
)

// runJoint answers for several devices of one owner.
func runJoint(cmd *cobra.Command, opts *targetsOptions, f *fleet.Fleet, sources []*fleet.Source, question fleet.Options) error {
	answer, err := f.Joint(sources, question)
	if err != nil {
		return noSuch(err)
	}
	return showJoint(cmd, opts, answer)
}

func showJoint(cmd *cobra.Command, opts *targetsOptions, answer *fleet.Joint) error {
	if err := opts.output.print(cmd, answer, func() { printJoint(cmd, answer, opts) }); err != nil {
		return err
	}
	return targetsExit(answer.Counts)
}

// noSuch gives what a question did not find an exit code of its own.
func noSuch(err error) error {
	if e, ok := errors.AsType[*fleet.Error](err); ok && (e.Code == fleet.NotFound || e.Code == fleet.Ambiguous || e.Code == fleet.Apart) {
		return &exitError{exitNoSuch, err}
	}
	return &exitError{exitInput, err}
}

func printJoint(cmd *cobra.Command, answer *fleet.Joint, opts *targetsOptions) {
	for i := range answer.Devices {
		printDevice(cmd, &answer.Devices[i])
	}
	if answer.Simulated {
		cmd.Println("Some of these hosts are simulated.")
	}
	if opts.summary {
		printSummary(cmd, answer.Counts, answer.Reasons)
		return
	}
	if len(answer.Hosts) == 0 {
		cmd.Println("\nNo other host was given: name more inventories.")
		return
	}
	t := newTable("GROUP", "HOST", "RETURN", "REASON")
	places := newTable("HOST", "DEVICE", "CREATE", "ROOM", "PARENT")
	for i := range answer.Hosts {
		h := &answer.Hosts[i]
		back := "-"
		if h.Return != nil {
			back = short(*h.Return)
		}
		text := reasonText(h.Reason)
		if h.Estimate {
			text += " (an estimate: no catalog says how these types share a parent)"
		}
		t.add(groupText(h.Group), h.Host, back, text)
		for n, p := range h.Places {
			name := ""
			if n == 0 {
				name = h.Host
			}
			places.add(name, p.Device, typeText(p.Type), roomText(p.Room.Count), p.Parent)
		}
	}
	cmd.Print("\n" + t.String())
	if len(places.rows) > 1 {
		cmd.Print("\n" + places.String())
	}
	printRest(cmd, answer.Counts, len(answer.Hosts))
	if opts.explain {
		for i := range answer.Hosts {
			for _, p := range answer.Hosts[i].Places {
				cmd.Printf("\n%s as %s on %s, %s\n", clean(p.Device), clean(typeText(p.Type)), clean(answer.Hosts[i].Host), clean(p.Parent))
				printFindings(cmd, p.Verdict.Findings)
			}
		}
	}
}

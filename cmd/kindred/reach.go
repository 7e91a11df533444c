// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/client"
	"kindred/fleet"
)

type reachOptions struct {
	server   serverFlags
	files    inputFlags
	catalogs catalogFlags
	proofs   proofFlags
	output   outputFlag
	each     bool
	fresh    bool
}

func newReach() *cobra.Command {
	opts := new(reachOptions)
	cmd := &cobra.Command{
		Use:   "reach [--inventory FILES]",
		Short: "Show where all devices could go now, and which could go nowhere",
		Long: `Show, for all devices of the inventories at once, where they could move to now:
hosts that are ready and have room. Devices that are alike are counted together;
for each way to go there are the type to create, how many hosts have room, how
much there is of it, and whether the device could come back (? for unknown).
Then the devices that are stranded, and those one host from it.

With --new the question is another: which type keeps a new VM most movable.
CREATE is how many hosts could create one now, REACH to how many it could move
later from the best of them, LOST how many fewer than the most movable type.

Without --inventory a server is asked, where one is known: about the hosts that
report, and the room that claims leave.

Exit code: 0 every device could go somewhere, 4 some are stranded. With --new:
0 some type can be created, 5 none has room.`,
		Example: `  kindred reach --inventory fleet/
  kindred reach --inventory fleet/ --each -o json
  kindred reach --inventory fleet/ --new`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.files.addArgs(cmd, args); err != nil {
				return err
			}
			return runReach(cmd, opts)
		},
	}
	opts.server.add(cmd.Flags())
	opts.files.addFiles(cmd.Flags())
	opts.catalogs.add(cmd.Flags())
	opts.proofs.add(cmd.Flags())
	opts.output.add(cmd)
	cmd.Flags().BoolVar(&opts.each, "each", false, "show every device on its own")
	cmd.Flags().BoolVar(&opts.fresh, "new", false, "show which type keeps a new VM most movable")
	return cmd
}

func runReach(cmd *cobra.Command, opts *reachOptions) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	if opts.each && opts.fresh {
		return usage(cmd, errors.New("--new is about types, not devices: leave out --each"))
	}
	c, err := opts.server.instead(cmd, opts.files.inventories)
	if err != nil {
		return err
	}
	if c != nil {
		defer c.Close()
		return askReach(cmd, opts, c)
	}
	f, err := openFleet(cmd, opts.files.inventories, &opts.catalogs, &opts.proofs)
	if err != nil {
		return err
	}
	if opts.fresh {
		return showChoices(cmd, opts, f.Choices())
	}
	return showReach(cmd, opts, f.Reach(opts.each))
}

// askReach has a server answer.
func askReach(cmd *cobra.Command, opts *reachOptions, c *client.Client) error {
	if opts.fresh {
		answer, err := c.Choices(cmd.Context())
		if err != nil {
			return refusal(err)
		}
		return showChoices(cmd, opts, answer)
	}
	answer, err := c.Reach(cmd.Context(), &api.ReachRequest{Each: opts.each})
	if err != nil {
		return refusal(err)
	}
	return showReach(cmd, opts, answer)
}

func showChoices(cmd *cobra.Command, opts *reachOptions, answer *fleet.Choices) error {
	if err := opts.output.print(cmd, answer, func() { printChoices(cmd, answer) }); err != nil {
		return err
	}
	if len(answer.Types) == 0 {
		return &exitError{code: exitFull}
	}
	return nil
}

func showReach(cmd *cobra.Command, opts *reachOptions, answer *fleet.Reach) error {
	if err := opts.output.print(cmd, answer, func() { printReach(cmd, answer) }); err != nil {
		return err
	}
	if len(answer.Stranded) > 0 {
		return &exitError{code: exitNo}
	}
	return nil
}

// printOrigin says what is to be known of the hosts of an answer.
func printOrigin(cmd *cobra.Command, simulated bool, silent int) {
	if simulated {
		cmd.Println("Some of these hosts are simulated.")
	}
	switch silent {
	case 0:
	case 1:
		cmd.Println("1 host does not report; it is left out, with its devices.")
	default:
		cmd.Printf("%d hosts do not report; they are left out, with their devices.\n", silent)
	}
}

func printReach(cmd *cobra.Command, answer *fleet.Reach) {
	printOrigin(cmd, answer.Simulated, answer.Silent)
	cmd.Printf("%s on %s, %d stranded, %d one host from it.\n", counted(answer.Devices, "device"), counted(answer.Hosts, "host"), len(answer.Stranded), len(answer.OneLeft))
	if len(answer.Kinds) > 0 {
		t := newTable("TYPE", "DEVICES", "CREATE", "HOSTS", "ROOM", "RETURN", "BUILD THERE")
		for i := range answer.Kinds {
			k := &answer.Kinds[i]
			if len(k.Ways) == 0 {
				t.add(typeText(k.Type), fmt.Sprint(k.Devices), "-", "0", "0", "-", "-")
			}
			for n, w := range k.Ways {
				row := []string{"", "", typeText(w.Type), fmt.Sprint(w.Hosts), fmt.Sprint(w.Room), short(w.Return), w.Build}
				if n == 0 {
					row[0], row[1] = typeText(k.Type), fmt.Sprint(k.Devices)
				}
				t.add(row...)
			}
		}
		cmd.Print("\n" + t.String() + "Hosts and room include a device's own.\n")
	}
	printReached(cmd, "Stranded", answer.Stranded)
	printReached(cmd, "One host left", answer.OneLeft)
	printReached(cmd, "Each device", answer.Each)
}

// printReached lists devices with the hosts they have, their own left out.
func printReached(cmd *cobra.Command, title string, list []fleet.DeviceReach) {
	if len(list) == 0 {
		return
	}
	t := newTable("DEVICE", "HOST", "READY", "FULL", "UNKNOWN", "TYPE")
	for i := range list {
		d := &list[i]
		t.add(d.Device, d.Host, fmt.Sprint(d.Ready), fmt.Sprint(d.Full), fmt.Sprint(d.Unknown), typeText(d.Type))
	}
	cmd.Printf("\n%s:\n%s", title, t.String())
}

func printChoices(cmd *cobra.Command, answer *fleet.Choices) {
	printOrigin(cmd, answer.Simulated, answer.Silent)
	if len(answer.Types) == 0 {
		cmd.Println("No type has room anywhere.")
		return
	}
	t := newTable("TYPE", "CREATE", "ROOM", "REACH", "LOST", "TAKES", "BUILDS, WITH THE REACH FROM EACH")
	for i := range answer.Types {
		c := &answer.Types[i]
		var builds []string
		for _, b := range c.Begin {
			if text := fmt.Sprintf("%s: %d", b.Build, b.Reach); !slices.Contains(builds, text) {
				builds = append(builds, text)
			}
		}
		t.add(typeText(c.Type), fmt.Sprint(c.Create), fmt.Sprint(c.Room), fmt.Sprint(c.Reach), fmt.Sprint(c.Lost), takesText(c.Takes), strings.Join(builds, ", "))
	}
	cmd.Print(t.String())
}

// takesText is what an instance takes of each pool of its parent.
func takesText(takes map[string]int) string {
	var list []string
	for _, pool := range slices.Sorted(maps.Keys(takes)) {
		list = append(list, fmt.Sprintf("%d %s", takes[pool], pool))
	}
	return orDash(strings.Join(list, ", "))
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"kindred/fleet"
)

// changeFlags say what is changed in thought.
type changeFlags struct{ builds, kernels, firmware, facts, hosts, parents []string }

// add adds the flags for what can be upgraded; addRemovals those for what can
// go.
func (f *changeFlags) add(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.builds, "build", nil, "`SET` a module's build-id: HOSTS:MODULE=ID (HOSTS: glob)")
	fs.StringArrayVar(&f.kernels, "kernel", nil, "`SET` the kernel's release: HOSTS=RELEASE")
	fs.StringArrayVar(&f.firmware, "firmware", nil, "`SET` what parents run: HOSTS[/PARENTS]:NAME=VERSION")
	fs.StringArrayVar(&f.facts, "fact", nil, "`SET` a fact of hosts: HOSTS:NAME=VALUE")
}

func (f *changeFlags) addRemovals(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.hosts, "remove-host", nil, "take hosts `H` out (glob)")
	fs.StringArrayVar(&f.parents, "remove-parent", nil, "take parents `P` out: HOSTS/PARENTS (globs)")
}

// changes reads the flags, upgrades before removals.
func (f *changeFlags) changes(cmd *cobra.Command) ([]fleet.Change, error) {
	var list []fleet.Change
	for _, kind := range []struct {
		flag  string
		kind  fleet.ChangeKind
		given []string
		read  func(text string) (fleet.Change, bool)
	}{
		{"build", fleet.SetBuild, f.builds, readNamed},
		{"kernel", fleet.SetKernel, f.kernels, readKernel},
		{"firmware", fleet.SetFirmware, f.firmware, readNamed},
		{"fact", fleet.SetFact, f.facts, readNamed},
		{"remove-parent", fleet.RemoveParent, f.parents, readParent},
		{"remove-host", fleet.RemoveHost, f.hosts, func(text string) (fleet.Change, bool) { return fleet.Change{Hosts: text}, text != "" }},
	} {
		for _, text := range kind.given {
			c, ok := kind.read(text)
			if !ok || c.Parent != "" && kind.kind != fleet.SetFirmware && kind.kind != fleet.RemoveParent {
				return nil, usage(cmd, fmt.Errorf("--%s %q does not have its form", kind.flag, text))
			}
			c.Kind = kind.kind
			list = append(list, c)
		}
	}
	return list, nil
}

// readNamed reads HOSTS[/PARENTS]:NAME=VALUE. Parents' names have colons, so
// the last one before the value counts.
func readNamed(text string) (c fleet.Change, ok bool) {
	left, value, ok := strings.Cut(text, "=")
	colon := strings.LastIndexByte(left, ':')
	if !ok || colon < 1 {
		return c, false
	}
	c.Hosts, c.Parent, _ = strings.Cut(left[:colon], "/")
	c.Name, c.Value = left[colon+1:], value
	return c, c.Hosts != "" && c.Name != "" && c.Value != ""
}

func readKernel(text string) (c fleet.Change, ok bool) {
	c.Hosts, c.Value, ok = strings.Cut(text, "=")
	return c, ok && c.Hosts != "" && c.Value != ""
}

func readParent(text string) (c fleet.Change, ok bool) {
	c.Hosts, c.Parent, ok = strings.Cut(text, "/")
	return c, ok && c.Hosts != "" && c.Parent != ""
}

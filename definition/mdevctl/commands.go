// SPDX-License-Identifier: Apache-2.0

package mdevctl

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

var listFlags = []flag{
	turn("defined", "d", "list what is defined, running or not", func(o *options) *bool { return &o.defined }),
	turn("dumpjson", "", "print JSON", func(o *options) *bool { return &o.dump }),
	turn("verbose", "v", "print attributes too", func(o *options) *bool { return &o.verbose }),
	uuidFlag("only this device"),
	parentFlag("only devices of this parent"),
	turn("version", "V", "print the version", func(o *options) *bool { return &o.version }),
}

const listLong = `One line for each running device, or with --defined for each definition: UUID,
parent, type, and whether it is started with its parent. With --uuid and
--dumpjson a single device is printed as its definition's file has it.`

var lsmdev = command{name: "lsmdev", about: "List devices", long: listLong, flags: listFlags, run: (*run).list}

var commands = sync.OnceValue(func() []*command {
	return []*command{
		{
			name: "define", about: "Define a device, to be started now or later",
			long: `The device is given by a parent and a type, by a parent and a file, or by the
	UUID of a running device. Without a UUID one is made and printed. A running
	device is not touched.`,
			flags: []flag{
				uuidFlag("the device's UUID"),
				autoFlag("start it when its parent appears"),
				parentFlag("the device's parent"),
				typeFlag("the device's type"),
				jsonFlag("read type, start and attributes from this file"),
				forceFlag(),
			},
			excludes: [][2]string{{"jsonfile", "type"}, {"jsonfile", "auto"}},
			needs:    []need{{any: []string{"uuid", "parent"}}},
			run:      (*run).define,
		},
		{
			name: "list", about: "List devices", long: listLong, flags: listFlags, run: (*run).list,
		},
		{
			name: "modify", about: "Change a definition, or a running device",
			long: `Without --index an attribute is added at the end of the list, or the last one is
	deleted. With --live the running device is changed, by a callout that can do
	that, and its definition only with --defined as well. Otherwise a running
	device is not touched.`,
			flags: []flag{
				uuidFlag("the device's UUID"),
				parentFlag("its parent, where it is defined on several"),
				typeFlag("change the type"),
				text("addattr", "", "NAME", "add an attribute", func(o *options) **string { return &o.addattr }),
				turn("delattr", "", "delete an attribute", func(o *options) *bool { return &o.delattr }),
				{"index", "i", "INDEX", "where to add or delete, from 0", func(o *options, v string) (err error) {
					o.index, err = number(v)
					return err
				}},
				text("value", "", "VALUE", "the value of the added attribute", func(o *options) **string { return &o.value }),
				autoFlag("start it when its parent appears"),
				turn("manual", "m", "start it by hand only", func(o *options) *bool { return &o.manual }),
				turn("live", "l", "change the running device", func(o *options) *bool { return &o.live }),
				turn("defined", "d", "change the definition", func(o *options) *bool { return &o.defined }),
				jsonFlag("read start and attributes from this file"),
				forceFlag(),
			},
			excludes: [][2]string{
				{"auto", "manual"}, {"addattr", "delattr"}, {"live", "type"}, {"live", "auto"}, {"live", "manual"},
				{"jsonfile", "type"}, {"jsonfile", "auto"}, {"jsonfile", "manual"}, {"jsonfile", "addattr"}, {"jsonfile", "delattr"},
			},
			needs: []need{{any: []string{"uuid"}}, {"addattr", []string{"value"}}, {"live", []string{"jsonfile"}}},
			run:   (*run).modify,
		},
		{
			name: "start", about: "Start a device",
			long: `A device that is defined is given by its UUID, and by its parent where several
	have a definition of that UUID. Any other is given by a parent and a type or a
	file; without a UUID one is made and printed.`,
			flags: []flag{
				uuidFlag("the device's UUID"),
				parentFlag("the device's parent"),
				typeFlag("the device's type"),
				jsonFlag("read type and attributes from this file"),
				forceFlag(),
			},
			excludes: [][2]string{{"jsonfile", "type"}},
			needs:    []need{{any: []string{"uuid", "parent"}}},
			run:      (*run).start,
		},
		{
			name: "stop", about: "Stop a device",
			long:  `A device that a process has open is not stopped; the error names the process.`,
			flags: []flag{uuidFlag("the device's UUID"), forceFlag()},
			needs: []need{{any: []string{"uuid"}}},
			run:   (*run).stop,
		},
		{
			name: "types", about: "List the types that parents offer",
			long:  `Each type with how many more the kernel says it would create.`,
			flags: []flag{parentFlag("only types of this parent"), turn("dumpjson", "", "print JSON", func(o *options) *bool { return &o.dump })},
			run:   (*run).types,
		},
		{
			name: "undefine", about: "Remove a definition",
			long: `Without --parent those of all parents are removed. A running device is not
	touched.`,
			flags: []flag{uuidFlag("the device's UUID"), parentFlag("only the definition of this parent"), forceFlag()},
			needs: []need{{any: []string{"uuid"}}},
			run:   (*run).undefine,
		},
		{
			name: "start-parent-mdevs", about: "Start the devices that are defined to start with a parent", hidden: true,
			long: `For udev, when a parent appears.`, operands: []string{"PARENT"}, run: (*run).startParent,
		},
	}
})

// Commands are the names of the commands, for completion.
func Commands() []string {
	names := []string{"help"}
	for _, c := range commands() {
		if !c.hidden {
			names = append(names, c.name)
		}
	}
	slices.Sort(names)
	return names
}

func programHelp() string {
	var b strings.Builder
	b.WriteString("Keep, start and stop mediated devices, as mdevctl does\n\nUsage: mdevctl COMMAND [FLAGS]\n\nCommands:\n")
	for _, c := range commands() {
		if !c.hidden {
			fmt.Fprintf(&b, "  %-10s %s\n", c.name, c.about)
		}
	}
	fmt.Fprintf(&b, "  %-10s %s\n", "help", "Print this, or the help of a command")
	b.WriteString("\nFlags:\n  -h, --help     print this help\n  -V, --version  print the version\n")
	return b.String()
}

func (c *command) help() string {
	var b strings.Builder
	usage := "Usage: " + c.program()
	if len(c.flags) > 0 {
		usage += " [FLAGS]"
	}
	fmt.Fprintf(&b, "%s\n\n%s\n\n%s\n\nFlags:\n", c.about, c.long, strings.Join(append([]string{usage}, c.operands...), " "))
	for _, f := range append(c.flags[:len(c.flags):len(c.flags)], flag{name: "help", short: "h", about: "print this help"}) {
		name := "    --" + f.name
		if f.short != "" {
			name = "-" + f.short + ", --" + f.name
		}
		fmt.Fprintf(&b, "  %-22s %s\n", strings.TrimRight(name+" "+f.arg, " "), f.about)
	}
	return b.String()
}

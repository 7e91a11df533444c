// SPDX-License-Identifier: Apache-2.0

package mdevctl

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"kindred/definition"
)

// options are the flags of all commands. Text is nil when its flag was not
// given: an empty parent is one that nothing matches.
type options struct {
	uuid                          *string
	parent, typ, jsonfile         *string
	addattr, value                *string
	index                         *int
	auto, manual, live, defined   bool
	force, delattr, verbose, dump bool
	help, version                 bool
	args                          []string
}

// flag is one flag of a command, and its line of help.
type flag struct {
	name, short string
	arg         string // what its value is, or "" for a switch
	about       string
	set         func(o *options, value string) error
}

func text(name, short, arg, about string, to func(*options) **string) flag {
	return flag{name, short, arg, about, func(o *options, v string) error { *to(o) = &v; return nil }}
}

func turn(name, short, about string, to func(*options) *bool) flag {
	return flag{name, short, "", about, func(o *options, _ string) error { *to(o) = true; return nil }}
}

func uuidFlag(about string) flag {
	return flag{"uuid", "u", "UUID", about, func(o *options, v string) error {
		id, err := definition.ParseUUID(v)
		o.uuid = &id
		return err
	}}
}

func parentFlag(about string) flag {
	return text("parent", "p", "PARENT", about, func(o *options) **string { return &o.parent })
}

func typeFlag(about string) flag {
	return text("type", "t", "TYPE", about, func(o *options) **string { return &o.typ })
}

func jsonFlag(about string) flag {
	return text("jsonfile", "", "FILE", about, func(o *options) **string { return &o.jsonfile })
}

func forceFlag() flag {
	return turn("force", "f", "go on when a callout does not allow it", func(o *options) *bool { return &o.force })
}

func autoFlag(about string) flag {
	return turn("auto", "a", about, func(o *options) *bool { return &o.auto })
}

// once is a flag's value for pflag: given twice it is an error, and a switch
// takes no value, as in mdevctl.
type once struct {
	flag flag
	o    *options
	seen bool
}

const switched = "\x00" // what pflag gives a switch

func (v *once) String() string { return "" }
func (v *once) Type() string   { return "text" }

func (v *once) Set(text string) error {
	switch {
	case v.seen:
		return errors.New("it was given more than once")
	case v.flag.arg == "" && text != switched:
		return errors.New("it takes no value")
	case v.flag.arg != "" && strings.HasPrefix(text, "-") && len(text) > 1:
		return errors.New("its value begins with a hyphen: a flag's value is missing")
	}
	v.seen = true
	return v.flag.set(v.o, text)
}

// command is one command of mdevctl.
type command struct {
	name     string
	about    string // one line
	long     string
	hidden   bool
	flags    []flag
	operands []string
	excludes [][2]string // flags that cannot be given together
	needs    []need
	run      func(*run, *options) error
}

// need is a flag that has to be given; any of several.
type need struct {
	when string // only with this flag, or "" for always
	any  []string
}

func (c *command) program() string {
	if c.name == "lsmdev" {
		return c.name
	}
	return "mdevctl " + c.name
}

func (c *command) parse(args []string) (*options, error) {
	o := new(options)
	set := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
	set.SortFlags = false
	set.Usage = func() {}
	flags := append(c.flags[:len(c.flags):len(c.flags)], turn("help", "h", "print this help", func(o *options) *bool { return &o.help }))
	for _, f := range flags {
		added := set.VarPF(&once{flag: f, o: o}, f.name, f.short, f.about)
		if f.arg == "" {
			added.NoOptDefVal = switched
		}
	}
	fail := func(err error) error { return &usageError{c.program(), err} }
	if err := set.Parse(args); err != nil {
		return nil, fail(err)
	}
	if o.help || o.version {
		return o, nil
	}
	if o.args = set.Args(); len(o.args) > len(c.operands) {
		return nil, fail(fmt.Errorf("unexpected argument %q", o.args[len(c.operands)]))
	} else if len(o.args) < len(c.operands) {
		return nil, fail(fmt.Errorf("%s is missing", c.operands[len(o.args)]))
	}
	for _, pair := range c.excludes {
		if set.Changed(pair[0]) && set.Changed(pair[1]) {
			return nil, fail(fmt.Errorf("--%s and --%s exclude each other", pair[0], pair[1]))
		}
	}
	for _, n := range c.needs {
		if n.when != "" && !set.Changed(n.when) {
			continue
		}
		given := false
		for _, name := range n.any {
			given = given || set.Changed(name)
		}
		if !given {
			return nil, fail(n.missing())
		}
	}
	return o, nil
}

func (n need) missing() error {
	text := "--" + strings.Join(n.any, " or --")
	if n.when != "" {
		return fmt.Errorf("--%s needs %s", n.when, text)
	}
	return fmt.Errorf("%s is needed", text)
}

// number reads an attribute's index.
func number(text string) (*int, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%q is not an index", text)
	}
	i := int(n)
	return &i, nil
}

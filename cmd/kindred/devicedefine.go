// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"kindred/definition"
	"kindred/definition/callout"
	"kindred/host/change"
	"kindred/host/mdev"
	"kindred/host/tree"
	"kindred/inventory"
)

type defineOptions struct {
	device deviceFlags
	output outputFlag
	auto   bool
	json   string
}

func newDeviceDefine() *cobra.Command {
	opts := new(defineOptions)
	cmd := &cobra.Command{
		Use:   "define [UUID|ADDRESS]",
		Short: "Keep a device that should exist",
		Long: `Keep a device that should exist, in mdevctl's files below /etc/mdevctl.d. Its
UUID is printed. With --auto it is started when its parent appears.

What is not said of a device that runs is taken from it: its attributes as a
callout knows them, or else as Kindred set them when it started it.

A VF is named by its address, which its definition keeps as the attribute
"function"; it is started by kindred alone, not by mdevctl.`,
		Example: `  kindred device define --parent mtty --type mtty-2 --auto
  kindred device define 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001
  kindred device define -p matrix --json vfio_ap.json
  kindred device define 0000:41:00.2 -t mlx5_vfio_pci-15b3:101e`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeDevices,
		RunE:              func(cmd *cobra.Command, args []string) error { return runDeviceDefine(cmd, opts, args) },
	}
	opts.device.add(cmd)
	opts.output.add(cmd)
	cmd.Flags().BoolVarP(&opts.auto, "auto", "a", false, "start it when its parent appears")
	cmd.Flags().StringVar(&opts.json, "json", "", "the rest is in `FILE`, as mdevctl's JSON (-: stdin)")
	return cmd
}

func runDeviceDefine(cmd *cobra.Command, opts *defineOptions, args []string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	id := ""
	if len(args) > 0 {
		id = args[0]
	}
	d, dev, err := opts.definition(cmd, id)
	if err != nil {
		return err
	}
	if err := startable(cmd, d, opts.json); err != nil {
		return err
	}
	asItIs := isDefined(dev, d) && opts.json == "" && len(opts.device.attrs) == 0
	if asItIs {
		if err := madeWith(cmd, d); err != nil {
			return err
		}
	}
	return definitions(cmd, func(ctx context.Context, store *definition.Store, warn tree.Warn) error {
		if len(store.Read(definition.Filter{Parent: d.Parent, UUID: d.UUID}, warn)) > 0 {
			return fmt.Errorf("device %s on %s: %w; see kindred device modify", d.UUID, d.Parent, definition.ErrDefined)
		}
		err := scripted(ctx, cmd, callout.Define, d, func(c *callout.Call) error {
			if asItIs {
				attrs, err := c.Attributes(ctx)
				if err != nil {
					return fmt.Errorf("the attributes of the running device: %w", err)
				}
				if len(attrs) > 0 { // as they are now
					d.Attributes = append(functionOnly(d.Attributes), attrs...)
				}
			}
			return store.Define(ctx, d)
		})
		if err != nil {
			return err
		}
		return opts.output.print(cmd, asData(d, dev), func() { cmd.Println(d.UUID) })
	})
}

// madeWith adds the attributes with which Kindred made the device, if it did.
func madeWith(cmd *cobra.Command, d *definition.Definition) error {
	return changeHost(cmd, func(_ context.Context, h *change.Host) error {
		attrs, err := h.Attributes(runs(d))
		for _, a := range attrs {
			d.Attributes = append(d.Attributes, definition.Attribute{Name: a.Name, Value: a.Value})
		}
		return err
	})
}

// physicalOf is the physical function that a VF belongs to.
func physicalOf(cmd *cobra.Command, address string) (parent string, err error) {
	err = changeHost(cmd, func(_ context.Context, h *change.Host) error {
		parent, err = h.PhysicalFunction(address)
		return err
	})
	return parent, err
}

// functionOnly leaves the attribute that says which VF it is, which is no setting.
func functionOnly(attrs []definition.Attribute) []definition.Attribute {
	return slices.DeleteFunc(slices.Clone(attrs), func(a definition.Attribute) bool { return a.Name != functionAttr })
}

// definition is what the flags say, completed from the device dev if it runs.
func (o *defineOptions) definition(cmd *cobra.Command, id string) (d *definition.Definition, dev *inventory.Device, err error) {
	if err := exclude(cmd, "json", "type", "attr", "auto"); err != nil {
		return nil, nil, err
	}
	if d, err = o.device.define(cmd, id); err != nil {
		return nil, nil, err
	}
	if o.json != "" {
		from, err := readDefinition(cmd, o.json)
		if err != nil {
			return nil, nil, err
		}
		from.Attributes = append(d.Attributes, from.Attributes...) // a VF's address goes first
		d.Replace(&from)
	} else {
		d.Auto = o.auto
	}
	if id != "" {
		h, err := openHost("/")
		if err != nil {
			return nil, nil, err
		}
		defer h.Close()
		if dev = h.List(false, true).Device(runs(d)); dev != nil && (d.Parent == "" || d.Parent == dev.Parent) {
			d.Parent = dev.Parent
			if d.Type == "" {
				d.Type = mdev.TypeDir(dev.Type)
			}
		}
	}
	if d.Parent == "" && isAddress(id) {
		if d.Parent, err = physicalOf(cmd, runs(d)); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case d.Type == "":
		return nil, nil, usage(cmd, errors.New("--type is missing, and no such device runs; kindred type list shows the types"))
	case d.Parent == "":
		return nil, nil, usage(cmd, errors.New("--parent is missing, and no such device runs; kindred type list shows the parents"))
	}
	if d.UUID == "" {
		d.UUID = mdev.NewUUID()
	}
	return d, dev, nil
}

func newDeviceUndefine() *cobra.Command {
	parent := ""
	cmd := &cobra.Command{
		Use:   "undefine UUID...",
		Short: "Keep a device no longer",
		Long: `Remove definitions. A device that runs goes on. One that is defined on several
parents is undefined on all, unless one is named.`,
		Example: `  kindred device undefine 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001
  kindred device undefine 83b8f4f2 --parent mtty`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeDefinitions,
		RunE:              func(cmd *cobra.Command, args []string) error { return runDeviceUndefine(cmd, parent, args) },
	}
	cmd.Flags().StringVarP(&parent, "parent", "p", "", "only on this `PARENT`")
	_ = cmd.RegisterFlagCompletionFunc("parent", completeParent)
	return cmd
}

func runDeviceUndefine(cmd *cobra.Command, parent string, args []string) error {
	return definitions(cmd, func(ctx context.Context, store *definition.Store, warn tree.Warn) error {
		return undefine(ctx, cmd, store, parent, args, warn)
	})
}

// undefine undefines one after the other, also when one cannot be undefined.
// What the names mean is looked up first.
func undefine(ctx context.Context, cmd *cobra.Command, store *definition.Store, parent string, refs []string, warn tree.Warn) error {
	var list []definition.Definition
	var failed []error
	for _, ref := range refs {
		found, err := named(store, ref, parent, warn)
		if err != nil {
			// A file that cannot be read is undefined by its whole name.
			uuid, bad := definition.ParseUUID(ref)
			if bad != nil || parent == "" {
				failed = append(failed, err)
				continue
			}
			found = []definition.Definition{{UUID: uuid, Parent: parent}}
		}
		for _, d := range found {
			if !slices.ContainsFunc(list, func(other definition.Definition) bool { return other.UUID == d.UUID && other.Parent == d.Parent }) {
				list = append(list, d)
			}
		}
	}
	for i := range list {
		d := &list[i]
		if ctx.Err() != nil { // the ones after it are not begun
			failed = append(failed, &exitError{exitInterrupt, context.Cause(ctx)})
			break
		}
		err := scripted(ctx, cmd, callout.Undefine, d, func(*callout.Call) error { return store.Undefine(ctx, d.Parent, d.UUID) })
		if errors.Is(err, definition.ErrNotDefined) {
			err = &exitError{exitNoSuch, err}
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	return report(cmd, failed)
}

type modifyOptions struct {
	device deviceFlags
	output outputFlag
	auto   bool
	manual bool
	clear  bool
	json   string
}

func newDeviceModify() *cobra.Command {
	opts := new(modifyOptions)
	cmd := &cobra.Command{
		Use:   "modify UUID",
		Short: "Change a definition",
		Long: `Change a definition. A device that runs stays as it is until it is started anew.

--attr, as often as it is given, replaces all attributes; kindred device show
prints those that there are.`,
		Example: `  kindred device modify 83b8f4f2 --auto
  kindred device modify 83b8f4f2 --attr assign_adapter=5 --attr assign_domain=4
  kindred device modify 83b8f4f2 --json new.json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeDefinitions,
		RunE:              func(cmd *cobra.Command, args []string) error { return runDeviceModify(cmd, opts, args[0]) },
	}
	opts.device.add(cmd)
	opts.output.add(cmd)
	cmd.Flags().BoolVarP(&opts.auto, "auto", "a", false, "start it when its parent appears")
	cmd.Flags().BoolVarP(&opts.manual, "manual", "m", false, "start it when it is asked for")
	cmd.Flags().BoolVar(&opts.clear, "clear-attrs", false, "remove all attributes")
	cmd.Flags().StringVar(&opts.json, "json", "", "the rest is in `FILE`, as mdevctl's JSON (-: stdin)")
	return cmd
}

func runDeviceModify(cmd *cobra.Command, opts *modifyOptions, ref string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	change, err := opts.change(cmd)
	if err != nil {
		return err
	}
	return definitions(cmd, func(ctx context.Context, store *definition.Store, warn tree.Warn) error {
		d, err := modify(ctx, cmd, opts, store, ref, change, warn)
		if err != nil {
			return err
		}
		h, err := openHost("/")
		if err != nil {
			return err
		}
		defer h.Close()
		dev := h.List(false, true).Device(runs(d))
		return opts.output.print(cmd, asData(d, dev), func() {})
	})
}

// modify changes the definition that a reference means, and returns what it is now.
func modify(ctx context.Context, cmd *cobra.Command, opts *modifyOptions, store *definition.Store, ref string, change func(*definition.Definition), warn tree.Warn) (*definition.Definition, error) {
	d, err := single(store, ref, opts.device.parent, warn)
	if err != nil {
		return nil, err
	}
	change(d) // what scripts are told; the file's own is changed under the lock
	if opts.json != "" || opts.device.typ != "" || len(opts.device.attrs) > 0 {
		if err := startable(cmd, d, opts.json); err != nil {
			return nil, err
		}
	}
	return d, scripted(ctx, cmd, callout.Modify, d, func(*callout.Call) error {
		return store.Modify(ctx, d.Parent, d.UUID, func(now *definition.Definition) error {
			change(now)
			return nil
		})
	})
}

// change is what the flags ask to be done to a definition.
func (o *modifyOptions) change(cmd *cobra.Command) (func(*definition.Definition), error) {
	err := errors.Join(exclude(cmd, "auto", "manual"), exclude(cmd, "clear-attrs", "attr"), exclude(cmd, "json", "type", "attr", "clear-attrs", "auto", "manual"))
	if err != nil {
		return nil, err
	}
	if o.json == "" && o.device.typ == "" && len(o.device.attrs) == 0 && !o.clear && !o.auto && !o.manual {
		return nil, usage(cmd, errors.New("nothing is to be changed"))
	}
	if o.json != "" {
		from, err := readDefinition(cmd, o.json)
		return func(d *definition.Definition) { d.Replace(&from) }, err
	}
	attrs, err := o.device.attributes(cmd)
	if err != nil {
		return nil, err
	}
	return func(d *definition.Definition) {
		if o.device.typ != "" {
			d.Type = o.device.typ
		}
		if o.auto || o.manual {
			d.Auto = o.auto
		}
		if !o.clear && len(attrs) == 0 {
			return
		}
		list := functionOnly(d.Attributes)
		for _, a := range attrs {
			list = append(list, definition.Attribute{Name: a.Name, Value: a.Value})
		}
		d.Attributes = list
	}, nil
}

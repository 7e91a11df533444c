// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"kindred/definition"
	"kindred/definition/callout"
	"kindred/host/change"
	"kindred/host/mdev"
	"kindred/host/tree"
	"kindred/inventory"
)

// deviceFlags say what a device is.
type deviceFlags struct {
	parent string
	typ    string
	attrs  []string
}

func (f *deviceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.parent, "parent", "p", "", "the `PARENT`: of an mdev; a VF knows its own")
	cmd.Flags().StringVarP(&f.typ, "type", "t", "", "the `TYPE`'s full name, as kindred type list shows it")
	cmd.Flags().StringArrayVar(&f.attrs, "attr", nil, "set attribute `NAME=VALUE`; several in this order")
	_ = cmd.RegisterFlagCompletionFunc("parent", completeParent)
	_ = cmd.RegisterFlagCompletionFunc("type", completeType(&f.parent))
}

// attributes takes --attr apart.
func (f *deviceFlags) attributes(cmd *cobra.Command) ([]definition.Attribute, error) {
	var list []definition.Attribute
	for _, text := range f.attrs {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usage(cmd, fmt.Errorf("--attr %q is not NAME=VALUE", text))
		}
		list = append(list, definition.Attribute{Name: name, Value: value})
	}
	return list, nil
}

type startOptions struct {
	device deviceFlags
	output outputFlag
	json   string
	auto   bool
}

func newDeviceStart() *cobra.Command {
	opts := new(startOptions)
	cmd := &cobra.Command{
		Use:   "start [UUID|ADDRESS]",
		Short: "Make a device and put it on record",
		Long: `Make a device: one that is defined; or a mediated device with the UUID, or with
a new one; or, named by its PCI address, a VF that is bound to the VFIO driver
its type is named after or that is given an NVIDIA vGPU type. Its id is printed.

What is about to be done is written down first. When a step fails, those before
it are undone; when this program is killed, kindred device repair does it.

Attributes of an mdev and of a vGPU are files of the device, written in order.
Those of a VF are mac, vlan (ID or ID:PRIORITY) and migratable (enable or
disable).

With --auto all that is defined to start with its parent is started, but for
what runs already.`,
		Example: `  kindred device start 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001
  kindred device start --parent mtty --type mtty-2
  kindred device start -p matrix -t vfio_ap-passthrough --attr assign_adapter=5
  kindred device start 0000:41:00.2 -t mlx5_vfio_pci-15b3:101e --attr vlan=100
  kindred device start 0000:43:00.4 -t nvidia-1148
  kindred device start --parent 0000:43:00.0 --type nvidia-1148    # a free VF
  kindred device start --auto`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeDefinitions,
		RunE:              func(cmd *cobra.Command, args []string) error { return runDeviceStart(cmd, opts, args) },
	}
	opts.device.add(cmd)
	opts.output.add(cmd)
	cmd.Flags().StringVar(&opts.json, "json", "", "the rest is in `FILE`, as mdevctl's JSON (-: stdin)")
	cmd.Flags().BoolVar(&opts.auto, "auto", false, "start all that is defined to start by itself")
	return cmd
}

// started is the answer of device start.
type started struct {
	ID     string               `json:"id"`
	Kind   inventory.DeviceKind `json:"kind"`
	Parent string               `json:"parent"`
	Type   string               `json:"type"`
}

func runDeviceStart(cmd *cobra.Command, opts *startOptions, args []string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	if err := errors.Join(exclude(cmd, "auto", "type", "attr", "json"), exclude(cmd, "json", "type", "attr")); err != nil {
		return err
	}
	if opts.auto {
		if len(args) > 0 {
			return usage(cmd, errors.New("--auto starts all: it does not go with a device"))
		}
		return startAll(cmd, opts)
	}
	id := ""
	if len(args) > 0 {
		id = args[0]
	}
	d, err := opts.definition(cmd, id)
	if err != nil {
		return err
	}
	return changeHost(cmd, func(ctx context.Context, h *change.Host) error {
		dev, err := startOne(ctx, cmd, h, d)
		if err != nil {
			return err
		}
		return opts.output.print(cmd, started(dev), func() { cmd.Println(clean(dev.ID)) })
	})
}

// startOne starts a device between mdevctl's scripts, which know devices by
// UUID: they are not told of a VF that is not defined.
func startOne(ctx context.Context, cmd *cobra.Command, h *change.Host, d *definition.Definition) (dev change.Device, err error) {
	if d.UUID == "" && runs(d) == "" && h.IsMdev(d.Parent, d.Type) {
		d.UUID = mdev.NewUUID() // scripts are told
	}
	if d.UUID == "" {
		return h.Start(ctx, request(d))
	}
	err = scripted(ctx, cmd, callout.Start, d, func(*callout.Call) error {
		dev, err = h.Start(ctx, request(d))
		return err
	})
	return dev, err
}

// definition is the device that the flags say, or the one that is defined.
func (o *startOptions) definition(cmd *cobra.Command, id string) (*definition.Definition, error) {
	if id != "" && o.device.typ == "" && o.json == "" && len(o.device.attrs) == 0 {
		return o.defined(cmd, id)
	}
	d, err := o.device.define(cmd, id)
	if err != nil {
		return nil, err
	}
	if o.json != "" {
		from, err := readDefinition(cmd, o.json)
		if err != nil {
			return nil, err
		}
		from.Attributes = append(d.Attributes, from.Attributes...) // a VF's address goes first
		d.Replace(&from)
	}
	switch {
	case d.Type == "":
		return nil, usage(cmd, errors.New("--type is missing; kindred type list shows the types"))
	case d.Parent == "" && !isAddress(id):
		return nil, usage(cmd, errors.New("--parent is missing; kindred type list shows the parents"))
	}
	return d, nil
}

// defined is the one that is defined, by the beginning of its UUID or by a
// VF's address.
func (o *startOptions) defined(cmd *cobra.Command, ref string) (d *definition.Definition, err error) {
	err = definitions(cmd, func(_ context.Context, store *definition.Store, warn tree.Warn) error {
		d, err = single(store, ref, o.device.parent, warn)
		return err
	})
	if exit, ok := errors.AsType[*exitError](err); ok && errors.Is(exit.err, definition.ErrNotDefined) {
		return nil, &exitError{exitNoSuch, fmt.Errorf("device %s: %w; name its --parent and --type, or see kindred device list --defined", ref, definition.ErrNotDefined)}
	}
	return d, err
}

// startAll starts what is defined to start by itself. That one cannot be
// started does not keep the others from it.
func startAll(cmd *cobra.Command, opts *startOptions) error {
	var list []definition.Definition
	err := definitions(cmd, func(_ context.Context, store *definition.Store, warn tree.Warn) error {
		list = store.Read(definition.Filter{Parent: opts.device.parent}, warn)
		return nil
	})
	if err != nil {
		return err
	}
	host, err := openHost("/")
	if err != nil {
		return err
	}
	running := host.List(false, true)
	host.Close()
	return changeHost(cmd, func(ctx context.Context, h *change.Host) error {
		rows, failed := []started{}, false
		for i := range list {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if !list[i].Auto || isDefined(running.Device(runs(&list[i])), &list[i]) {
				continue
			}
			dev, err := startOne(ctx, cmd, h, &list[i])
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "kindred: "+clean(oneLine(err.Error())))
				failed = true
				continue
			}
			rows = append(rows, started(dev))
		}
		err := opts.output.print(cmd, rows, func() {
			for _, r := range rows {
				cmd.Println(clean(r.ID))
			}
		})
		if err == nil && failed {
			err = &exitError{exitFailed, nil}
		}
		return err
	})
}

// changeHost opens this machine to be changed. Being interrupted undoes what
// was begun.
func changeHost(cmd *cobra.Command, do func(context.Context, *change.Host) error) error {
	h, err := change.Open("/")
	if err != nil {
		return err
	}
	defer h.Close()
	ctx, stop := untilInterrupted(cmd.Context())
	defer stop()
	err = do(ctx, h)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return &exitError{exitInterrupt, err}
	}
	if e, ok := errors.AsType[*mdev.Error](err); ok && e.Reason == mdev.NoDevice {
		return &exitError{exitNoSuch, err}
	}
	if e, ok := errors.AsType[*change.Error](err); ok && e.Reason == change.NoDevice {
		return &exitError{exitNoSuch, err}
	}
	return err
}

// completeParent completes the parents of this host.
func completeParent(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return completeTypes(func(p *inventory.Parent, t *inventory.Type) string { return p.Name + "\t" + p.Namespace })
}

// completeType completes the types of this host, or of the parent named so far.
func completeType(parent *string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return completeTypes(func(p *inventory.Parent, t *inventory.Type) string {
			if *parent != "" && *parent != p.Name {
				return ""
			}
			return t.Full() + "\t" + dash(t.Label) + ", room " + roomText(t.Available)
		})
	}
}

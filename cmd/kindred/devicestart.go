// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"kindred/host/change"
	"kindred/host/mdev"
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
	cmd.Flags().StringArrayVar(&f.attrs, "attr", nil, "set attribute `NAME=VALUE`; several are set in this order")
	_ = cmd.RegisterFlagCompletionFunc("parent", completeParent)
	_ = cmd.RegisterFlagCompletionFunc("type", completeType(&f.parent))
}

// attributes takes --attr apart.
func (f *deviceFlags) attributes(cmd *cobra.Command) ([]change.Attribute, error) {
	var list []change.Attribute
	for _, text := range f.attrs {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usage(cmd, fmt.Errorf("--attr %q is not NAME=VALUE", text))
		}
		list = append(list, change.Attribute{Name: name, Value: value})
	}
	return list, nil
}

type startOptions struct {
	device deviceFlags
	output outputFlag
}

func newDeviceStart() *cobra.Command {
	opts := new(startOptions)
	cmd := &cobra.Command{
		Use:   "start [UUID|ADDRESS]",
		Short: "Make a device and put it on record",
		Long: `Make a device: a mediated device with the UUID, or with a new one, or, named by
its PCI address, a VF that is bound to the VFIO driver its type is named after
or that is given an NVIDIA vGPU type. Its id is printed.

What is about to be done is written down first. When a step fails, those before
it are undone; when this program is killed, kindred device repair does it.

Attributes of an mdev and of a vGPU are files of the device, written in order.
Those of a VF are mac, vlan (ID or ID:PRIORITY) and migratable (enable, disable).`,
		Example: `  kindred device start --parent mtty --type mtty-2
  kindred device start -p matrix -t vfio_ap-passthrough --attr assign_adapter=5
  kindred device start 0000:41:00.2 -t mlx5_vfio_pci-15b3:101e --attr vlan=100
  kindred device start 0000:43:00.4 -t nvidia-1148`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, args []string) error { return runDeviceStart(cmd, opts, args) },
	}
	opts.device.add(cmd)
	opts.output.add(cmd)
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
	attrs, err := opts.device.attributes(cmd)
	if err != nil {
		return err
	}
	req := change.Request{Parent: opts.device.parent, Type: opts.device.typ, Attributes: attrs}
	if len(args) > 0 {
		req.ID = args[0]
	}
	if err := complete(cmd, &req); err != nil {
		return err
	}
	return changeHost(cmd, func(ctx context.Context, h *change.Host) error {
		dev, err := h.Start(ctx, req)
		if err != nil {
			return err
		}
		return opts.output.print(cmd, started(dev), func() { cmd.Println(clean(dev.ID)) })
	})
}

// complete finds what was left out, and refuses what cannot be a device.
func complete(cmd *cobra.Command, req *change.Request) error {
	_, isUUID := mdev.ParseUUID(req.ID)
	switch isMdev := isUUID || req.ID == ""; {
	case !isMdev && !strings.Contains(req.ID, ":"):
		return usage(cmd, fmt.Errorf("%q is neither a UUID nor a PCI address", req.ID))
	case req.Type == "":
		return usage(cmd, errors.New("--type is missing; kindred type list shows the types"))
	case isMdev && req.Parent == "":
		return usage(cmd, errors.New("--parent is missing; kindred type list shows the parents"))
	}
	return nil
}

// changeHost opens this machine to be changed. Being interrupted undoes what
// was begun.
func changeHost(cmd *cobra.Command, do func(context.Context, *change.Host) error) error {
	h, err := change.Open("/")
	if err != nil {
		return err
	}
	defer h.Close()
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
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

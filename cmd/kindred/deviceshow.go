// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kindred/definition"
	"kindred/host"
	"kindred/host/change"
	"kindred/host/record"
	"kindred/host/tree"
	"kindred/inventory"
)

func newDeviceShow() *cobra.Command {
	output := new(outputFlag)
	cmd := &cobra.Command{
		Use:   "show DEVICE",
		Short: "Show all that is known of a device of this host",
		Long: `Show a device of this host: what runs, what is defined, who uses it, what it
promised its guest, and a change of it that was begun and is not over.`,
		Example: `  kindred device show 83b8f4f2
  kindred device show 0000:41:00.2 -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeDevices,
		RunE:              func(cmd *cobra.Command, args []string) error { return runDeviceShow(cmd, output, args[0]) },
	}
	output.add(cmd)
	return cmd
}

// shown is all that is known of one device.
type shown struct {
	ID          string            `json:"id"`
	Device      *inventory.Device `json:"device"` // null: it does not run
	Holders     []holder          `json:"holders"`
	Definitions []defined         `json:"definitions"`
	Change      *record.Change    `json:"change"` // under way, or cut short
}

type holder struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

func runDeviceShow(cmd *cobra.Command, output *outputFlag, ref string) error {
	if err := output.check(cmd); err != nil {
		return err
	}
	h, err := openHost("/")
	if err != nil {
		return err
	}
	defer h.Close()
	inv, err := h.Inventory(cmd.Context(), host.Options{})
	if err != nil {
		return err
	}
	var answer shown
	err = definitions(cmd, func(_ context.Context, store *definition.Store, warn tree.Warn) error {
		return answer.find(inv, store, ref, warn)
	})
	if err != nil {
		return err
	}
	err = changeHost(cmd, func(_ context.Context, c *change.Host) error {
		if answer.Device != nil {
			for _, p := range c.Holders(answer.Device.Kind, answer.ID) {
				answer.Holders = append(answer.Holders, holder{p.PID, p.Name})
			}
		}
		r, err := c.Records.Device(answer.ID)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		answer.Change = r.Change
		return err
	})
	if err != nil {
		return err
	}
	return output.print(cmd, answer, func() { answer.print(cmd) })
}

// find finds what a reference means among devices that run and definitions.
func (s *shown) find(inv *inventory.Inventory, store *definition.Store, ref string, warn tree.Warn) error {
	s.Holders, s.Definitions = []holder{}, []defined{}
	list, err := named(store, ref, "", warn)
	exit, notDefined := errors.AsType[*exitError](err)
	if err != nil && (!notDefined || !errors.Is(exit.err, definition.ErrNotDefined)) {
		return err
	}
	s.ID = strings.ToLower(ref)
	if len(list) > 0 {
		s.ID = runs(&list[0])
	}
	s.Device = inv.Device(s.ID)
	if s.Device == nil && len(list) == 0 {
		var ids []string
		for i := range inv.Devices {
			if len(ref) >= 4 && strings.HasPrefix(inv.Devices[i].ID, s.ID) {
				s.Device = &inv.Devices[i]
				ids = append(ids, s.Device.ID)
			}
		}
		if len(ids) != 1 {
			return &exitError{exitNoSuch, fmt.Errorf("device %s: %s; see kindred device list", ref, map[bool]string{true: "no such device on this host", false: "several devices: " + strings.Join(ids[:min(len(ids), 4)], ", ")}[len(ids) == 0])}
		}
		s.ID = s.Device.ID
	}
	for i := range list {
		s.Definitions = append(s.Definitions, asData(&list[i], s.Device))
	}
	return nil
}

func (s *shown) print(cmd *cobra.Command) {
	t := newTable("DEVICE", s.ID)
	if d := s.Device; d == nil {
		t.add("running", "no")
	} else {
		t.add("running", "yes")
		t.add("kind", string(d.Kind))
		t.add("parent", d.Parent)
		t.add("type", typeText(d.Type))
		t.add("in use", string(d.InUse)+s.users())
		if d.Canary != "" {
			t.add("canary", "made for "+d.Canary+", and is removed after it")
		}
		t.add("made by Kindred", map[bool]string{true: "yes", false: "no"}[d.Ours])
		if d.Migration != nil {
			t.add("migrates", string(d.Migration.Can))
		}
		for _, name := range sortedNames(d.Attributes) {
			t.add("attribute "+name, d.Attributes.Get(name).String())
		}
		if c := d.Contract; c != nil {
			t.add("promised", fmt.Sprintf("%s, on %s, %s", typeText(c.Type), c.Host, c.Recorded.Format("2006-01-02 15:04:05Z")))
		}
	}
	for _, d := range s.Definitions {
		t.add("defined", fmt.Sprintf("%s on %s, started %s, as %s", d.Type, d.Parent, map[string]string{"auto": "with its parent", "manual": "by hand"}[d.Start], d.UUID))
		for i, a := range d.Attributes {
			for name, value := range a {
				t.add(fmt.Sprintf("  attribute %d", i), name+"="+value)
			}
		}
	}
	if c := s.Change; c != nil {
		t.add("change", fmt.Sprintf("%s, begun %s by process %d; if that is gone, run kindred device repair", c.Op, c.Began.Format("2006-01-02 15:04:05Z"), c.PID))
	}
	cmd.Print(t.String())
}

func (s *shown) users() string {
	var list []string
	for _, h := range s.Holders {
		list = append(list, fmt.Sprintf("process %d (%s)", h.PID, h.Name))
	}
	if len(list) == 0 {
		return ""
	}
	return ", by " + strings.Join(list, " and ")
}

func sortedNames(attrs inventory.Attributes) []string {
	var names []string
	for name := range attrs.Values {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"kindred/definition"
	"kindred/definition/callout"
	"kindred/host/change"
	"kindred/host/mdev"
	"kindred/host/tree"
	"kindred/inventory"
)

// functionAttr is the attribute by which a definition is of a VF: its address.
// mdevctl keeps it as it keeps all attributes.
const functionAttr = "function"

// exclude refuses a flag together with others.
func exclude(cmd *cobra.Command, flag string, others ...string) error {
	for _, other := range others {
		if cmd.Flags().Changed(flag) && cmd.Flags().Changed(other) {
			return usage(cmd, fmt.Errorf("--%s and --%s exclude each other", flag, other))
		}
	}
	return nil
}

// isAddress tells a PCI function's address (0000:41:00.2).
func isAddress(id string) bool { return strings.Count(id, ":") == 2 && strings.Contains(id, ".") }

// request is how the device of a definition is started.
func request(d *definition.Definition) change.Request {
	req := change.Request{ID: d.UUID, Parent: d.Parent, Type: d.Type}
	for _, a := range d.Attributes {
		if a.Name == functionAttr && isAddress(a.Value) {
			req.ID = a.Value
			continue
		}
		req.Attributes = append(req.Attributes, change.Attribute{Name: a.Name, Value: a.Value})
	}
	return req
}

// runs is the id of the device that a definition becomes.
func runs(d *definition.Definition) string { return request(d).ID }

// define is the definition of a device that is told by flags.
func (f *deviceFlags) define(cmd *cobra.Command, id string) (*definition.Definition, error) {
	attrs, err := f.attributes(cmd)
	if err != nil {
		return nil, err
	}
	d := &definition.Definition{Parent: f.parent, Type: f.typ}
	if isAddress(id) {
		d.Attributes = append(d.Attributes, definition.Attribute{Name: functionAttr, Value: strings.ToLower(id)})
	} else if id != "" {
		if d.UUID, err = definition.ParseUUID(id); err != nil {
			return nil, usage(cmd, fmt.Errorf("%q is neither a UUID nor a PCI address", id))
		}
	}
	d.Attributes = append(d.Attributes, attrs...)
	return d, nil
}

// readDefinition reads a definition from a file, or from standard input for -.
func readDefinition(cmd *cobra.Command, name string) (definition.Definition, error) {
	data, err := []byte(nil), error(nil)
	if name == "-" {
		if data, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxDefinition+1)); err == nil && len(data) > maxDefinition {
			err = errors.New("longer than 1 MiB")
		}
	} else {
		data, err = readBounded(name, maxDefinition)
	}
	var d definition.Definition
	if err == nil {
		d, err = definition.Parse(data)
	}
	if err != nil {
		return d, &exitError{exitInput, fmt.Errorf("definition %s: %w", name, err)}
	}
	return d, nil
}

// startable refuses a definition that could be started nowhere. What is wrong is
// the file's, if one was named, and otherwise the flags'.
func startable(cmd *cobra.Command, d *definition.Definition, file string) error {
	req := request(d)
	err := req.Check()
	switch {
	case err == nil:
		return nil
	case file != "":
		return &exitError{exitInput, fmt.Errorf("definition %s: %w", file, err)}
	}
	return usage(cmd, err)
}

const maxDefinition = 1 << 20

// definitions opens this machine's definitions. What cannot be read is warned of.
func definitions(cmd *cobra.Command, do func(context.Context, *definition.Store, tree.Warn) error) error {
	store, err := definition.Open("/")
	if err != nil {
		return err
	}
	defer store.Close()
	ctx, stop := untilInterrupted(cmd.Context())
	defer stop()
	return do(ctx, store, func(name string, err error) {
		fmt.Fprintf(cmd.ErrOrStderr(), "kindred: warning: %s: %s\n", clean("/"+name), clean(oneLine(err.Error())))
	})
}

// untilInterrupted is ctx, ended by a signal. What was begun is then undone, and
// scripts are told; a second signal does not wait for that.
func untilInterrupted(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// named are the definitions that a reference means: a UUID or the beginning of
// one, or a VF's address; of one parent if it is named.
func named(store *definition.Store, ref, parent string, warn tree.Warn) ([]definition.Definition, error) {
	prefix := strings.ToLower(ref)
	if uuid, err := definition.ParseUUID(ref); err == nil {
		prefix = uuid
	}
	var found []definition.Definition
	var uuids []string
	for _, d := range store.Read(definition.Filter{Parent: parent}, warn) {
		if d.UUID == prefix || len(prefix) >= 4 && (strings.HasPrefix(d.UUID, prefix) || runs(&d) == prefix) {
			found = append(found, d)
			uuids = append(uuids, d.UUID)
		}
	}
	slices.Sort(uuids)
	switch uuids = slices.Compact(uuids); {
	case len(uuids) > 1:
		return nil, &exitError{exitNoSuch, fmt.Errorf("device %s: several definitions: %s", ref, strings.Join(uuids[:min(len(uuids), 4)], ", "))}
	case len(uuids) == 0:
		return nil, &exitError{exitNoSuch, fmt.Errorf("device %s: %w; see kindred device list --defined", ref, definition.ErrNotDefined)}
	}
	return found, nil
}

// single is the one definition that a reference means.
func single(store *definition.Store, ref, parent string, warn tree.Warn) (*definition.Definition, error) {
	found, err := named(store, ref, parent, warn)
	if err != nil {
		return nil, err
	}
	if len(found) > 1 {
		return nil, &exitError{exitNoSuch, fmt.Errorf("device %s: defined on several parents; name one with --parent: %s, %s", ref, found[0].Parent, found[1].Parent)}
	}
	return &found[0], nil
}

// scripted does an action between mdevctl's scripts, which are told of the
// device.
func scripted(ctx context.Context, cmd *cobra.Command, action callout.Action, d *definition.Definition, do func(*callout.Call) error) error {
	scripts := callout.Find("/", func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), "kindred: "+clean(oneLine(text))) })
	return scripts.Do(ctx, action, callout.For(d), false, do)
}

// defined is a definition as data.
type defined struct {
	UUID       string              `json:"uuid"`
	Parent     string              `json:"parent"`
	Type       string              `json:"type"`
	Start      string              `json:"start"` // auto, manual
	Attributes []map[string]string `json:"attributes"`
	Device     string              `json:"device"`  // what it becomes: the UUID, or a VF's address
	Running    bool                `json:"running"` // as it is defined
	RunsAs     *string             `json:"runs_as"` // the type of the device that runs on that parent; null: none does
}

// isDefined reports whether the device that runs is the one that is defined.
func isDefined(dev *inventory.Device, d *definition.Definition) bool {
	return dev != nil && dev.Parent == d.Parent && mdev.TypeDir(dev.Type) == d.Type
}

// asData takes the device that has the definition's id, if one runs.
func asData(d *definition.Definition, dev *inventory.Device) defined {
	data := defined{UUID: d.UUID, Parent: d.Parent, Type: d.Type, Start: d.Start(), Attributes: []map[string]string{}, Device: runs(d), Running: isDefined(dev, d)}
	if dev != nil && dev.Parent == d.Parent {
		typ := mdev.TypeDir(dev.Type)
		data.RunsAs = &typ
	}
	for _, a := range d.Attributes {
		data.Attributes = append(data.Attributes, map[string]string{a.Name: a.Value})
	}
	return data
}

// runsText says whether it runs, and as what if not as it is defined.
func (d *defined) runsText() string {
	switch {
	case d.Running:
		return "yes"
	case d.RunsAs == nil:
		return "no"
	}
	return "as " + *d.RunsAs
}

// completeDefinitions completes what is defined on this machine.
func completeDefinitions(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	store, err := definition.Open("/")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer store.Close()
	var list []string
	for _, d := range store.Read(definition.Filter{}, func(string, error) {}) {
		if strings.HasPrefix(d.UUID, prefix) && !slices.Contains(args, d.UUID) {
			list = append(list, d.UUID+"\t"+d.Type+" on "+d.Parent)
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}

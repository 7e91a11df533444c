// SPDX-License-Identifier: Apache-2.0

package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"kindred/host/mdev"
	"kindred/host/nvidia"
	"kindred/host/pci"
	"kindred/host/record"
	"kindred/host/tree"
	"kindred/inventory"
)

// plan reads what is there and lists the steps that make the device. It writes
// nothing. What it learns of the device goes into dev.
func (h *Host) plan(ctx context.Context, dev *Device, attrs []Attribute) (record.Device, error) {
	p := planner{Host: h, ctx: ctx, dev: dev, attrs: attrs}
	var steps []record.Step
	var err error
	switch dev.Kind {
	case inventory.Mdev:
		steps, err = p.mdev()
	case inventory.VF:
		steps, err = p.vf()
	case inventory.VGPU:
		steps, err = p.vgpu()
	default:
		err = p.no(WrongType, "a device of the kind %q cannot be started", dev.Kind)
	}
	return record.Device{Kind: dev.Kind, Parent: dev.Parent, Type: dev.Type, Steps: steps}, err
}

type planner struct {
	*Host
	ctx   context.Context
	dev   *Device
	attrs []Attribute
}

func (p *planner) no(reason Reason, format string, args ...any) error {
	return &Error{Op: record.Start, ID: p.dev.ID, Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// files are the steps that write attributes that are files.
func (p *planner) files() ([]record.Step, error) {
	var steps []record.Step
	for _, a := range p.attrs {
		if err := checkFile(a); err != nil {
			return nil, p.no(BadValue, "%v", err)
		}
		steps = append(steps, record.Step{Do: stepAttribute, Name: a.Name, Value: a.Value})
	}
	return steps, nil
}

// checkFile refuses what is no file of a device, or is not for its attributes.
func checkFile(a Attribute) error {
	if !filepath.IsLocal(a.Name) || path.Clean(a.Name) != a.Name || a.Name == "remove" || a.Name == "current_vgpu_type" || strings.Contains(a.Name, "\x00") {
		return fmt.Errorf("%q is not the name of an attribute", a.Name)
	}
	return nil
}

// Check refuses a request that no machine could start, whatever it offers: for
// those who keep it for later.
func (req *Request) Check() error {
	if !tree.Single(req.Type) {
		return fmt.Errorf("%q is not the name of a type", req.Type)
	}
	kind := req.Kind
	if kind == "" {
		kind = kindOf(req.ID, req.Type)
	}
	check := checkFile
	if kind == inventory.VF {
		check = checkSetting
	}
	for _, a := range req.Attributes {
		if err := check(a); err != nil {
			return err
		}
	}
	return nil
}

// mdev: create it, then write its attributes.
func (p *planner) mdev() ([]record.Step, error) {
	if taken, ok := mdev.Find(p.Machine, p.dev.ID); ok {
		return nil, &mdev.Error{Op: "create", UUID: p.dev.ID, Parent: p.dev.Parent, Type: p.dev.Type, Reason: mdev.Taken, Users: []inventory.Device{taken}}
	}
	steps, err := p.files()
	return slices.Concat([]record.Step{{Do: stepCreate, Name: p.dev.Parent, Value: p.dev.Type}}, steps), err
}

// function finds the VF's directory and checks its parent.
func (p *planner) function() (dir string, err error) {
	pf, err := p.physical(record.Start, p.dev.ID)
	if err != nil {
		return "", err
	}
	if p.dev.Parent != "" && p.dev.Parent != pf {
		return "", p.no(WrongParent, "it belongs to %s, not to %s", pf, p.dev.Parent)
	}
	p.dev.Parent = pf
	return path.Join(pci.Devices, p.dev.ID), nil
}

// PhysicalFunction is the address of the function that a VF belongs to.
func (h *Host) PhysicalFunction(vf string) (string, error) { return h.physical("look for", vf) }

func (h *Host) physical(op, vf string) (string, error) {
	no := func(reason Reason, detail string) (string, error) {
		return "", &Error{Op: op, ID: vf, Reason: reason, Detail: detail}
	}
	if !tree.Single(vf) {
		return no(NoDevice, "a VF is named by its PCI address")
	}
	dir := path.Join(pci.Devices, vf)
	if _, err := h.Machine.Mode(dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return no(NoDevice, "no PCI function has this address; see /sys/bus/pci/devices")
		}
		return "", err
	}
	pf, err := h.Machine.Readlink(dir + "/physfn")
	if err != nil {
		return no(WrongType, "this is no virtual function")
	}
	return path.Base(pf), nil
}

// vf: what it has outside of sysfs while nobody has it; take it from its
// driver; bind it to the one of its type. driver_override (drivers/pci/pci-sysfs.c)
// lets that one match it, and no other.
func (p *planner) vf() ([]record.Step, error) {
	dir, err := p.function()
	if err != nil {
		return nil, err
	}
	driver, err := p.driverOf(dir)
	if err != nil {
		return nil, err
	}
	current, err := linkBase(p.Machine, dir+"/driver")
	if err != nil {
		return nil, err
	}
	if current == driver {
		return nil, p.no(Started, "it is bound to %s", driver)
	}
	settings, migratable, err := p.settings()
	if err != nil {
		return nil, err
	}
	steps := settings
	if current != "" {
		steps = append(steps, record.Step{Do: stepUnbind, Name: current})
	}
	steps = append(steps, migratable...)
	before, err := override(p.Machine, dir)
	if err != nil {
		return nil, err
	}
	return append(steps,
		record.Step{Do: stepOverride, Value: driver, Before: before},
		record.Step{Do: stepBind, Name: driver}), nil
}

// driverOf checks the type of a VF against the function and the drivers, and
// returns its driver. The ids have no hyphen: the last one ends the driver.
func (p *planner) driverOf(dir string) (string, error) {
	i := strings.LastIndexByte(p.dev.Type, '-')
	if i <= 0 || !tree.Single(p.dev.Type) {
		return "", p.no(WrongType, "%q is not <driver>-<vendor>:<device>", p.dev.Type)
	}
	driver, ids := p.dev.Type[:i], p.dev.Type[i+1:]
	var have [2]string
	for i, name := range []string{"vendor", "device"} {
		text, err := tree.Text(p.Machine, dir+"/"+name)
		if err != nil {
			return "", err
		}
		have[i] = strings.TrimPrefix(text, "0x")
	}
	if got := have[0] + ":" + have[1]; got != ids {
		return "", p.no(WrongType, "the function is %s, and the type is of %s; it can be %s-%s", got, ids, driver, got)
	}
	if _, err := p.Machine.Mode(drivers + "/" + driver); err != nil {
		return "", p.no(NoDriver, "there is no driver %s; load its module: modprobe %s", driver, driver)
	}
	return driver, nil
}

// settings are the steps for what is outside of sysfs: the first ones, and
// those for when the VF is unbound. The kernel takes migratable only then
// (Documentation/networking/devlink/devlink-port.rst).
func (p *planner) settings() (first, unbound []record.Step, err error) {
	for _, a := range p.attrs {
		if err := checkSetting(a); err != nil {
			return nil, nil, p.no(BadValue, "%v", err)
		}
		if p.Settings == nil {
			return nil, nil, p.no(BadValue, "%s cannot be set on this machine", a.Name)
		}
		before, err := p.Settings.Get(p.ctx, p.dev.Parent, p.dev.ID, a.Name)
		if err != nil {
			return nil, nil, p.no(BadValue, "%s cannot be set: %v", a.Name, err)
		}
		s := record.Step{Do: stepSetting, Name: a.Name, Value: a.Value, Before: before}
		if a.Name == Migratable {
			unbound = append(unbound, s)
		} else {
			first = append(first, s)
		}
	}
	return first, unbound, nil
}

// vgpu: write the type's number, then the parameters.
func (p *planner) vgpu() ([]record.Step, error) {
	dir, err := p.function()
	if err != nil {
		return nil, err
	}
	number, ok := strings.CutPrefix(p.dev.Type, nvidia.Namespace+"-")
	if _, err := strconv.ParseUint(number, 10, 32); !ok || err != nil || number == "0" {
		return nil, p.no(WrongType, "%q is not %s-<number>", p.dev.Type, nvidia.Namespace)
	}
	current, err := tree.Text(p.Machine, dir+currentType)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, p.no(WrongType, "the function takes no vGPU type; enable the card's virtual functions with NVIDIA's sriov-manage")
	case err != nil:
		return nil, err
	case current == number:
		return nil, p.no(Started, "it has this type")
	case current != "0":
		return nil, p.no(NotOurs, "it has the type %s-%s", nvidia.Namespace, current)
	}
	text, err := tree.Text(p.Machine, dir+"/nvidia/creatable_vgpu_types")
	if err != nil {
		return nil, err
	}
	list, err := nvidia.ParseCreatable(text)
	if err != nil {
		return nil, p.no(Failed, "creatable_vgpu_types: %v", err)
	}
	if !slices.ContainsFunc(list, func(e nvidia.Entry) bool { return e.Number == number }) {
		if len(list) == 0 {
			return nil, p.no(WrongType, "no type can be created on this function now: the card is full")
		}
		var names []string
		for _, e := range list {
			names = append(names, fmt.Sprintf("%s-%s (%s)", nvidia.Namespace, e.Number, e.Label))
		}
		return nil, p.no(WrongType, "the type cannot be created on this function now; these can: %s", strings.Join(names, ", "))
	}
	steps, err := p.files()
	return slices.Concat([]record.Step{{Do: stepType, Value: number, Before: "0"}}, steps), err
}

// linkBase is the last element of where a link points, empty without a link.
func linkBase(d tree.Dir, name string) (string, error) {
	text, err := d.Readlink(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return path.Base(text), err
}

// override is the function's driver_override, empty when none is set.
func override(d tree.Dir, dir string) (string, error) {
	text, err := tree.Text(d, dir+"/driver_override")
	if text == "(null)" { // drivers/pci/pci-sysfs.c prints a NULL pointer so
		text = ""
	}
	return text, err
}

// SPDX-License-Identifier: Apache-2.0

// Package proc tells which processes hold VFIO devices open, from the links in
// /proc/<pid>/fd, without opening a device.
package proc

import (
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"kindred/host/tree"
	"kindred/inventory"
)

// Holders are the processes that hold VFIO character devices open.
type Holders struct {
	pids     map[string][]int // by path: /dev/vfio/7, /dev/vfio/devices/vfio3
	complete bool
}

// initialPIDs is what the first PID namespace is called: PROC_PID_INIT_INO of
// include/linux/proc_ns.h. Only in it does /proc list every process.
const initialPIDs = "pid:[4026531836]"

// ReadHolders looks at every process. Without the right to see all of them
// (or without /proc) the result is not complete. A container or hidepid shows a
// part of the processes without a word: process 1 tells whether this is all.
func ReadHolders(d tree.Dir) Holders {
	namespace, err := d.Readlink("proc/1/ns/pid")
	h := Holders{pids: make(map[string][]int), complete: err == nil && namespace == initialPIDs}
	entries, err := d.ReadDir("proc")
	if err != nil {
		h.complete = false
		return h
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name)
		if err != nil {
			continue
		}
		dir := "proc/" + e.Name + "/fd"
		links, err := d.ReadDir(dir)
		if err != nil {
			h.complete = h.complete && gone(err)
			continue
		}
		for _, link := range links {
			target, err := d.Readlink(dir + "/" + link.Name)
			// The kernel takes the node of a device that is going away, and
			// libvirt one of a machine's own /dev, while it is open.
			target = strings.TrimSuffix(target, " (deleted)")
			switch {
			case err != nil:
				h.complete = h.complete && gone(err)
			case strings.HasPrefix(target, "/dev/vfio/") && !slices.Contains(h.pids[target], pid):
				h.pids[target] = append(h.pids[target], pid)
			}
		}
	}
	return h
}

// gone is true when a process or descriptor ended while it was looked at.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// PIDs are the processes that hold dev open, by its IOMMU group or by its own
// node.
func (h Holders) PIDs(dev *inventory.Device) []int {
	var pids []int
	if group, ok := dev.Group.Get(); ok {
		pids = append(pids, h.pids["/dev/vfio/"+group]...)
		pids = append(pids, h.pids["/dev/vfio/noiommu-"+group]...)
	}
	if node, ok := dev.Node.Get(); ok {
		pids = append(pids, h.pids["/dev/vfio/devices/"+node]...)
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// Process is a process, as an error names it.
type Process struct {
	PID  int
	Name string // comm; empty when it went meanwhile
}

// Processes are the processes that hold dev open, with their names, which d
// has in /proc.
func (h Holders) Processes(d tree.Dir, dev *inventory.Device) []Process {
	var list []Process
	for _, pid := range h.PIDs(dev) {
		list = append(list, Named(d, pid))
	}
	return list
}

// Named is the process of that number, with the name that d has of it.
func Named(d tree.Dir, pid int) Process {
	name, err := tree.FileText(d, "proc/"+strconv.Itoa(pid)+"/comm")
	if err != nil {
		name = ""
	}
	return Process{pid, name}
}

// Names lists processes in an error's text: "process 71 (qemu-system-x86)". A
// process chooses its name: what is not printed, such as a line's end, is escaped.
func Names(list []Process) string {
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = "process " + strconv.Itoa(p.PID)
		if p.Name != "" {
			quoted := strconv.Quote(p.Name)
			names[i] += " (" + strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`) + ")"
		}
	}
	return strings.Join(names, " and ")
}

// InUse says whether a process holds dev open. No needs all processes seen and
// the device's group known.
func (h Holders) InUse(dev *inventory.Device) inventory.Answer {
	switch {
	case len(h.PIDs(dev)) > 0:
		return inventory.Yes
	case h.complete && dev.Group.State() == inventory.Present && dev.Node.State() != inventory.NotObserved:
		return inventory.No
	}
	return inventory.Unknown
}

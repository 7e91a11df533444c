// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"kindred/api"
)

// logDir is where libvirt keeps what each domain's QEMU prints.
const logDir = "/var/log/libvirt/qemu"

// maxLog bounds what is read of a log.
const maxLog = 256 << 10

func logFile(name string) string { return filepath.Join(logDir, filepath.Base(name)+".log") }

// logSize is how long a domain's log is; 0 where there is none.
func logSize(name string) int64 {
	info, err := os.Stat(logFile(name))
	if err != nil {
		return 0
	}
	return info.Size()
}

// loadFailed is what QEMU prints when a device's state could not be loaded
// (migration/savevm.c, qemu_loadvm_section_part_end and _start_full); of a VFIO
// device the section is called vfio (hw/vfio/migration.c).
var loadFailed = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`error while loading state (section id \d+\(|for instance \S+ of device ')[^)'\n]*\bvfio\b`)
})

// errnoOf is how QEMU says why a load failed: on its standard error, or, under
// libvirt, over its monitor alone, so that it may not be in the log.
var errnoOf = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`load of migration failed: ([^\n]+)`)
})

// cut are words of a connection that broke: what could not be read then says
// nothing of a driver.
var cut = [][]byte{[]byte("load of migration failed: Input/output error"), []byte("Connection "), []byte("Broken pipe"), []byte("from socket"), []byte("Interrupted")}

// Rejection is the error with which a driver refused the state, as the target's
// QEMU printed it; empty: the text does not clearly say so.
func Rejection(log []byte) string {
	failed := loadFailed().Find(log)
	if failed == nil || slices.ContainsFunc(cut, func(c []byte) bool { return bytes.Contains(log, c) }) {
		return ""
	}
	// The end of the name is a quote or a bracket, and not of interest.
	text := string(failed)
	if why := errnoOf().FindSubmatch(log); why != nil {
		text += ": " + string(bytes.TrimSpace(why[1]))
	}
	return text
}

// resetLine is what QEMU prints when a device does not go into a state, and is
// reset (hw/vfio/migration.c, vfio_migration_set_state). When that is the state to
// run in, on the target, the driver refused the whole at its end: QEMU lets the VM
// run all the same, and libvirt hears of no error.
var resetLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`([0-9A-Fa-f:.-]+): (Failed setting device state to [^\n]+)`)
})

// resets are the devices that were, as the target's log has it. Of one that the log
// names in another way each device may be meant.
func resets(log []byte, devices []string) (list []api.Rejection) {
	said := make(map[string]bool)
	for _, line := range resetLine().FindAllSubmatch(log, -1) {
		meant := devices
		if name := strings.ToLower(string(line[1])); slices.Contains(devices, name) {
			meant = []string{name}
		}
		for _, d := range meant {
			if !said[d] {
				said[d] = true
				list = append(list, api.Rejection{Device: d, Error: string(bytes.TrimSpace(line[2]))})
			}
		}
	}
	return list
}

// ReadLog reads what a domain's QEMU printed, from an offset.
func ReadLog(name string, from int64) []byte {
	f, err := os.Open(logFile(name))
	if err != nil {
		return nil // no log, nothing said
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() < from {
		from = 0 // it was rotated
	}
	data, err := io.ReadAll(io.NewSectionReader(f, from, maxLog))
	if err != nil {
		return nil
	}
	return data
}

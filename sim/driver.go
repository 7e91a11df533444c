// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"kindred/host/vfio"
)

// Driver is one build of a vendor's driver, as data.
type Driver struct {
	Namespace string // what its types' names begin with: the driver's own name
	Module    string // the kernel module; empty: namespace, with _ for -
	BuildID   string // hexadecimal; empty: made from Module and Release
	Release   string // goes into the build-id, so that a rebuild differs
	// Parameters of the module.
	Parameters map[string]string
	Types      []Type
	Migration  Migration
}

// Type is an interface that the driver offers.
type Type struct {
	Name        string
	Label       string // for people; empty: the full name
	Description string // empty: the driver has none
	API         string // empty: vfio-pci
	Units       int    // what an instance takes of its parent's units; 0: 1
	// Attributes of the type's directory, and of each of its devices'. The latter
	// can be written.
	Attributes       map[string]string
	DeviceAttributes map[string]string

	// What the guest sees, and the state depends on.
	Vendor, Device, Class uint32 // PCI numbers; Vendor and Device also name the interface
	Revision              uint8
	Features              uint64 // bits; a target needs to have all of a source's
	Memory                uint64 // bytes of memory, which are most of the state
}

// Window is a range of stream versions that a driver takes: one major, and its
// minors up to one.
type Window struct{ Major, Minor uint16 }

// Migration is how a driver saves and what it takes. The zero value of an
// option is the behaviour that the documentation asks for.
type Migration struct {
	Flags        vfio.Flags // 0: STOP_COPY, P2P and PRE_COPY
	None         bool       // it has no migration operations
	Stream       string     // the kind of stream; empty: the namespace
	Major, Minor uint16     // of the streams it writes
	Takes        []Window   // empty: its own major, up to its own minor
	Refusal      unix.Errno // for a header it does not take; 0: EINVAL

	PreCopyZero    bool // reading at the end of PRE_COPY gives zero bytes, not ENOMSG
	Forgets        bool // after a refusal it takes the rest of the stream, as mtty and qat do
	TakesTruncated bool // RESUMING to STOP succeeds although the stream was cut
	TakesAnything  bool // it checks nothing, and corrupts what does not fit
	IgnoresSum     bool // it does not verify the sum at the end of a stream
	BadSum         bool // it writes a wrong sum
	KeepsState     bool // the migration state and the contents outlive close, the contents also reset, as with mtty
	Shuffles       bool // it reads the memory in another order than others do, unsaid
}

func (d *Driver) module() string {
	if d.Module != "" {
		return d.Module
	}
	return strings.ReplaceAll(d.Namespace, "-", "_")
}

func (d *Driver) buildID() string {
	if d.BuildID != "" {
		return d.BuildID
	}
	return idOf(d.module(), d.Release)
}

// idOf is an identity that follows from names: 20 bytes, as a build-id has.
func idOf(names ...string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", names))
	return hex.EncodeToString(sum[:20])
}

func (m *Migration) flags() vfio.Flags {
	if m.Flags == 0 {
		return vfio.FlagStopCopy | vfio.FlagP2P | vfio.FlagPreCopy
	}
	return m.Flags
}

func (m *Migration) refusal() unix.Errno {
	if m.Refusal == 0 {
		return unix.EINVAL
	}
	return m.Refusal
}

// takes reports whether it takes streams of that version.
func (m *Migration) takes(major, minor uint16) bool {
	windows := m.Takes
	if len(windows) == 0 {
		windows = []Window{{m.Major, m.Minor}}
	}
	for _, w := range windows {
		if w.Major == major && minor <= w.Minor {
			return true
		}
	}
	return false
}

func (t *Type) api() string {
	if t.API == "" {
		return "vfio-pci"
	}
	return t.API
}

func (t *Type) units() int { return max(t.Units, 1) }

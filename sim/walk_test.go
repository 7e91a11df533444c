// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kindred/host/vfio"
)

// walked lists, for a driver with all states, every combination that the kernel
// walks, as the comment above its table in drivers/vfio/vfio_main.c has them;
// what is in none of the lists is one step, or not possible.
const walked = `
PRE_COPY -> PRE_COPY_P2P -> STOP_COPY
PRE_COPY -> RUNNING -> RUNNING_P2P
PRE_COPY -> RUNNING -> RUNNING_P2P -> STOP
PRE_COPY -> RUNNING -> RUNNING_P2P -> STOP -> RESUMING
PRE_COPY_P2P -> RUNNING_P2P -> RUNNING
PRE_COPY_P2P -> RUNNING_P2P -> STOP
PRE_COPY_P2P -> RUNNING_P2P -> STOP -> RESUMING
RESUMING -> STOP -> RUNNING_P2P
RESUMING -> STOP -> RUNNING_P2P -> PRE_COPY_P2P
RESUMING -> STOP -> RUNNING_P2P -> RUNNING
RESUMING -> STOP -> RUNNING_P2P -> RUNNING -> PRE_COPY
RESUMING -> STOP -> STOP_COPY
RUNNING -> RUNNING_P2P -> PRE_COPY_P2P
RUNNING -> RUNNING_P2P -> STOP
RUNNING -> RUNNING_P2P -> STOP -> RESUMING
RUNNING -> RUNNING_P2P -> STOP -> STOP_COPY
RUNNING_P2P -> RUNNING -> PRE_COPY
RUNNING_P2P -> STOP -> RESUMING
RUNNING_P2P -> STOP -> STOP_COPY
STOP -> RUNNING_P2P -> PRE_COPY_P2P
STOP -> RUNNING_P2P -> RUNNING
STOP -> RUNNING_P2P -> RUNNING -> PRE_COPY
STOP_COPY -> STOP -> RESUMING
STOP_COPY -> STOP -> RUNNING_P2P
STOP_COPY -> STOP -> RUNNING_P2P -> RUNNING
`

// arcs are the steps that drivers implement (the same comment).
const arcs = `
RESUMING -> STOP
STOP -> RESUMING
STOP -> STOP_COPY
STOP_COPY -> STOP
RUNNING -> RUNNING_P2P
RUNNING_P2P -> RUNNING
RUNNING_P2P -> STOP
STOP -> RUNNING_P2P
RUNNING -> PRE_COPY
PRE_COPY -> RUNNING
PRE_COPY -> PRE_COPY_P2P
PRE_COPY_P2P -> PRE_COPY
PRE_COPY_P2P -> RUNNING_P2P
PRE_COPY_P2P -> STOP_COPY
RUNNING_P2P -> PRE_COPY_P2P
`

func ways(t *testing.T) map[[2]string][]string {
	t.Helper()
	m := make(map[[2]string][]string)
	for line := range strings.Lines(walked + arcs) {
		if way := strings.Split(strings.TrimSpace(line), " -> "); len(way) > 1 {
			m[[2]string{way[0], way[len(way)-1]}] = way[1:]
		}
	}
	return m
}

// TestTable holds all 8 x 8 requests against the kernel's list, with every set
// of flags: states a driver does not have are passed over, and asking for them
// is EINVAL.
func TestTable(t *testing.T) {
	list := ways(t)
	for _, flags := range []vfio.Flags{0, 1, 3, 5, 7} {
		for from := range vfio.State(states) {
			for to := range vfio.State(states + 1) {
				want, possible := list[[2]string{from.String(), to.String()}]
				possible = (possible || from == to) && supports(flags, from) && supports(flags, to)
				var got []string
				at, ok := from, supports(flags, from) && supports(flags, to)
				for ok && at != to {
					if at, ok = next(flags, at, to); ok {
						got = append(got, at.String())
					}
				}
				if ok != possible {
					t.Errorf("flags %d: %s to %s is %v", flags, from, to, ok)
					continue
				}
				want = slices.DeleteFunc(slices.Clone(want), func(s string) bool {
					return flags&vfio.FlagP2P == 0 && strings.HasSuffix(s, "P2P")
				})
				if ok && from != to && !slices.Equal(got, want) {
					t.Errorf("flags %d: %s to %s goes over %v, the kernel over %v", flags, from, to, got, want)
				}
			}
		}
	}
	if supports(7, sError) || supports(0, sStop) {
		t.Error("no driver supports ERROR, and none without STOP_COPY anything")
	}
}

// into brings a new device of a build into a state.
func into(t *testing.T, build string, s vfio.State) vfio.Device {
	t.Helper()
	d := open(t, build)
	if s == sError {
		d.(*device).mig = sError
		return d
	}
	if _, err := d.SetState(s); err != nil {
		t.Fatal(err)
	}
	return d
}

// open makes a machine of a build with one device, and opens it.
func open(t testing.TB, build string) vfio.Device {
	t.Helper()
	d, _ := openOn(t, build, "V4")
	return d
}

func openOn(t testing.TB, build, typ string) (vfio.Device, *Machine) {
	t.Helper()
	list, err := Fleet(build)
	if err != nil {
		t.Fatal(err)
	}
	return create(t, list[0], typ, 1), list[0]
}

func create(t testing.TB, m *Machine, typ string, n int) vfio.Device {
	t.Helper()
	id := UUID(t.Name(), n)
	if err := m.WriteAttr("sys/class/mdev_bus/sim0/mdev_supported_types/ksim-"+typ+"/create", id); err != nil {
		t.Fatal(err)
	}
	d, err := m.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// TestEveryRequest asks a device in each state for each state. Where loading
// has to end first and nothing came, it stays in RESUMING.
func TestEveryRequest(t *testing.T) {
	list := ways(t)
	for from := range vfio.State(states) {
		for to := range vfio.State(states + 1) {
			t.Run(fmt.Sprint(from, " to ", to), func(t *testing.T) {
				d := into(t, "gen8", from)
				session, err := d.SetState(to)
				at, stateErr := d.State()
				if stateErr != nil {
					t.Fatal(stateErr)
				}
				_, possible := list[[2]string{from.String(), to.String()}]
				switch {
				case from == to && from != sResuming || from == to:
					if err != nil || at != from || session != nil {
						t.Errorf("to itself: %v, %s, session %v", err, at, session)
					}
				case from == sResuming || !possible:
					if !errors.Is(err, unix.EINVAL) || at != from || session != nil {
						t.Errorf("%v, %s, session %v", err, at, session)
					}
				case err != nil || at != to:
					t.Errorf("%v, %s", err, at)
				default:
					saving := to == sStopCopy || to == sPreCopy || to == sPreCopyP2P
					was := from == sPreCopy || from == sPreCopyP2P
					if want := to == sResuming || saving && !was; (session != nil) != want {
						t.Errorf("session %v, want one: %v", session, want)
					}
				}
				if err := d.Reset(); err != nil {
					t.Error(err)
				}
				if at, err := d.State(); at != sRunning || err != nil {
					t.Errorf("after a reset: %s, %v", at, err)
				}
			})
		}
	}
}

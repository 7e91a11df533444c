// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"kindred/host/uevent"
)

// kernel is a machine with the parent card, whose events are sent by the test.
type kernel struct {
	t      *testing.T
	root   string
	events chan any // uevent.Event or error
}

func (k *kernel) Next(ctx context.Context) (uevent.Event, error) {
	select {
	case e := <-k.events:
		if err, ok := e.(error); ok {
			return uevent.Event{}, err
		}
		return e.(uevent.Event), nil
	case <-ctx.Done():
		return uevent.Event{}, ctx.Err()
	}
}

func (k *kernel) link(name, target string) {
	name = filepath.Join(k.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.Symlink(target, name)); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) parent(name string) {
	dir := "sys/devices/" + name + "/mdev_supported_types/drv-a"
	if err := os.MkdirAll(filepath.Join(k.root, dir), 0o755); err != nil {
		k.t.Fatal(err)
	}
	for _, file := range []string{"name", "device_api", "available_instances"} {
		if err := os.WriteFile(filepath.Join(k.root, dir, file), []byte("1\n"), 0o644); err != nil {
			k.t.Fatal(err)
		}
	}
	k.link("sys/devices/"+name+"/driver", "../../bus/x/drivers/drv")
	k.link("sys/class/mdev_bus/"+name, "../../devices/"+name)
}

func (k *kernel) device(id string) {
	if err := os.MkdirAll(filepath.Join(k.root, "sys/devices/card", id), 0o755); err != nil {
		k.t.Fatal(err)
	}
	k.link("sys/bus/mdev/devices/"+id, "../../../devices/card/"+id)
}

func (k *kernel) typed(id string) {
	k.link("sys/devices/card/"+id+"/mdev_type", "../mdev_supported_types/drv-a")
}

func (k *kernel) gone(id string) {
	if err := errors.Join(os.Remove(filepath.Join(k.root, "sys/bus/mdev/devices", id)), os.RemoveAll(filepath.Join(k.root, "sys/devices/card", id))); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) tell(action, id string) {
	k.events <- uevent.Event{Action: action, Path: "sys/devices/card/" + id, Subsystem: "mdev"}
}

// TestWatch: whatever the order of events and of what can be read, each thing
// is told once, with its type.
func TestWatch(t *testing.T) { synctest.Test(t, testWatch) }

func testWatch(t *testing.T) {
	k := &kernel{t: t, root: t.TempDir(), events: make(chan any)}
	if err := os.MkdirAll(filepath.Join(k.root, "sys/bus/mdev/devices"), 0o755); err != nil {
		t.Fatal(err)
	}
	k.parent("card")
	k.device("a")
	k.typed("a")
	h, err := Open(k.root)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	told := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- h.Watch(ctx, k, func(c Change) error {
			switch {
			case c.Parent != nil:
				told <- fmt.Sprintf("%s parent %s", c.Event, c.Parent.Name)
			case c.Device != nil:
				told <- fmt.Sprintf("%s device %s %s on %s", c.Event, c.Device.ID, c.Device.Type.Name, c.Device.Parent)
			default:
				told <- string(c.Event)
			}
			return nil
		})
	}()
	expect := func(want ...string) {
		t.Helper()
		for _, w := range want {
			select {
			case got := <-told:
				if got != w {
					t.Fatalf("told %q, want %q", got, w)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("nothing was told, want %q", w)
			}
		}
	}
	silent := func() {
		t.Helper()
		select {
		case got := <-told:
			t.Fatalf("told %q, want nothing", got)
		case <-time.After(10 * settle):
		}
	}
	expect("present parent card", "present device a a on card")

	// The event comes before the type can be read.
	k.device("b")
	k.tell("add", "b")
	k.tell("bind", "b")
	silent()
	k.typed("b")
	expect("added device b a on card")

	// One whose type never comes is told without it.
	k.device("c")
	k.tell("add", "c")
	expect("added device c  on card")
	silent()

	// Removed and made anew between two looks; come and gone between two.
	k.tell("remove", "b")
	k.tell("add", "b")
	k.tell("add", "d")
	k.tell("remove", "d")
	expect("removed device b a on card", "added device b a on card", "added device d  on card", "removed device d  on card")

	k.gone("c")
	k.events <- uevent.Event{Action: "remove", Subsystem: "vfio-dev"}
	expect("removed device c  on card")
	k.tell("remove", "c") // later than it was seen to be gone
	silent()

	// Gone before it had a type.
	k.device("e")
	k.tell("add", "e")
	time.Sleep(5 * settle)
	k.gone("e")
	k.tell("remove", "e")
	expect("added device e  on card", "removed device e  on card")
	silent()

	// The same, seen to be gone before the event of it comes.
	k.device("f")
	k.tell("add", "f")
	time.Sleep(5 * settle)
	k.gone("f")
	expect("added device f  on card", "removed device f  on card")
	k.tell("remove", "f")
	silent()

	// Lost events are made up for.
	k.parent("other")
	k.gone("a")
	k.events <- uevent.ErrOverrun
	expect("rescanned", "removed device a a on card", "added parent other")

	// Other devices' events are nothing to us.
	k.parent("third")
	k.events <- uevent.Event{Action: "add", Path: "sys/devices/x", Subsystem: "net"}
	silent()
	k.events <- uevent.Event{Action: "change", Path: "sys/devices/third", Subsystem: "pci", Vars: map[string]string{"MDEV_STATE": "registered"}}
	expect("added parent third")

	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

// Package uevent listens to what the kernel tells of devices that come, go and
// change: the messages of lib/kobject_uevent.c on a NETLINK_KOBJECT_UEVENT
// socket.
//
// Only the kernel's own messages count. Any process of root, also in some
// containers, can send to the same group: a message whose sender is not the
// kernel, by its address and by its credentials, is dropped. When the kernel
// had more to tell than the socket holds, messages are lost and [ErrOverrun]
// says so, when the socket is empty again: what there is has to be read anew.
package uevent

import (
	"errors"
	"fmt"
	"strings"
)

// Event is one message.
type Event struct {
	Action    string // add, remove, change, bind, unbind, move, …
	Path      string // of the device, below the root: sys/devices/…
	Subsystem string
	Vars      map[string]string // all of them, as MDEV_STATE
}

// ErrOverrun is returned once after messages were lost.
var ErrOverrun = errors.New("the kernel told more than could be read: messages were lost")

// Parse reads one message: "<action>@<path>", then variables, each ended by a
// zero byte.
func Parse(msg []byte) (Event, error) {
	head, rest, ok := strings.Cut(string(msg), "\x00")
	action, path, has := strings.Cut(head, "@")
	if !ok || !has || action == "" || !strings.HasPrefix(path, "/") {
		return Event{}, fmt.Errorf("%.80q is not a message of the kernel", head)
	}
	e := Event{Action: action, Path: "sys" + path, Vars: make(map[string]string)}
	for _, text := range strings.Split(rest, "\x00") {
		if name, value, ok := strings.Cut(text, "="); ok {
			e.Vars[name] = value
		}
	}
	e.Subsystem = e.Vars["SUBSYSTEM"]
	if e.Vars["ACTION"] != action || e.Vars["DEVPATH"] != path {
		return Event{}, fmt.Errorf("%.80q does not agree with its variables", head)
	}
	return e, nil
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package uevent

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	const path = "/devices/virtual/mtty/mtty/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
	got, err := Parse([]byte("add@" + path + "\x00ACTION=add\x00DEVPATH=" + path + "\x00SUBSYSTEM=mdev\x00SEQNUM=17\x00"))
	want := Event{Action: "add", Path: "sys" + path, Subsystem: "mdev", Vars: map[string]string{"ACTION": "add", "DEVPATH": path, "SUBSYSTEM": "mdev", "SEQNUM": "17"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	for _, bad := range []string{
		"", "add@/x", "@/x\x00ACTION=\x00DEVPATH=/x\x00", "add/x\x00ACTION=add\x00", "add@x\x00ACTION=add\x00DEVPATH=x\x00",
		"libudev\x00\xfe\xed\xca\xfe", "add@/x\x00ACTION=remove\x00DEVPATH=/x\x00", "add@/x\x00ACTION=add\x00DEVPATH=/y\x00",
	} {
		if e, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%q is %+v", bad, e)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("add@/x\x00ACTION=add\x00DEVPATH=/x\x00SUBSYSTEM=mdev\x00"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if e, err := Parse(msg); err == nil && (e.Action == "" || e.Vars["ACTION"] != e.Action) {
			t.Errorf("%q is %+v", msg, e)
		}
	})
}

func TestFromKernel(t *testing.T) {
	cred := func(pid int32, uid uint32) []byte {
		return unix.UnixCredentials(&unix.Ucred{Pid: pid, Uid: uid})
	}
	nl := func(pid, groups uint32) unix.Sockaddr { return &unix.SockaddrNetlink{Pid: pid, Groups: groups} }
	for name, c := range map[string]struct {
		from unix.Sockaddr
		oob  []byte
		want bool
	}{
		"the kernel":           {nl(0, 1), cred(0, 0), true},
		"a process of root":    {nl(812, 1), cred(812, 0), false},
		"with port 0":          {nl(0, 1), cred(812, 0), false},
		"another user's":       {nl(0, 1), cred(0, 1000), false},
		"another group":        {nl(0, 2), cred(0, 0), false},
		"without credentials":  {nl(0, 1), nil, false},
		"no netlink":           {&unix.SockaddrUnix{}, cred(0, 0), false},
		"with broken messages": {nl(0, 1), []byte{1, 2, 3}, false},
	} {
		if got := fromKernel(c.from, c.oob); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestForged: what this process sends to the group is not taken for the
// kernel's, and waiting ends with the context.
func TestForged(t *testing.T) {
	c, err := Listen()
	if err != nil {
		t.Skipf("this machine gives no such socket: %v", err)
	}
	defer c.Close()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const forged = "add@/forged\x00ACTION=add\x00DEVPATH=/forged\x00SUBSYSTEM=mdev\x00"
	if err := unix.Sendto(fd, []byte(forged), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		t.Skipf("only root may send: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for {
		e, err := c.Next(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Path == "sys/forged" {
			t.Fatal("a forged message was taken for the kernel's")
		}
	}
}

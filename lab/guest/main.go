// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Guest is the first process of a lab guest: a static program that turns a bare
// kernel and an initramfs into a host that can be asked to do things.
//
// As process 1 it mounts the kernel's file systems, names the host, loads the
// modules listed in the note that lab.Boot left it, keeps a shell on the serial console
// and reaps every orphan. The requests are served by a second process of the
// same program, so that an ordinary os/exec can wait for its own children while
// process 1 may wait for anything.
//
// It gives up by powering the machine off after one line on the console: the
// program that booted it reports that line.
package main

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

func main() {
	if os.Getpid() == 1 {
		c, err := boot()
		if err != nil {
			giveUp(err)
		}
		if c.Systemd != "" {
			giveUp(handOver(c.Systemd))
		}
		giveUp(supervise())
	}
	if err := serve(); err != nil {
		fmt.Fprintf(os.Stderr, "lab guest: %v\n", err)
		os.Exit(1)
	}
}

// giveUp says why and powers off. A panic would say the same less clearly.
func giveUp(err error) {
	fmt.Fprintf(os.Stderr, "lab guest: %v\n", err)
	// The serial console drains slowly and the machine stops at once.
	time.Sleep(200 * time.Millisecond)
	powerOff()
	select {}
}

func powerOff() {
	syscall.Sync()
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}

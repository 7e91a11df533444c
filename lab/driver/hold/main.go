// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command hold has a device open, as a VM would, until it gets SIGTERM: what
// removes devices must cope with it. It prints "open" when the device is.
package main

import (
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"kindred/lab/driver/internal/raw"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: hold UUID|ADDRESS")
		os.Exit(2)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, unix.SIGTERM)
	d, err := raw.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "hold:", err)
		os.Exit(1)
	}
	fmt.Println("open")
	<-end
	d.Close()
}

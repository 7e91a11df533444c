// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serving

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestYield: a process becomes nicer, and one that is nicer already stays so.
func TestYield(t *testing.T) {
	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	before, err := unix.Getpriority(unix.PRIO_PROCESS, sleep.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if 20-before > 10 {
		t.Skip("this test is run by somebody who is very nice")
	}
	for range 2 {
		if err := Yield(sleep.Process.Pid, 15); err != nil {
			t.Fatal(err)
		}
		if is, err := unix.Getpriority(unix.PRIO_PROCESS, sleep.Process.Pid); err != nil || 20-is != 15 {
			t.Errorf("%d, %v", 20-is, err)
		}
	}
}

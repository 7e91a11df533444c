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
	const most = 19 // as nice as a process can be, whatever this one is
	for _, nice := range []int{most, most, 0} {
		if err := Yield(sleep.Process.Pid, nice); err != nil {
			t.Fatal(err)
		}
		if is, err := unix.Getpriority(unix.PRIO_PROCESS, sleep.Process.Pid); err != nil || 20-is != most {
			t.Errorf("asked for %d it has %d, %v", nice, 20-is, err)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build unix

package callout

import (
	"os/exec"
	"syscall"
)

// ownGroup gives a script a process group, so that ending it ends what it
// started.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

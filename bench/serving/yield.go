// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serving

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Yield makes a process nicer to others, with all its threads: to Linux they are
// as nice as the one that made them, and each for itself.
func Yield(pid, nice int) error {
	for nicer := true; nicer; { // one that is made meanwhile is found the next time
		nicer = false
		threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
		if err != nil {
			return fmt.Errorf("make a process nicer: %w", err)
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return fmt.Errorf("make a process nicer: %w", err)
			}
			is, err := unix.Getpriority(unix.PRIO_PROCESS, id)
			switch { // getpriority(2): the system call returns 20 less the value
			case err == unix.ESRCH || err == nil && 20-is >= nice:
				continue
			case err == nil:
				err = unix.Setpriority(unix.PRIO_PROCESS, id, nice)
			}
			if err != nil && err != unix.ESRCH {
				return fmt.Errorf("make a process nicer: %w", err)
			}
			nicer = true
		}
	}
	return nil
}

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

// Yield makes a process nicer to others, with all its threads.
func Yield(pid, nice int) error {
	return eachThread(pid, func(id int) (bool, error) {
		is, err := unix.Getpriority(unix.PRIO_PROCESS, id)
		if err != nil || 20-is >= nice { // getpriority(2): the system call returns 20 less the value
			return false, err
		}
		return true, unix.Setpriority(unix.PRIO_PROCESS, id, nice)
	})
}

// Lead makes this process go before all others whenever it has something to do,
// which must be little; not the programs that it starts. Not everybody may: without
// the right to, nothing is changed.
func Lead() error {
	return eachThread(os.Getpid(), func(id int) (bool, error) {
		is, err := unix.SchedGetAttr(id, 0)
		if err != nil || is.Policy == unix.SCHED_RR {
			return false, err
		}
		err = unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}, 0)
		if err == unix.EPERM {
			return false, nil
		}
		return err == nil, err
	})
}

// eachThread changes all threads of a process: to Linux each is one for itself. It goes on
// until none was changed.
func eachThread(pid int, change func(id int) (changed bool, err error)) error {
	for again := true; again; { // one that is made meanwhile is found the next time
		again = false
		threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
		if err != nil {
			return fmt.Errorf("change whose turn it is: %w", err)
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return fmt.Errorf("change whose turn it is: %w", err)
			}
			changed, err := change(id)
			if err != nil && err != unix.ESRCH {
				return fmt.Errorf("change whose turn it is: %w", err)
			}
			again = again || changed
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package tree

import (
	"fmt"
	"io/fs"
	"runtime"
)

// Open reports that hosts are read on Linux only. Questions about inventory
// files work everywhere.
func Open(dir string) (Dir, error) {
	return nil, &fs.PathError{Op: "open", Path: dir, Err: fmt.Errorf("a host is read on Linux only, this is %s", runtime.GOOS)}
}

// OpenMachine reports that hosts are changed on Linux only.
func OpenMachine(dir string) (Machine, error) {
	_, err := Open(dir)
	return nil, err
}

// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package private

import "errors"

var errLinux = errors.New("the benchmarks run on Linux only")

// Inside is false.
func Inside() bool { return false }

// Run fails.
func Run() (int, error) { return 1, errLinux }

// Cover fails.
func Cover(string) (func() error, error) { return nil, errLinux }

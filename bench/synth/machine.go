// SPDX-License-Identifier: Apache-2.0

package synth

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// Machine says when, where and with what something is measured.
func Machine() string {
	return fmt.Sprintf("%s; %s; %d cores; Linux %s; %s.", time.Now().UTC().Format("2006-01-02 15:04 MST"), CPU(), runtime.NumCPU(), FirstLine("/proc/sys/kernel/osrelease"), runtime.Version())
}

// CPU is the processor's name.
func CPU() string {
	data, _ := os.ReadFile("/proc/cpuinfo") // on a system without, the architecture has to do
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// FirstLine is that of a short file.
func FirstLine(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return "of unknown release"
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

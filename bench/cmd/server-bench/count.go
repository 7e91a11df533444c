// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"slices"
	"sync"
	"time"
)

// percentiles are the median and the 99th percentile.
func percentiles(times []time.Duration) (median, slow time.Duration) {
	if len(times) == 0 {
		return 0, 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2], sorted[len(sorted)*99/100]
}

// failures counts errors and keeps some.
type failures struct {
	mu   sync.Mutex
	n    int64
	some []string
}

func (f *failures) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if text := err.Error(); len(f.some) < 5 && !slices.Contains(f.some, text) {
		f.some = append(f.some, text)
	}
}

func (f *failures) count() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

func (f *failures) reasons() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.some)
}

// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"path"
	"slices"
	"time"
)

// Within is the fleet for as long as a context lasts. A question that goes over
// all hosts ends early once it is over, and its answer means nothing: who asked
// looks at the context first.
func (f *Fleet) Within(ctx context.Context) *Fleet {
	bounded := *f
	bounded.done = ctx.Done()
	return &bounded
}

// ended reports whether nobody waits for the answer any more.
func (f *Fleet) ended() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// Reporting is the fleet without the hosts whose inventory is older, with their
// devices, and how many they are. Reach and what-if know no age.
func (f *Fleet) Reporting(now time.Time, maxAge time.Duration) (*Fleet, int) {
	var silent []string
	for _, h := range f.since(now.Add(-maxAge)) {
		silent = append(silent, h.name)
	}
	if len(silent) == 0 {
		return f, 0
	}
	return f.with(nil, silent), len(silent)
}

// Named are the hosts that names and globs stand for, by name, each once. One
// that stands for no host is an error.
func (f *Fleet) Named(globs []string) ([]string, error) {
	var list []string
	for _, glob := range globs {
		if f.host(glob) != nil {
			list = append(list, glob)
			continue
		}
		found := false
		for h := range f.hosts.all {
			ok, err := path.Match(glob, h.name)
			if err != nil {
				return nil, &Error{NotFound, glob, "is not a glob over names"}
			}
			if ok {
				list, found = append(list, h.name), true
			}
		}
		if !found {
			return nil, &Error{NotFound, glob, "no such host in " + f.where("", false)}
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

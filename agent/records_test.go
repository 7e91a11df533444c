// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"io/fs"

	"kindred/trust"
)

// records is a store in memory, for one at a time.
type records struct {
	data     map[string][]byte
	revision map[string]int64
}

func newRecords() *records { return &records{map[string][]byte{}, map[string]int64{}} }

func (r *records) Get(_ context.Context, key string) ([]byte, int64, error) {
	if r.revision[key] == 0 {
		return nil, 0, fs.ErrNotExist
	}
	return r.data[key], r.revision[key], nil
}

func (r *records) Put(_ context.Context, key string, data []byte, revision int64) error {
	if r.revision[key] != revision {
		return trust.ErrChanged
	}
	r.data[key], r.revision[key] = data, revision+1
	return nil
}

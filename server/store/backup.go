// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// backupSchema names the format of a backup.
const backupSchema = "kindred.backup/v1"

// restoreStep is added to a backup's revision when it is restored, so that no
// revision is given again that was given after the backup was made.
const restoreStep = 1_000_000_000

// backupHead and backupEnd are a backup's first and last line; between them is
// one record in each line.
type backupHead struct {
	Schema   string `json:"schema"`
	Revision int64  `json:"revision"`
}

type backupEnd struct {
	Records int `json:"records"`
}

type backupRecord struct {
	Key   string     `json:"key,omitempty"`
	Value []byte     `json:"value,omitempty"`
	End   *backupEnd `json:"end,omitempty"`
}

// Backup writes all records as they were at one revision. Replicas that run are
// left out.
func (s *Store) Backup(ctx context.Context, w io.Writer) (records int, err error) {
	z, err := zstd.NewWriter(w)
	if err != nil {
		return 0, fmt.Errorf("back up: %w", err)
	}
	enc := json.NewEncoder(z)
	revision, err := s.Revision(ctx)
	if err != nil {
		return 0, err
	}
	if err := enc.Encode(backupHead{backupSchema, revision}); err != nil {
		return 0, fmt.Errorf("back up: %w", err)
	}
	_, err = s.Read(ctx, "", func(r Record) error {
		if strings.HasPrefix(r.Key, Replica+"/") || r.Key == base {
			return nil
		}
		records++
		return enc.Encode(backupRecord{Key: r.Key, Value: r.Value})
	})
	if err == nil {
		err = enc.Encode(backupRecord{End: &backupEnd{records}})
	}
	if err := errors.Join(err, z.Close()); err != nil {
		return records, fmt.Errorf("back up: %w", err)
	}
	return records, nil
}

// Restore writes a backup into an empty store. Nothing else may use the store
// meanwhile. A backup that is not whole is refused before anything is written.
func (s *Store) Restore(ctx context.Context, r io.Reader) (records int, err error) {
	empty := true
	if _, err := s.Read(ctx, "", func(r Record) error {
		empty = empty && strings.HasPrefix(r.Key, Replica+"/")
		return nil
	}); err != nil {
		return 0, err
	}
	if !empty {
		return 0, fmt.Errorf("restore: %w", ErrNotEmpty)
	}
	head, list, err := readBackup(r)
	if err != nil {
		return 0, fmt.Errorf("restore: %w", err)
	}
	const batch = 64
	for len(list) > 0 {
		t := Txn{}
		size := 0
		for len(list) > 0 && len(t.Then) < batch && (size == 0 || size+len(list[0].Value) < 1<<20) {
			t.Then = append(t.Then, Write{Key: list[0].Key, Value: list[0].Value})
			size += len(list[0].Value)
			list = list[1:]
		}
		if _, _, err := s.Commit(ctx, t); err != nil {
			return records, fmt.Errorf("restore: %w; the store is not whole: empty its directory and begin again", err)
		}
		records += len(t.Then)
	}
	next := head.Revision + restoreStep
	if _, _, err := s.Commit(ctx, Txn{Then: []Write{{Key: base, Value: strconv.AppendInt(nil, next, 10)}}}); err != nil {
		return records, fmt.Errorf("restore: %w; the store is not whole: empty its directory and begin again", err)
	}
	s.base = next
	return records, nil
}

func readBackup(r io.Reader) (head backupHead, list []backupRecord, err error) {
	z, err := zstd.NewReader(bufio.NewReader(r))
	if err != nil {
		return head, nil, err
	}
	defer z.Close()
	dec := json.NewDecoder(z)
	if err := dec.Decode(&head); err != nil || head.Schema != backupSchema {
		return head, nil, fmt.Errorf("this is no backup (%s)", backupSchema)
	}
	for {
		var one backupRecord
		if err := dec.Decode(&one); err != nil {
			return head, nil, fmt.Errorf("the backup is cut off or damaged after %d records: %w", len(list), err)
		}
		if one.End != nil {
			if one.End.Records != len(list) {
				return head, nil, fmt.Errorf("the backup has %d records of %d", len(list), one.End.Records)
			}
			return head, list, nil
		}
		list = append(list, one)
	}
}

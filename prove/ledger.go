// SPDX-License-Identifier: Apache-2.0

//go:build linux

package prove

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ledger is where canaries are on record while they exist: one file each, named
// by its id, locked by the process that uses it. The kernel lets the lock go
// when that process ends, however it ends, so a file that can be locked is that
// of a canary nobody looks after any more.
type ledger struct{ dir string }

// entry is one canary's file.
type entry struct {
	file *os.File
	name string
}

// write puts an id on record, before its device exists.
func (l ledger) write(id string) (*entry, error) {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return nil, err
	}
	unlock, err := l.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	name := filepath.Join(l.dir, id)
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	e := &entry{file, name}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), e.erase())
	}
	// What a power cut leaves is the file or nothing; the device is gone then.
	return e, nil
}

// lock takes the lock of the directory, for a moment: a sweep must not come
// between a file's making and its lock, or it would take it for one left behind.
func (l ledger) lock() (unlock func(), err error) {
	dir, err := os.Open(l.dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", l.dir, err), dir.Close())
	}
	return func() { dir.Close() }, nil
}

// claim opens and locks the file of a canary that nobody looks after any more.
// It is nil where somebody does, or where the canary is off the record by now.
func (l ledger) claim(name string) (*entry, error) {
	unlock, err := l.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil, file.Close() // in use
	}
	if _, err := os.Lstat(name); err != nil { // its process took it off the record just now
		return nil, file.Close()
	}
	return &entry{file, name}, nil
}

// erase takes the canary off the record, after its device is gone.
func (e *entry) erase() error {
	return errors.Join(os.Remove(e.name), e.file.Close())
}

// sweep calls remove for every canary that nobody looks after, and takes those
// off the record that are gone. Canaries in use are left alone.
func (l ledger) sweep(ctx context.Context, remove func(ctx context.Context, id string) error) (swept []string, err error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	for _, found := range entries {
		e, claimErr := l.claim(filepath.Join(l.dir, found.Name()))
		if e == nil {
			err = errors.Join(err, claimErr)
			continue
		}
		if gone := remove(ctx, found.Name()); gone != nil {
			err = errors.Join(err, fmt.Errorf("remove the canary %s that was left behind: %w", found.Name(), gone), e.file.Close())
			continue
		}
		err = errors.Join(err, e.erase())
		swept = append(swept, found.Name())
	}
	return swept, err
}

// busy reports whether a canary is in use.
func (l ledger) busy() bool {
	entries, err := os.ReadDir(l.dir)
	return err == nil && len(entries) > 0
}

// patience is how long a guard waits for a process that is being ended to let
// its locks go, sweepWait how long a sweep waits for one canary that somebody
// has open.
const (
	patience  = 10 * time.Second
	sweepWait = time.Second
	pause     = 20 * time.Millisecond
)

// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Store writes the records of a machine's devices. It may be used by any
// number of goroutines and processes; who writes the record of a device has to
// hold its [Store.Lock].
type Store struct {
	below *os.Root
	dir   string // Dir, as it is reached without links
}

// OpenStore opens the records below root: "/" for the live machine.
func OpenStore(root string) (*Store, error) {
	below, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("open the records: %w", err)
	}
	return &Store{below, dirBelow(root)}, nil
}

// Close ends the store.
func (s *Store) Close() error { return s.below.Close() }

// dirBelow is Dir below root. On the live machine it, or what it is in, may be
// a link to anywhere, which is the administrator's choice and which os.Root would
// refuse; in a tree that stands for a machine nothing leads out.
func dirBelow(root string) string {
	if filepath.Clean(root) != "/" {
		return Dir
	}
	return strings.TrimPrefix(followed("/"+Dir), "/")
}

// followed is name with the links in the part of it that there is followed.
func followed(name string) string {
	real, err := filepath.EvalSymlinks(name)
	if err == nil || name == "/" {
		return real
	}
	return filepath.Join(followed(filepath.Dir(name)), filepath.Base(name))
}

func (s *Store) devices() string { return path.Join(s.dir, "devices") }

// Device reads the record of one device. The error is [fs.ErrNotExist] when
// there is none.
func (s *Store) Device(id string) (Device, error) {
	var r Device
	name := path.Join(s.devices(), file(id))
	f, err := s.below.Open(name)
	if err != nil {
		return r, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err == nil && len(data) > maxRecord {
		err = errors.New("longer than 1 MiB")
	}
	if err == nil {
		err = parse(data, &r)
	}
	if err == nil {
		err = r.Check()
	}
	if err != nil {
		return Device{}, fmt.Errorf("/%s: %w; move it away if it is of no use", name, err)
	}
	return r, nil
}

const maxRecord = 1 << 20

// Put writes the record of one device.
func (s *Store) Put(id string, r Device) error {
	if err := write(s.below, path.Join(s.devices(), file(id)), &r); err != nil {
		return fmt.Errorf("write the record of %s: %w", id, err)
	}
	return nil
}

// Delete removes the record of one device, if there is one.
func (s *Store) Delete(id string) error {
	err := s.below.Remove(path.Join(s.devices(), file(id)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(s.below, s.devices())
	}
	if err != nil {
		return fmt.Errorf("remove the record of %s: %w", id, err)
	}
	return nil
}

// List lists the devices that have a record, and those of which only a write
// that was cut short is left.
func (s *Store) List() ([]string, error) {
	dir, err := s.below.Open(s.devices())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the records: %w", err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("list the records: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(strings.TrimSuffix(e.Name(), unfinished), ".json"); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Sweep removes what a write of the device's record that was cut short left,
// and reports whether there was something.
func (s *Store) Sweep(id string) (bool, error) {
	err := s.below.Remove(path.Join(s.devices(), file(id)+unfinished))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Unfinished reports whether Sweep would remove something.
func (s *Store) Unfinished(id string) bool {
	_, err := s.below.Lstat(path.Join(s.devices(), file(id)+unfinished))
	return err == nil
}

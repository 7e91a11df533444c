// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/google/renameio/v2"

	"kindred/host/tree"
)

var (
	// ErrDefined is returned when there is a definition already.
	ErrDefined = errors.New("already defined")
	// ErrNotDefined is returned when there is none.
	ErrNotDefined = errors.New("not defined")
)

// Store writes definitions below a root. Its methods may be used at the same
// time, by any number of processes.
type Store struct {
	root string
	dir  tree.Dir
}

// Open opens the store of the machine whose files are below root: "/", or a
// directory that stands for it. It writes nothing.
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open the definitions below %s: %w", root, err)
	}
	dir, err := tree.Open(root)
	if err != nil {
		return nil, fmt.Errorf("open the definitions: %w", err)
	}
	return &Store{root: root, dir: dir}, nil
}

// Close ends the store.
func (s *Store) Close() error { return s.dir.Close() }

// Read is [Read] of this store.
func (s *Store) Read(only Filter, warn tree.Warn) []Definition { return Read(s.dir, only, warn) }

// Files is [Files] of this store.
func (s *Store) Files(only Filter, warn tree.Warn) []File { return Files(s.dir, only, warn) }

// Define writes a new definition. One that is there already is left as it is,
// and the error is [ErrDefined].
func (s *Store) Define(ctx context.Context, d *Definition) error {
	return s.update(ctx, d.Parent, d.UUID, true, func(dir *os.Root, _ *File, err error) error {
		if err == nil {
			err = ErrDefined
		}
		if !errors.Is(err, ErrNotDefined) {
			return err
		}
		if err := d.check(); err != nil {
			return err
		}
		return write(dir, d.UUID, d.Encode())
	})
}

// Modify changes a definition that is there. change is given what is in the
// file while the store is locked, so that nothing another writer wrote
// meanwhile is lost; what it does not touch stays.
func (s *Store) Modify(ctx context.Context, parent, uuid string, change func(*Definition) error) error {
	return s.update(ctx, parent, uuid, false, func(dir *os.Root, f *File, err error) error {
		if err != nil {
			return err
		}
		d := f.Definition.clone()
		if err := change(&d); err != nil {
			return err
		}
		d.Parent, d.UUID = parent, uuid
		if err := d.check(); err != nil {
			return err
		}
		return write(dir, f.Name, d.Encode())
	})
}

// Undefine removes a definition, readable or not.
func (s *Store) Undefine(ctx context.Context, parent, uuid string) error {
	return s.update(ctx, parent, uuid, false, func(dir *os.Root, f *File, err error) error {
		if f == nil {
			return err
		}
		if err := dir.Remove(f.Name); err != nil {
			return err
		}
		return syncDir(dir)
	})
}

// update calls do under the lock, with the parent's directory and the file
// that there is. Without one the file is nil and the error is ErrNotDefined;
// with one that cannot be read there are both.
func (s *Store) update(ctx context.Context, parent, uuid string, create bool, do func(dir *os.Root, f *File, err error) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("the definition of %s on %s: %w", uuid, parent, err)
		}
	}()
	if err := checkParent(parent); err != nil {
		return err
	}
	below, err := s.writable()
	if err != nil {
		return err
	}
	defer below.Close()
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	dir, made, err := openDir(below, parent, create)
	if dir == nil {
		return err
	}
	defer dir.Close()
	sweep(dir)

	err = ErrNotDefined
	var file *File
	var unread error
	for _, f := range Files(s.dir, Filter{parent, uuid}, func(_ string, err error) { unread = err }) {
		if file == nil || f.Name == uuid {
			file, err = &f, nil
		}
	}
	if file != nil && file.Definition == nil {
		err = unread
	}
	err = do(dir, file, err)
	if err != nil && made {
		_ = below.Remove(parent)
	}
	return err
}

// writable opens the directory of all definitions for writing. On the live
// host it may be a link to anywhere, which is the administrator's choice; in a
// tree that stands for a host nothing leads out.
func (s *Store) writable() (*os.Root, error) {
	if s.root == "/" {
		if err := os.MkdirAll("/"+Dir, 0o755); err != nil {
			return nil, err
		}
		return os.OpenRoot("/" + Dir)
	}
	root, err := os.OpenRoot(s.root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := root.MkdirAll(Dir, 0o755); err != nil {
		return nil, err
	}
	return root.OpenRoot(Dir)
}

// openDir opens a parent's directory, and makes it when it is wanted, so that
// it outlives a power cut as its files do.
func openDir(below *os.Root, parent string, create bool) (dir *os.Root, made bool, err error) {
	dir, err = below.OpenRoot(parent)
	switch {
	case err == nil:
		return dir, false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, false, err
	case !create:
		return nil, false, ErrNotDefined
	}
	if err := below.Mkdir(parent, 0o755); err != nil {
		return nil, false, err
	}
	if err := syncDir(below); err != nil {
		return nil, false, err
	}
	dir, err = below.OpenRoot(parent)
	return dir, true, err
}

// write replaces the file as a whole. While it is written it has another name
// in the same directory, which mdevctl would complain about and pass over.
func write(dir *os.Root, name string, data []byte) error {
	f, err := renameio.NewPendingFile(name, renameio.WithRoot(dir), renameio.WithPermissions(0o644), renameio.WithExistingPermissions())
	if err != nil {
		return err
	}
	defer f.Cleanup() //nolint:errcheck // what is left is swept by the next writer
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	return syncDir(dir)
}

// sweep removes what an interrupted writer left. The lock is held: nobody is
// writing now.
func sweep(dir *os.Root) {
	f, err := dir.Open(".")
	if err != nil {
		return
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	for _, name := range names {
		if isTemporary(name) {
			_ = dir.Remove(name)
		}
	}
}

func syncDir(dir *os.Root) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// lockFile is what writers wait for. It is not among the definitions, which
// other programs watch.
const lockFile = "run/kindred/definitions.lock"

func (s *Store) openLock() (*os.File, error) {
	root, err := os.OpenRoot(s.root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := root.MkdirAll(path.Dir(lockFile), 0o755); err != nil {
		return nil, err
	}
	return root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
}

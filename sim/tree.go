// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"cmp"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"kindred/host/tree"
)

// node is a file, a directory or a symbolic link.
type node struct {
	parent   *node
	children map[string]*node // of a directory
	link     string           // text of a symbolic link
	mode     fs.FileMode      // type and permissions
	show     func() string    // called with the machine's lock held
	// store is called without the lock: some writes wait.
	store  func(text string) error
	number uint64  // of a directory, never used again
	last   *uint64 // the number given last, shared by all
}

// files is a tree of nodes with a lock over all of it.
type files struct {
	mu   sync.RWMutex
	root *node
}

func newFiles() *files { return &files{root: newDir(nil)} }

func newDir(parent *node) *node {
	d := &node{parent: parent, children: make(map[string]*node), mode: fs.ModeDir | 0o755, last: new(uint64)}
	if parent != nil {
		d.last = parent.last
	}
	*d.last++
	d.number = *d.last
	return d
}

// dir makes a directory with those above it.
func (n *node) dir(name string) *node {
	for part := range strings.SplitSeq(name, "/") {
		child := n.children[part]
		if child == nil {
			child = newDir(n)
			n.children[part] = child
		}
		n = child
	}
	return n
}

func (n *node) add(name string, child *node) {
	dir := n
	if above := path.Dir(name); above != "." {
		dir = n.dir(above)
	}
	child.parent = dir
	dir.children[path.Base(name)] = child
}

// attr makes an attribute that can be read.
func (n *node) attr(name string, show func() string) {
	n.add(name, &node{mode: 0o444, show: show})
}

// text makes an attribute with that text and a newline.
func (n *node) text(name, text string) { n.attr(name, func() string { return text + "\n" }) }

// bytes makes a file that is not text.
func (n *node) bytes(name string, data []byte) { n.attr(name, func() string { return string(data) }) }

// trigger makes an attribute that can be written only.
func (n *node) trigger(name string, store func(text string) error) {
	n.add(name, &node{mode: 0o200, store: store})
}

func (n *node) symlink(name, text string) {
	n.add(name, &node{mode: fs.ModeSymlink | 0o777, link: text})
}

// linkTo makes a symbolic link as sysfs does: relative.
func (n *node) linkTo(root *node, name, target string) {
	dir := n
	if above := path.Dir(name); above != "." {
		dir = n.dir(above)
	}
	up := 0
	for at := dir; at != root; at = at.parent {
		up++
	}
	n.symlink(name, strings.Repeat("../", up)+target)
}

func (n *node) remove(name string) { delete(n.children, name) }

// find walks from a directory. Links lead below the root only; the last one is
// followed if wanted.
func (f *files) find(from *node, name string, follow bool) (*node, error) {
	at, links := from, 0
	rest := strings.Split(strings.Trim(name, "/"), "/")
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if at.parent != nil {
				at = at.parent
			}
			continue
		}
		if at.children == nil {
			return nil, unix.ENOTDIR
		}
		child := at.children[part]
		if child == nil {
			return nil, unix.ENOENT
		}
		if child.mode&fs.ModeSymlink == 0 || len(rest) == 0 && !follow {
			at = child
			continue
		}
		if links++; links > 40 {
			return nil, unix.ELOOP
		}
		if strings.HasPrefix(child.link, "/") {
			at = f.root
		}
		rest = append(strings.Split(strings.Trim(child.link, "/"), "/"), rest...)
	}
	return at, nil
}

// dirAt is a directory of the tree as tree.Dir has it.
type dirAt struct {
	*files
	at *node
}

var (
	_ tree.Dir      = (*dirAt)(nil)
	_ tree.Numbered = (*dirAt)(nil)
)

// look finds a node and calls do with it, with the lock held.
func (d *dirAt) look(op, name string, follow bool, do func(n *node) error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	n, err := d.find(d.at, name, follow)
	if err == nil {
		err = do(n)
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

func (d *dirAt) ReadAttr(name string) (data []byte, err error) {
	err = d.look("read", name, true, func(n *node) error {
		switch {
		case n.children != nil:
			return unix.EISDIR
		case n.show == nil:
			return unix.EACCES
		}
		data = []byte(n.show())
		if len(data) > tree.MaxFile {
			return tree.ErrTooLong
		}
		return nil
	})
	return data, err
}

func (d *dirAt) ReadFile(name string) ([]byte, error) { return d.ReadAttr(name) }

func (d *dirAt) ReadDir(name string) (list []tree.Entry, err error) {
	err = d.look("readdir", name, true, func(n *node) error {
		if n.children == nil {
			return unix.ENOTDIR
		}
		list = make([]tree.Entry, 0, len(n.children))
		for name, child := range n.children {
			list = append(list, tree.Entry{Name: name, Mode: child.mode.Type()})
		}
		slices.SortFunc(list, func(a, b tree.Entry) int { return cmp.Compare(a.Name, b.Name) })
		return nil
	})
	return list, err
}

func (d *dirAt) Readlink(name string) (text string, err error) {
	err = d.look("readlink", name, false, func(n *node) error {
		if n.mode&fs.ModeSymlink == 0 {
			return unix.EINVAL
		}
		text = n.link
		return nil
	})
	return text, err
}

func (d *dirAt) Mode(name string) (mode fs.FileMode, err error) {
	err = d.look("stat", name, true, func(n *node) error {
		mode = n.mode
		return nil
	})
	return mode, err
}

// Inode makes a machine [tree.Numbered].
func (d *dirAt) Inode(name string) (number uint64, err error) {
	err = d.look("stat", name, true, func(n *node) error {
		if n.children == nil {
			return unix.ENOTDIR
		}
		number = n.number
		return nil
	})
	return number, err
}

func (d *dirAt) Sub(name string) (sub tree.Dir, err error) {
	err = d.look("open", name, true, func(n *node) error {
		if n.children == nil {
			return unix.ENOTDIR
		}
		sub = &dirAt{d.files, n}
		return nil
	})
	return sub, err
}

func (d *dirAt) Close() error { return nil }

// write finds an attribute and stores the text.
func (d *dirAt) write(name, text string) error {
	var store func(string) error
	err := d.look("open", name, true, func(n *node) error {
		switch {
		case n.children != nil:
			return unix.EISDIR
		case n.store == nil:
			return unix.EACCES
		}
		store = n.store
		return nil
	})
	if err != nil {
		return err
	}
	if err := store(text); err != nil {
		if _, is := errors.AsType[unix.Errno](err); !is {
			return err
		}
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cavaliergopher/cpio"
)

// tree is the contents of an initramfs: path without a leading slash -> entry.
// Directories above an entry are implied.
type tree map[string]entry

// entry is a directory, a link, or a file with its contents given or on disk.
type entry struct {
	mode cpio.FileMode // type and permissions
	link string
	data []byte
	file string
}

func (t tree) dir(name string, perm cpio.FileMode) { t[name] = entry{mode: cpio.TypeDir | perm} }
func (t tree) symlink(name, target string) {
	t[name] = entry{mode: cpio.TypeSymlink | 0o777, link: target}
}
func (t tree) text(name, contents string) {
	t[name] = entry{mode: cpio.TypeReg | 0o644, data: []byte(contents)}
}
func (t tree) copy(name, file string, perm cpio.FileMode) {
	t[name] = entry{mode: cpio.TypeReg | perm, file: file}
}

// write packs the tree, the same bytes for the same tree. It is not compressed:
// unpacking under emulation costs more than reading it.
func (t tree) write(w io.Writer) error {
	all := tree{}
	for name, e := range t {
		if name != path.Clean(name) || strings.HasPrefix(name, "/") || strings.HasPrefix(name, "..") || name == "." {
			return fmt.Errorf("initramfs: %q is not a clean relative path", name)
		}
		all[name] = e
		for up := path.Dir(name); up != "."; up = path.Dir(up) {
			if _, given := t[up]; !given {
				all.dir(up, 0o755)
			}
		}
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names) // a directory sorts before what is in it, as the kernel needs
	out := cpio.NewWriter(w)
	for i, name := range names {
		if err := all[name].write(out, name, int64(i+1)); err != nil {
			return fmt.Errorf("initramfs: %s: %w", name, err)
		}
	}
	return out.Close()
}

func (e entry) write(out *cpio.Writer, name string, inode int64) error {
	data := e.data
	switch {
	case e.link != "":
		data = []byte(e.link)
	case e.file != "":
		var err error
		if data, err = os.ReadFile(e.file); err != nil {
			return err
		}
	}
	h := &cpio.Header{Name: name, Mode: e.mode, Size: int64(len(data)), Inode: inode, Links: 1, Linkname: e.link, ModTime: time.Unix(0, 0)}
	if err := out.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(out, bytes.NewReader(data))
	return err
}

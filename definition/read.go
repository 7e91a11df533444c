// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"kindred/host/tree"
)

const (
	// Dir is where definitions are, below a root.
	Dir = "etc/mdevctl.d"
	// scriptsDir in it holds scripts (package definition/callout).
	scriptsDir = "scripts.d"
)

// Filter chooses definitions. An empty field chooses all.
type Filter struct {
	Parent string
	UUID   string
}

// File is one file that is a definition by its name.
type File struct {
	Parent string
	Name   string // of the file: a UUID in any form
	// Definition is nil when the file could not be read; warn was told why.
	Definition *Definition
}

// Read reads the definitions that the filter chooses, ordered by parent and
// UUID. What cannot be read is left out, with a warning.
func Read(d tree.Dir, only Filter, warn tree.Warn) []Definition {
	var list []Definition
	for _, f := range Files(d, only, warn) {
		if f.Definition != nil {
			list = append(list, *f.Definition)
		}
	}
	return list
}

// Files is Read for callers that need to know of files that cannot be read.
func Files(d tree.Dir, only Filter, warn tree.Warn) []File {
	parents, err := d.ReadDir(Dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			warn(Dir, err)
		}
		return nil
	}
	parents = slices.DeleteFunc(parents, func(e tree.Entry) bool {
		return e.Name == scriptsDir || only.Parent != "" && e.Name != only.Parent || !is(d, Dir+"/"+e.Name, e, fs.ModeDir)
	})
	found := make([][]File, len(parents))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, p := range parents {
		group.Go(func() error {
			found[i] = children(d, p.Name, only.UUID, warn)
			return nil
		})
	}
	_ = group.Wait()
	return slices.Concat(found...)
}

// is reports whether an entry, or what it links to, is of that type.
func is(d tree.Dir, name string, e tree.Entry, want fs.FileMode) bool {
	mode := e.Mode
	if mode&fs.ModeSymlink != 0 || mode&fs.ModeIrregular != 0 {
		m, err := d.Mode(name)
		if err != nil {
			return want == 0 // reading it will say why not
		}
		mode = m
	}
	return mode.Type() == want
}

// children reads one parent's definitions.
func children(d tree.Dir, parent, uuid string, warn tree.Warn) []File {
	dir := Dir + "/" + parent
	entries, err := d.ReadDir(dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // it was removed meanwhile
			warn(dir, err)
		}
		return nil
	}
	var files []File
	uuids := make(map[string]string) // by file name
	for _, e := range entries {
		name := dir + "/" + e.Name
		if isTemporary(e.Name) || !is(d, name, e, 0) {
			continue
		}
		id, err := ParseUUID(e.Name)
		if err != nil {
			warn(name, fmt.Errorf("it is no definition, its name is %w", ErrNoUUID))
			continue
		}
		if uuid != "" && id != uuid {
			continue
		}
		f := File{Parent: parent, Name: e.Name}
		data, err := d.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed meanwhile
		}
		var def Definition
		if err == nil {
			def, err = Parse(data)
		}
		if err != nil {
			warn(name, err)
		} else {
			def.Parent, def.UUID = parent, id
			f.Definition = &def
		}
		uuids[e.Name] = id
		files = append(files, f)
	}
	slices.SortStableFunc(files, func(a, b File) int { return cmp.Compare(uuids[a.Name], uuids[b.Name]) })
	return files
}

// isTemporary tells the files that writing leaves for a moment: a dot, a UUID
// and a number.
func isTemporary(name string) bool {
	rest, ok := strings.CutPrefix(name, ".")
	if !ok || len(rest) <= 36 || strings.Trim(rest[36:], "0123456789") != "" {
		return false
	}
	_, err := ParseUUID(rest[:36])
	return err == nil
}

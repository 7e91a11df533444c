// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// moduleName is a module's name from its file's: the kernel takes - for _.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// assembleModules makes what becomes a guest's /lib/modules/<release>: the image's
// modules we name with their dependencies, and our own under extra/, where
// distributions put out-of-tree modules. With depmod's index, modprobe works in
// the guest as on any host.
func assembleModules(ctx context.Context, k kernel, image, samples, out string) error {
	from := filepath.Join(image, "lib", "modules", k.release)
	// depmod insists on this layout; the result is flattened below.
	root := filepath.Join(out, "root")
	to := filepath.Join(root, "lib", "modules", k.release)
	files := map[string]string{}
	err := filepath.WalkDir(filepath.Join(from, "kernel"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(d.Name(), ".ko") {
			files[moduleName(p)] = p
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("listing the image's modules: %w", err)
	}
	todo, done := slices.Clone(imageModules), map[string]bool{}
	for len(todo) > 0 {
		name := moduleName(todo[0])
		todo = todo[1:]
		if done[name] {
			continue
		}
		done[name] = true
		file, ok := files[name]
		if !ok {
			return fmt.Errorf("%s has no module %s", k.imagePackage(), name)
		}
		rel, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimSuffix(rel, ".xz"))
		if err := expand(ctx, file, target); err != nil {
			return err
		}
		needs, err := dependencies(target)
		if err != nil {
			return err
		}
		todo = append(todo, needs...)
	}
	built, err := filepath.Glob(filepath.Join(samples, "*.ko"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(to, "extra"), 0o755); err != nil {
		return err
	}
	for _, file := range built {
		if err := copyFile(filepath.Join(to, "extra", filepath.Base(file)), file, 0o644); err != nil {
			return err
		}
	}
	for _, list := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		if err := copyFile(filepath.Join(to, list), filepath.Join(from, list), 0o644); err != nil {
			return err
		}
	}
	if _, err := output(ctx, "depmod", "-b", root, k.release); err != nil {
		return err
	}
	if err := os.Rename(to, filepath.Join(out, "modules")); err != nil {
		return err
	}
	return os.RemoveAll(root)
}

// expand copies a module, uncompressed: busybox cannot load a .xz.
func expand(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if !strings.HasSuffix(from, ".xz") {
		return copyFile(to, from, 0o644)
	}
	data, err := output(ctx, "xz", "-dc", from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, []byte(data), 0o644)
}

// dependencies reads what a module says of itself.
func dependencies(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s has no .modinfo section: not a kernel module", file)
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("reading .modinfo of %s: %w", file, err)
	}
	for item := range bytes.SplitSeq(data, []byte{0}) {
		if list, ok := bytes.CutPrefix(item, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ","), nil
		}
	}
	return nil, nil
}

// modulesDep is depmod's index: module name -> its file, and the files it needs,
// nearest last. Paths are relative to the modules directory.
type modulesDep map[string]moduleFiles

type moduleFiles struct {
	file  string
	needs []string
}

func parseModulesDep(text string) (modulesDep, error) {
	dep := modulesDep{}
	for line := range strings.Lines(text) {
		file, needs, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			return nil, fmt.Errorf("modules.dep: no colon in %q", line)
		}
		dep[moduleName(file)] = moduleFiles{file, strings.Fields(needs)}
	}
	return dep, nil
}

// order lists files to load for the modules asked for: each once, and after
// everything it needs.
func (dep modulesDep) order(names []string) ([]string, error) {
	var files []string
	for _, name := range names {
		m, ok := dep[moduleName(name)]
		if !ok {
			return nil, fmt.Errorf("no module %q in the lab (there are %s)", name, strings.Join(dep.names(), ", "))
		}
		// depmod writes the needs so that the last must be loaded first.
		for _, need := range slices.Backward(m.needs) {
			if !slices.Contains(files, need) {
				files = append(files, need)
			}
		}
		if !slices.Contains(files, m.file) {
			files = append(files, m.file)
		}
	}
	return files, nil
}

func (dep modulesDep) names() []string {
	names := make([]string, 0, len(dep))
	for name := range dep {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// SPDX-License-Identifier: Apache-2.0

package fleets

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"kindred/fleet"
	"kindred/inventory"
)

// Store writes the fleet to a directory: each static part once, and hosts as
// lines of JSON, in as many files as given.
func (f *Fleet) Store(dir string, files int) error {
	for i, static := range f.Statics {
		data, err := json.Marshal(static)
		if err != nil {
			return fmt.Errorf("store a static part: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, f.Digests[i]+".json"), data, 0o644); err != nil {
			return err
		}
	}
	per := (f.Size.Hosts + files - 1) / files
	for n := range files {
		out, err := os.Create(filepath.Join(dir, fmt.Sprintf("hosts-%d.jsonl", n)))
		if err != nil {
			return err
		}
		w := bufio.NewWriterSize(out, 1<<20)
		enc := json.NewEncoder(w)
		for i := n * per; i < min((n+1)*per, f.Size.Hosts); i++ {
			if err := enc.Encode(f.Host(i)); err != nil {
				return fmt.Errorf("store host %d: %w", i, err)
			}
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("store hosts: %w", err)
		}
		if err := out.Close(); err != nil {
			return fmt.Errorf("store hosts: %w", err)
		}
	}
	return nil
}

// Load reads a stored fleet into an index, one file of hosts on each core.
func Load(x *fleet.Index, dir string) error {
	statics, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return err
	}
	for _, name := range statics {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		static := new(inventory.Inventory)
		if err := json.Unmarshal(data, static); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, err := x.Static(static); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "hosts-*.jsonl"))
	if err != nil {
		return err
	}
	load := x.Loading()
	errs := make([]error, len(files))
	var all sync.WaitGroup
	for i, name := range files {
		all.Go(func() { errs[i] = loadHosts(load, name) })
	}
	all.Wait()
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return errs[i]
	}
	load.Done()
	return nil
}

func loadHosts(load *fleet.Loading, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	dec := json.NewDecoder(bufio.NewReaderSize(file, 1<<20))
	for {
		own := new(inventory.Own)
		if err := dec.Decode(own); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := load.Add(own); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"kindred/compat"
	"kindred/prove"
)

// proofFlags say which proofs count.
type proofFlags struct {
	from []string
	keys string
}

func (f *proofFlags) add(fs *pflag.FlagSet) {
	store := prove.DefaultStore()
	fs.StringSliceVar(&f.from, "proofs", []string{store.Dir}, "proof `FILES`, or directories of them")
	fs.StringVar(&f.keys, "proof-keys", store.Site, "keys that are trusted, `DIR`/*.pub")
}

// load reads the proofs that count. Files that no trusted key signed are
// warnings: the answer is the one without them.
func (f *proofFlags) load(cmd *cobra.Command) ([]compat.Proof, error) {
	store := prove.DefaultStore()
	byDefault := slices.Equal(f.from, []string{store.Dir})
	store.Site = f.keys
	keys, err := store.Trusted()
	if err != nil {
		return nil, &exitError{exitInput, err}
	}
	var entries []prove.Entry
	for _, name := range f.from {
		info, err := os.Stat(name)
		switch {
		case byDefault && errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, &exitError{exitInput, fmt.Errorf("proofs: %w", err)}
		case !info.IsDir():
			entries = append(entries, prove.ReadFile(name, keys))
			continue
		}
		within, err := filepath.Glob(filepath.Join(name, "*.json"))
		if err != nil {
			return nil, &exitError{exitInput, fmt.Errorf("proofs: %w", err)}
		}
		for _, file := range within {
			entries = append(entries, prove.ReadFile(file, keys))
		}
	}
	for _, e := range entries {
		switch {
		case errors.Is(e.Err, prove.ErrNotTrusted):
			fmt.Fprintf(cmd.ErrOrStderr(), "kindred: warning: %s; its proofs do not count. Put the signer's public key into %s\n", clean(e.Err.Error()), clean(f.keys))
		case e.Err != nil && !byDefault:
			return nil, &exitError{exitInput, e.Err}
		case e.Err != nil:
			fmt.Fprintf(cmd.ErrOrStderr(), "kindred: warning: %s; its proofs do not count\n", clean(e.Err.Error()))
		}
	}
	return prove.Counting(entries), nil
}

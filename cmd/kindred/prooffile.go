// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"kindred/client"
	"kindred/compat/proofs"
	"kindred/prove"
)

func newProofExport() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "export [KEY...]",
		Short: "Put proofs that count here into one file, signed by this host",
		Example: `  kindred proof export > proofs.json
  kindred proof export 3f2a91bc --out proofs.json`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return runProofExport(cmd, args, out) },
	}
	cmd.Flags().StringVar(&out, "out", "", "write to `FILE` (standard output)")
	return cmd
}

func runProofExport(cmd *cobra.Command, args []string, out string) error {
	store := prove.DefaultStore()
	f := new(proofs.File)
	if len(args) == 0 {
		entries, err := store.Entries()
		if err != nil {
			return &exitError{exitInput, err}
		}
		f.Proofs = prove.Counting(entries)
	}
	for _, ref := range args {
		l, err := findProof(cmd, ref)
		if err != nil {
			return err
		}
		if !l.Counts {
			return fmt.Errorf("proof %s: it does not count here: %s", ref, l.Why)
		}
		f.Proofs = append(f.Proofs, *l.Proof)
	}
	if len(f.Proofs) == 0 {
		return &exitError{exitNoSuch, errors.New("no proof that counts is kept here: there is nothing to export")}
	}
	key, err := store.Key()
	if err != nil {
		return err
	}
	if err := f.Sign(key); err != nil {
		return err
	}
	data, err := f.Encode()
	if err != nil {
		return err
	}
	if out == "" {
		cmd.Print(harmless(string(data)))
		return nil
	}
	if err := writeWhole(out, data); err != nil {
		return err
	}
	cmd.Printf("%s in %s, signed by %s\n", plural(len(f.Proofs), "proof"), clean(out), clean(key.Public().Name))
	return nil
}

func newProofImport() *cobra.Command {
	where := new(whereFlags)
	cmd := &cobra.Command{
		Use:   "import FILE...",
		Short: "Keep proofs that a trusted key signed",
		Long: `Keep files of proofs that a trusted key signed: on the server where one is known,
for the whole fleet, else on this host. Put the public keys that are trusted into
/etc/kindred/proof-keys.d there, one file of the ending .pub each.`,
		Example: "  kindred proof import proofs.json",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return runProofImport(cmd, where, args) },
	}
	where.add(cmd.Flags())
	return cmd
}

// sendProofs has the server keep files of proofs, one after the other.
func sendProofs(cmd *cobra.Command, c *client.Client, args []string) error {
	var files []*proofs.File
	for _, name := range args {
		f, err := readProofs(name)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	for i, f := range files {
		if err := c.AddProofs(cmd.Context(), f); err != nil {
			return refusal(fmt.Errorf("import %s: %w", args[i], err))
		}
		cmd.Printf("%s of %s kept by the server\n", plural(len(f.Proofs), "proof"), clean(args[i]))
	}
	return nil
}

func runProofImport(cmd *cobra.Command, where *whereFlags, args []string) error {
	c, err := where.find(cmd)
	if err != nil {
		return err
	}
	if c != nil {
		defer c.Close()
		return sendProofs(cmd, c, args)
	}
	store := prove.DefaultStore()
	var files []*proofs.File
	for _, name := range args { // all or none
		f, err := readProofs(name)
		if err != nil {
			return err
		}
		keys, err := store.Trusted()
		if err != nil {
			return &exitError{exitInput, err}
		}
		if _, ok := f.Trusted(keys); !ok {
			return &exitError{exitInput, fmt.Errorf("proofs %s: %w: put the signer's public key into %s", name, prove.ErrNotTrusted, store.Site)}
		}
		files = append(files, f)
	}
	for i, f := range files {
		kept, err := store.Import(f)
		if err != nil {
			return fmt.Errorf("import %s: %w", args[i], err)
		}
		cmd.Printf("%s of %s kept in %s\n", plural(len(f.Proofs), "proof"), clean(args[i]), clean(kept))
	}
	return nil
}

func readProofs(name string) (*proofs.File, error) {
	data, err := readBounded(name, proofs.MaxSize)
	if err != nil {
		return nil, &exitError{exitInput, fmt.Errorf("proofs: %w", err)}
	}
	f, err := proofs.Decode(data)
	if err != nil {
		return nil, &exitError{exitInput, fmt.Errorf("proofs %s: %w", name, err)}
	}
	return f, nil
}

func newProofSign() *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use:   "sign FILE --key FILE",
		Short: "Vouch for a file of proofs with a key",
		Long: `Add a key's signature to a file of proofs. Every host that trusts the key takes
the proofs into account then, wherever they were made.`,
		Example: `  kindred proof key create site.key --name site
  kindred proof sign proofs.json --key site.key`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runProofSign(cmd, args[0], keyFile) },
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "the private key's `FILE`")
	return cmd
}

func runProofSign(cmd *cobra.Command, name, keyFile string) error {
	if keyFile == "" {
		return usage(cmd, errors.New("--key is needed"))
	}
	f, err := readProofs(name)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(keyFile)
	if err != nil {
		return &exitError{exitInput, fmt.Errorf("key: %w", err)}
	}
	key, err := proofs.ParsePrivateKey(data)
	if err != nil {
		return &exitError{exitInput, fmt.Errorf("key %s: %w", keyFile, err)}
	}
	if err := f.Sign(key); err != nil {
		return err
	}
	if data, err = f.Encode(); err != nil {
		return err
	}
	if err := writeWhole(name, data); err != nil {
		return err
	}
	cmd.Printf("%s in %s signed by %s\n", plural(len(f.Proofs), "proof"), clean(name), clean(key.Public().Name))
	return nil
}

// writeWhole writes the file whole or not at all.
func writeWhole(name string, data []byte) error {
	err := replaceable(name)
	if err == nil {
		err = renameio.WriteFile(name, data, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// replaceable refuses what is no regular file: a new file takes the name, and
// root can replace /dev/null.
func replaceable(name string) error {
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is there already and no regular file; a file is written whole and then takes the name")
	}
	return nil
}

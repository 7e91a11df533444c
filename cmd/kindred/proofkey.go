// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"kindred/prove"
)

func newProofKey() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make a key, or show this host's own",
		Args:  cobra.ArbitraryArgs,
		RunE:  needsSubcommand,
	}
	var name string
	create := &cobra.Command{
		Use:   "create FILE.key --name NAME",
		Short: "Make a key: FILE.key to sign with, FILE.pub for others to trust",
		Example: `  kindred proof key create site.key --name site
  cp site.pub /etc/kindred/proof-keys.d/`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" || !strings.HasSuffix(args[0], ".key") {
				return usage(cmd, errors.New("--name is needed, and a file of the ending .key"))
			}
			// Others may trust what is there already, and its private part be elsewhere.
			public := strings.TrimSuffix(args[0], ".key") + ".pub"
			if _, err := os.Lstat(public); err == nil {
				return fmt.Errorf("%s: %w: a key is not replaced; remove it first if nobody needs it", public, fs.ErrExist)
			}
			key, err := prove.WriteKey(args[0], name)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%w: a key is not replaced; remove it first if nobody needs it", err)
			}
			if err != nil {
				return err
			}
			cmd.Println(key.Public())
			return nil
		},
	}
	create.Flags().StringVar(&name, "name", "", "the signer's `NAME`, one word")
	show := &cobra.Command{
		Use:     "show",
		Short:   "Show this host's public key, for others to trust",
		Example: "  kindred proof key show > /tmp/host-a.pub",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := prove.DefaultStore().Key()
			if err != nil {
				return err
			}
			cmd.Println(key.Public())
			return nil
		},
	}
	cmd.AddCommand(create, show)
	return cmd
}

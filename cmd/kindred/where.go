// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"kindred/client"
)

// whereFlags are for commands that are about the fleet where a server is known,
// and else about this host.
type whereFlags struct {
	server serverFlags
	local  bool
}

func (f *whereFlags) add(fs *pflag.FlagSet) {
	f.server.add(fs)
	fs.BoolVar(&f.local, "local", false, "this host itself, whatever server is known")
}

// find is the server to be asked, nil for this host.
func (f *whereFlags) find(cmd *cobra.Command) (*client.Client, error) {
	if !f.local {
		return f.server.find()
	}
	if f.server.address != "" {
		return nil, usage(cmd, errors.New("--server and --local exclude each other"))
	}
	return nil, nil
}

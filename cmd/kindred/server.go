// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"kindred/api"
	"kindred/client"
	"kindred/internal/strictyaml"
)

// serverFlags say which server is asked.
type serverFlags struct{ address string }

// serverVariable names servers for all commands.
const serverVariable = "KINDRED_SERVER"

// siteClient is the machine's file that names servers; a user's own comes first.
const siteClient = "/etc/kindred/client.yaml"

func (f *serverFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.address, "server", "", "ask the server at `ADDRESS`: https://fleet:7443 ($"+serverVariable+")")
}

// clientConfig is the file that names servers.
type clientConfig struct {
	Servers []string `yaml:"servers"`
	// Files: this user's certificate with its key, and the CA of the servers'.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	CA          string `yaml:"ca"`
}

// maxClientConfig bounds that file.
const maxClientConfig = 64 << 10

// readClientConfig reads the first file that is there.
func readClientConfig() (*clientConfig, error) {
	files := []string{siteClient}
	if dir, err := os.UserConfigDir(); err == nil {
		files = []string{filepath.Join(dir, "kindred", "client.yaml"), siteClient}
	}
	for _, name := range files {
		data, err := readBounded(name, maxClientConfig)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // a home that is no directory, as /dev/null
			continue
		}
		if err != nil {
			return nil, &exitError{exitInput, err}
		}
		c := new(clientConfig)
		if err := strictyaml.Decode(data, c); err != nil {
			return nil, &exitError{exitInput, fmt.Errorf("%s: %w", name, err)}
		}
		return c, nil
	}
	return new(clientConfig), nil
}

// find makes a client of the servers that the flag, the environment or a file
// names, nil if none does.
func (f *serverFlags) find() (*client.Client, error) {
	config, err := readClientConfig()
	if err != nil {
		return nil, err
	}
	addresses := config.Servers
	for _, text := range []string{os.Getenv(serverVariable), f.address} {
		if text != "" {
			addresses = strings.Split(text, ",")
		}
	}
	if len(addresses) == 0 {
		return nil, nil
	}
	t, err := config.tls()
	if err != nil {
		return nil, &exitError{exitInput, err}
	}
	c, err := client.New(addresses, t)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return c, nil
}

func (c *clientConfig) tls() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS13}
	if c.CA != "" {
		data, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, err
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s has no certificate in it", c.CA)
		}
	}
	if c.Certificate != "" || c.Key != "" {
		pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", c.Certificate, err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// need is find for commands that ask servers alone.
func (f *serverFlags) need(cmd *cobra.Command) (*client.Client, error) {
	c, err := f.find()
	if err == nil && c == nil {
		err = usage(cmd, fmt.Errorf("no server is known: set %s, or give --server", serverVariable))
	}
	return c, err
}

// instead is the server to be asked where no inventory was given. Flags that
// mean something for files alone are refused then.
func (f *serverFlags) instead(cmd *cobra.Command, inventories []string, files ...string) (*client.Client, error) {
	if len(inventories) > 0 {
		if f.address != "" {
			return nil, usage(cmd, errors.New("--server and --inventory exclude each other"))
		}
		return nil, nil
	}
	c, err := f.find()
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, usage(cmd, fmt.Errorf("--inventory is needed, or a server: set %s, or give --server", serverVariable))
	}
	for _, name := range append(files, "catalogs", "proofs", "proof-keys") {
		if cmd.Flags().Changed(name) {
			return nil, usage(cmd, fmt.Errorf("--%s goes with --inventory: the server has its own", name))
		}
	}
	return c, nil
}

// refusal gives what a server refused its exit code.
func refusal(err error) error {
	p, ok := errors.AsType[*api.Problem](err)
	if !ok {
		return err
	}
	code := exitNo
	switch p.Code {
	case api.BadRequest, api.TooBig:
		code = exitUsage
	case api.NotFound, api.Ambiguous:
		code = exitNoSuch
	case api.NoRoom:
		code = exitFull
	case api.NotSettled:
		code = exitUnknown
	case api.Unavailable, api.TooBusy, api.TooLong, api.Internal, api.Unauthorized, api.Forbidden:
		code = exitFailed
	}
	return &exitError{code, fmt.Errorf("%s: %w", p.Code, p)}
}

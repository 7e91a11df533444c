// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/goccy/go-yaml/ast"

	"kindred/internal/strictyaml"
)

// ConfigFile is the hook's own file. Nothing has to be in it.
const ConfigFile = "/etc/kindred/hook.yaml"

// Unreachable is what becomes of a migration while no server can be asked.
type Unreachable string

const (
	Refuse Unreachable = "refuse" // it does not begin
	Pass   Unreachable = "pass"   // the domain is let through as it is: its devices' addresses have to be right already
)

// Config is what the host's operator says.
type Config struct {
	// Deadline is how long libvirt waits at most.
	Deadline    time.Duration
	Unreachable Unreachable
	// Servers are those of the fleet; empty: the agent's.
	Servers []string
}

// The longest deadline: both libvirts hold the domain meanwhile.
const (
	defaultDeadline = time.Minute
	longestDeadline = 10 * time.Minute
	shortestTime    = time.Second
)

// span is a time span as people write it.
type span time.Duration

func (s *span) UnmarshalYAML(node ast.Node) error {
	text, ok := node.(*ast.StringNode)
	if !ok {
		return strictyaml.At(node, "it is no time span such as 60s")
	}
	d, err := time.ParseDuration(text.Value)
	if err != nil || d < shortestTime || d > longestDeadline {
		return strictyaml.At(node, "%q is no time span from %s to %s", text.Value, shortestTime, longestDeadline)
	}
	*s = span(d)
	return nil
}

// ReadConfig reads the hook's file, which need not be there.
func ReadConfig(name string) (*Config, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return ParseConfig(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("the hook's configuration: %w", err)
	}
	c, err := ParseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// ParseConfig reads the hook's configuration.
func ParseConfig(data []byte) (*Config, error) {
	file := struct {
		Deadline    span        `yaml:"deadline"`
		Unreachable Unreachable `yaml:"unreachable"`
		Servers     []string    `yaml:"servers"`
	}{Deadline: span(defaultDeadline), Unreachable: Refuse}
	if len(data) > 0 {
		if err := strictyaml.Decode(data, &file); err != nil {
			return nil, err
		}
	}
	if file.Unreachable != Refuse && file.Unreachable != Pass {
		return nil, fmt.Errorf("unreachable: %q is neither %s nor %s", file.Unreachable, Refuse, Pass)
	}
	return &Config{Deadline: time.Duration(file.Deadline), Unreachable: file.Unreachable, Servers: file.Servers}, nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"kindred/fleet"
	"kindred/internal/strictyaml"
)

// ownersSchema names the shape of a file of owners.
const ownersSchema = "kindred.owners/v1"

// ownersFile says which devices belong together: an inventory does not.
type ownersFile struct {
	Schema string      `yaml:"schema"`
	Owners []ownerText `yaml:"owners"`
}

type ownerText struct {
	Name    string   `yaml:"name"`
	Devices []string `yaml:"devices"` // as targets takes them
	Apart   []string `yaml:"apart"`   // labels; two owners with one in common never share a host
	Not     []string `yaml:"not"`     // hosts that it is not put on
}

// readOwners reads a file of owners.
func readOwners(name string) ([]fleet.Owner, error) {
	data, err := readBounded(name, maxInventory)
	if err != nil {
		return nil, &exitError{exitInput, fmt.Errorf("owners: %w", err)}
	}
	var file ownersFile
	if err := strictyaml.Decode(data, &file); err != nil {
		return nil, &exitError{exitInput, fmt.Errorf("owners %s: %w", name, err)}
	}
	if file.Schema != ownersSchema {
		return nil, &exitError{exitInput, fmt.Errorf("owners %s: schema %q is not one this program reads (it reads %q)", name, file.Schema, ownersSchema)}
	}
	var list []fleet.Owner
	for _, o := range file.Owners {
		list = append(list, fleet.Owner(o))
	}
	return list, nil
}

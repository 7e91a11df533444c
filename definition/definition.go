// SPDX-License-Identifier: Apache-2.0

// Package definition keeps the devices that should exist, in the files and the
// format that mdevctl uses: /etc/mdevctl.d/<parent>/<uuid>, a JSON object with
// the type, whether the device is started with its parent, and its attributes
// in the order in which they are written to the kernel.
//
// It promises to people who use both tools:
//
//   - What it writes is, byte for byte, what mdevctl writes of the same device.
//   - What it does not know is kept: other keys of a file stay, in their order,
//     behind the known ones.
//   - A file that cannot be read is a warning with its path; the others are
//     read. The same UUID may be defined under several parents.
//   - A file is replaced whole or not at all, also when the machine stops at
//     that moment. Writers of this package wait for one another; mdevctl takes
//     no lock, so of two writers where one is mdevctl, the later one wins.
//   - Nothing outside the root is read or written, whatever a link or a name
//     says.
//
// Package definition/callout runs mdevctl's scripts around a change, package
// definition/mdevctl speaks its command line.
package definition

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Definition is a device that should exist.
type Definition struct {
	Parent     string
	UUID       string // lower case, with hyphens
	Type       string // the full name: the directory in mdev_supported_types
	Auto       bool   // start it when its parent appears
	Attributes []Attribute

	others []member // keys that are not mdevctl's, in their order
}

// Attribute is written to the device's file of that name after it was created.
type Attribute struct{ Name, Value string }

// Start is the word for Auto in mdevctl's files and listings.
func (d *Definition) Start() string {
	if d.Auto {
		return "auto"
	}
	return "manual"
}

// clone shares nothing that a change could touch.
func (d *Definition) clone() Definition {
	c := *d
	c.Attributes, c.others = slices.Clone(d.Attributes), slices.Clone(d.others)
	return c
}

// Replace takes type, start and attributes of other, and adds its unknown keys
// to those that d has.
func (d *Definition) Replace(other *Definition) {
	d.Type, d.Auto, d.Attributes = other.Type, other.Auto, slices.Clone(other.Attributes)
	d.others = slices.Clone(d.others)
	for _, m := range other.others {
		d.others = put(d.others, m)
	}
}

// ErrNoUUID is returned for text that is no UUID.
var ErrNoUUID = errors.New("not a UUID")

// ParseUUID reads a UUID in any of the forms that mdevctl takes (with hyphens,
// without, in braces, as a URN, in any case) and returns the kernel's form:
// lower case with hyphens.
func ParseUUID(text string) (string, error) {
	plain := text
	switch {
	case strings.HasPrefix(plain, "urn:uuid:"):
		plain = plain[len("urn:uuid:"):]
		if len(plain) != 36 {
			return "", fmt.Errorf("%q: %w", text, ErrNoUUID)
		}
	case len(plain) == 38 && plain[0] == '{' && plain[37] == '}':
		plain = plain[1:37]
	}
	if len(plain) == 36 {
		for _, i := range [...]int{8, 13, 18, 23} {
			if plain[i] != '-' {
				return "", fmt.Errorf("%q: %w", text, ErrNoUUID)
			}
		}
		plain = strings.ReplaceAll(plain, "-", "")
	}
	var raw [16]byte
	if len(plain) != 32 {
		return "", fmt.Errorf("%q: %w", text, ErrNoUUID)
	}
	if _, err := hex.Decode(raw[:], []byte(plain)); err != nil {
		return "", fmt.Errorf("%q: %w", text, ErrNoUUID)
	}
	return formatUUID(raw), nil
}

func formatUUID(raw [16]byte) string {
	var buf [36]byte
	hex.Encode(buf[0:8], raw[0:4])
	hex.Encode(buf[9:13], raw[4:6])
	hex.Encode(buf[14:18], raw[6:8])
	hex.Encode(buf[19:23], raw[8:10])
	hex.Encode(buf[24:36], raw[10:16])
	buf[8], buf[13], buf[18], buf[23] = '-', '-', '-', '-'
	return string(buf[:])
}

// check refuses what has no file of its own.
func (d *Definition) check() error {
	if err := checkParent(d.Parent); err != nil {
		return err
	}
	uuid, err := ParseUUID(d.UUID)
	if err != nil {
		return err
	}
	if uuid != d.UUID {
		return fmt.Errorf("%q: a definition's UUID is in lower case, with hyphens", d.UUID)
	}
	if d.Type == "" {
		return fmt.Errorf("device %s has no type", d.UUID)
	}
	return nil
}

// checkParent refuses names that are no parent's directory.
func checkParent(parent string) error {
	switch {
	case parent == "":
		return errors.New("no parent is named")
	case parent == "." || parent == ".." || parent == scriptsDir || strings.ContainsAny(parent, "/\x00"):
		return fmt.Errorf("%q cannot be a parent's name", parent)
	}
	return nil
}

// Insert puts an attribute before the one with that index.
func (d *Definition) Insert(at int, a Attribute) error {
	if at < 0 || at > len(d.Attributes) {
		return d.noIndex(at)
	}
	d.Attributes = slices.Insert(slices.Clone(d.Attributes), at, a)
	return nil
}

// Delete removes the attribute with that index.
func (d *Definition) Delete(at int) error {
	if at < 0 || at >= len(d.Attributes) {
		return d.noIndex(at)
	}
	d.Attributes = slices.Delete(slices.Clone(d.Attributes), at, at+1)
	return nil
}

func (d *Definition) noIndex(at int) error {
	var names []string
	for i, a := range d.Attributes {
		names = append(names, fmt.Sprintf("%d %s", i, a.Name))
	}
	if names == nil {
		return fmt.Errorf("device %s has no attribute %d: it has none", d.UUID, at)
	}
	return fmt.Errorf("device %s has no attribute %d: it has %s", d.UUID, at, strings.Join(names, ", "))
}

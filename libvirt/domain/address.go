// SPDX-License-Identifier: Apache-2.0

package domain

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// uuid reads a UUID as libvirt does (virUUIDParse: hyphens are optional), and
// writes it as the kernel does.
func uuid(text string) (string, error) {
	digits := strings.ToLower(strings.ReplaceAll(text, "-", ""))
	if len(digits) != 32 || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q is no UUID", text)
	}
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-"), nil
}

// part is one attribute of a PCI address: its bounds by the bus, and how libvirt
// writes it.
type part struct {
	name   string
	most   uint64
	format string
}

var parts = [4]part{{"domain", 0xffffffff, "0x%04x"}, {"bus", 0xff, "0x%02x"}, {"slot", 0x1f, "0x%02x"}, {"function", 7, "0x%x"}}

// numbers reads an address's attributes. libvirt takes any base that strtoul
// knows by its prefix, and 0 for what is not there.
func numbers(e xml.StartElement) (n [4]uint64, err error) {
	for i, p := range parts {
		text := attr(e, p.name)
		if text == "" {
			continue
		}
		low := strings.ToLower(text)
		hex := strings.HasPrefix(low, "0x")
		// What Go's numbers have and strtoul's have not: 0b1, 0o7, 1_0.
		if n[i], err = strconv.ParseUint(low, 0, 64); err != nil || n[i] > p.most || strings.Contains(low, "_") || !hex && strings.ContainsAny(low, "bo") {
			return n, fmt.Errorf("%s=%q is no part of a PCI address", p.name, text)
		}
	}
	return n, nil
}

// function reads a PCI address as the kernel writes it.
func function(e xml.StartElement) (string, error) {
	n, err := numbers(e)
	if err != nil {
		return "", err
	}
	if attr(e, "bus") == "" && attr(e, "slot") == "" {
		return "", errors.New("a PCI address has no bus and no slot")
	}
	return fmt.Sprintf("%04x:%02x:%02x.%x", n[0], n[1], n[2], n[3]), nil
}

// split takes a function's name apart.
func split(name string) (n [4]uint64, err error) {
	digits := strings.FieldsFunc(name, func(r rune) bool { return r == ':' || r == '.' })
	if len(digits) != 4 {
		return n, fmt.Errorf("%q is no PCI address such as 0000:41:02.1", name)
	}
	for i, p := range parts {
		if n[i], err = strconv.ParseUint(digits[i], 16, 64); err != nil || n[i] > p.most {
			return n, fmt.Errorf("%q is no PCI address such as 0000:41:02.1", name)
		}
	}
	return n, nil
}

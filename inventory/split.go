// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Own is what one host does not share with others of its make: its name, its
// devices, the kernel's counters. With the static part, which hosts of one make
// have in common and which is kept once, it is the whole inventory again.
type Own struct {
	Static  string    `json:"static"` // digest of the static part, see Digest
	Host    string    `json:"host"`
	Origin  Origin    `json:"origin"`
	Taken   time.Time `json:"taken"`
	Partial bool      `json:"devices_unread,omitempty"`
	// Available and Creatable are for each type of each parent, in the order of
	// the static part: the count, -1 where there is none, and y, n or ?.
	Available []int       `json:"available"`
	Creatable string      `json:"creatable"`
	ListedAt  []time.Time `json:"listed_at,omitempty"` // as Available; left out when no list is from another time
	Devices   []Device    `json:"devices"`
	Warnings  []Warning   `json:"warnings,omitempty"`
}

// Split takes an inventory apart. Its lists are shared with both parts, which
// must not be changed.
func Split(inv *Inventory) (static *Inventory, own *Own) {
	own = &Own{
		Host: inv.Host.Name, Origin: inv.Origin, Taken: inv.Taken, Partial: inv.DevicesUnread,
		Devices: inv.Devices, Warnings: inv.Warnings,
	}
	s := *inv
	s.Host.Name, s.Taken, s.DevicesUnread, s.Devices, s.Warnings = "", time.Time{}, false, nil, nil
	if s.Origin != FromSimulator { // what does not exist has no make in common with what does
		s.Origin = ""
	}
	s.Parents = make([]Parent, len(inv.Parents))
	var creatable strings.Builder
	listed := false
	for i, p := range inv.Parents {
		types := make([]Type, len(p.Types))
		for j, t := range p.Types {
			count := -1
			if t.Available != nil {
				count = *t.Available
			}
			own.Available = append(own.Available, count)
			creatable.WriteByte(answerByte(t.Creatable))
			var at time.Time
			if t.ListedAt != nil {
				at, listed = *t.ListedAt, true
			}
			own.ListedAt = append(own.ListedAt, at)
			t.Available, t.Creatable, t.ListedAt = nil, Unknown, nil
			types[j] = t
		}
		p.Types = types
		s.Parents[i] = p
	}
	own.Creatable = creatable.String()
	if !listed {
		own.ListedAt = nil
	}
	return &s, own
}

// Digest names a static part by its content.
func (inv *Inventory) Digest() (string, error) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(inv); err != nil {
		return "", fmt.Errorf("digest of the inventory of %s: %w", inv.Host.Name, err)
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:16]), nil
}

// Fits checks that the own part belongs to a static part of that shape.
func (o *Own) Fits(static *Inventory) error {
	n := 0
	for i := range static.Parents {
		n += len(static.Parents[i].Types)
	}
	switch {
	case o.Host == "":
		return &Error{Where: "host", Problem: "empty: every host has a name"}
	case len(o.Available) != n || len(o.Creatable) != n || o.ListedAt != nil && len(o.ListedAt) != n:
		return &Error{Where: "host " + o.Host, Problem: fmt.Sprintf("counters of %d types, where its static part has %d", len(o.Available), n)}
	}
	for i := range o.Devices {
		if static.Parent(o.Devices[i].Parent) == nil {
			return &Error{Where: "device " + o.Devices[i].ID, Problem: fmt.Sprintf("its parent %q is not in the static part", o.Devices[i].Parent)}
		}
	}
	return nil
}

// Validate checks that the own part makes a valid inventory together with a
// static part that is part of one: it says what Validate says of what Join makes
// of them, without making it. The error is an [*Error].
func (o *Own) Validate(static *Inventory) error {
	if err := first(o.Fits(static), o.Origin.validate()); err != nil {
		return err
	}
	return validateDevices(o.Devices, func(name string) bool { return static.Parent(name) != nil })
}

// Join puts an inventory together again from its parts, which have to fit.
func Join(static *Inventory, own *Own) *Inventory {
	inv := *static
	inv.Host.Name, inv.Origin, inv.Taken = own.Host, own.Origin, own.Taken
	inv.DevicesUnread, inv.Devices, inv.Warnings = own.Partial, own.Devices, own.Warnings
	inv.Parents = make([]Parent, len(static.Parents))
	n := 0
	for i, p := range static.Parents {
		types := make([]Type, len(p.Types))
		for j, t := range p.Types {
			if count := own.Available[n]; count >= 0 {
				t.Available = &count
			}
			t.Creatable = byteAnswer(own.Creatable[n])
			if own.ListedAt != nil && !own.ListedAt[n].IsZero() {
				t.ListedAt = &own.ListedAt[n]
			}
			types[j] = t
			n++
		}
		p.Types = types
		inv.Parents[i] = p
	}
	return &inv
}

func answerByte(a Answer) byte {
	switch a {
	case Yes:
		return 'y'
	case No:
		return 'n'
	}
	return '?'
}

func byteAnswer(b byte) Answer {
	switch b {
	case 'y':
		return Yes
	case 'n':
		return No
	}
	return Unknown
}

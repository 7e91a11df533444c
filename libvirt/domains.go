// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	rpc "github.com/digitalocean/go-libvirt"

	"kindred/libvirt/domain"
	"kindred/vm"
)

// Domain is a virtual machine.
type Domain struct {
	Name  string
	UUID  string
	State vm.State

	rpc rpc.Domain
}

// Domains lists every domain, by name.
func (c *Conn) Domains(ctx context.Context) ([]Domain, error) {
	list, err := call(ctx, c, "list domains", func() ([]rpc.Domain, error) {
		list, _, err := c.rpc.ConnectListAllDomains(1, rpc.ConnectListDomainsActive|rpc.ConnectListDomainsInactive)
		return list, err
	})
	if err != nil {
		return nil, err
	}
	domains := make([]Domain, 0, len(list))
	for _, d := range list {
		one, err := c.with(ctx, d)
		if err != nil {
			return nil, err
		}
		domains = append(domains, *one)
	}
	slices.SortFunc(domains, func(a, b Domain) int { return strings.Compare(a.Name, b.Name) })
	return domains, nil
}

// Domain finds one by its name or UUID.
func (c *Conn) Domain(ctx context.Context, name string) (*Domain, error) {
	d, err := call(ctx, c, "domain "+name, func() (rpc.Domain, error) {
		if id, ok := parseUUID(name); ok {
			return c.rpc.DomainLookupByUUID(id)
		}
		return c.rpc.DomainLookupByName(name)
	})
	if err != nil {
		return nil, err
	}
	return c.with(ctx, d)
}

// with adds a domain's state.
func (c *Conn) with(ctx context.Context, d rpc.Domain) (*Domain, error) {
	state, err := call(ctx, c, "domain "+d.Name, func() (vm.State, error) {
		state, reason, err := c.rpc.DomainGetState(d, 0)
		return stateOf(rpc.DomainState(state), reason), err
	})
	if err != nil {
		return nil, err
	}
	return &Domain{Name: d.Name, UUID: formatUUID(d.UUID), State: state, rpc: d}, nil
}

// stateOf is what libvirt's two numbers say (virDomainState and its reasons). One
// that is being started, and one that waits for its state, count as paused there.
func stateOf(state rpc.DomainState, reason int32) vm.State {
	switch state {
	case rpc.DomainRunning, rpc.DomainBlocked:
		return vm.Running
	case rpc.DomainPaused:
		switch rpc.DomainPausedReason(reason) {
		case rpc.DomainPausedMigration, rpc.DomainPausedStartingUp, rpc.DomainPausedUnknown, rpc.DomainPausedPostcopy, rpc.DomainPausedPostcopyFailed:
			return vm.Incoming
		}
		return vm.Paused
	case rpc.DomainShutdown:
		return vm.Ending
	case rpc.DomainShutoff, rpc.DomainCrashed:
		return vm.Off
	case rpc.DomainPmsuspended:
		return vm.Asleep
	}
	return vm.Unknown
}

// XML is a domain's description as it runs now.
func (c *Conn) XML(ctx context.Context, d *Domain) ([]byte, error) { return c.xml(ctx, d, 0) }

func (c *Conn) xml(ctx context.Context, d *Domain, flags rpc.DomainXMLFlags) ([]byte, error) {
	text, err := call(ctx, c, "domain "+d.Name, func() (string, error) { return c.rpc.DomainGetXMLDesc(d.rpc, flags) })
	return []byte(text), err
}

// redefine puts other devices into what is defined of a domain, if it has those
// that the map names.
func (c *Conn) redefine(ctx context.Context, d *Domain, places map[string]string) error {
	kept, err := call(ctx, c, "domain "+d.Name, func() (int32, error) { return c.rpc.DomainIsPersistent(d.rpc) })
	if err != nil || kept == 0 {
		return err
	}
	text, err := c.xml(ctx, d, rpc.DomainXMLInactive|rpc.DomainXMLSecure)
	if err != nil {
		return err
	}
	doc, err := domain.Parse(text)
	if err != nil {
		return fmt.Errorf("what is defined of domain %s: %w", d.Name, err)
	}
	after, err := rewrite(doc, places)
	if err != nil || bytes.Equal(after, text) {
		return err
	}
	_, err = call(ctx, c, "define domain "+d.Name, func() (rpc.Domain, error) { return c.rpc.DomainDefineXML(string(after)) })
	return err
}

// rewrite puts those devices in that a domain has.
func rewrite(doc *domain.Document, devices map[string]string) ([]byte, error) {
	places := make(map[string]string)
	for from, to := range devices {
		if doc.Device(from) != nil {
			places[from] = to
		}
	}
	return doc.Rewrite(places)
}

// Document is a domain's description, read.
func (c *Conn) Document(ctx context.Context, d *Domain) (*domain.Document, error) {
	text, err := c.XML(ctx, d)
	if err != nil {
		return nil, err
	}
	doc, err := domain.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("domain %s: %w", d.Name, err)
	}
	return doc, nil
}

func parseUUID(text string) (id rpc.UUID, ok bool) {
	data, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(data) != len(id) {
		return id, false
	}
	return rpc.UUID(data), true
}

func formatUUID(id rpc.UUID) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

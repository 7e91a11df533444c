// SPDX-License-Identifier: Apache-2.0

package prove

import (
	"context"
	"errors"
	"fmt"

	"kindred/compat"
	"kindred/host/policy"
	"kindred/host/vfio"
	"kindred/inventory"
)

// Host is a machine that canaries are made on: a live one or a simulated one.
type Host interface {
	// Inventory reads the machine.
	Inventory(ctx context.Context) (*inventory.Inventory, error)
	// Make makes a device of the type and returns its id. It is Kindred's own,
	// and on record before it exists.
	Make(ctx context.Context, parent string, t inventory.TypeName) (id string, err error)
	// Open opens a device that Make made.
	Open(ctx context.Context, id string) (vfio.Device, error)
	// Remove removes a device that Make made; it is no error that it is gone.
	Remove(ctx context.Context, id string) error
	// Listen begins to listen to the kernel's log, and returns a function that
	// ends it and gives the lines about any of the subjects.
	Listen() (end func(subjects []string) []string)
}

// Local is what canaries are marked with that nobody ordered.
const Local = "prove"

// Side is one end of a transfer: a type on a parent of a machine.
type Side struct {
	Host   Host
	Parent string
	Type   inventory.TypeName
}

func (s *Side) String() string { return s.Type.Full() + " on " + s.Parent }

// offer is what the side's inventory says of it.
func (s *Side) offer(ctx context.Context, engine *compat.Engine) (*compat.Offer, error) {
	inv, err := s.Host.Inventory(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	for _, o := range engine.Offers(inv) {
		if o.Parent() == s.Parent && o.Type().TypeName == s.Type {
			return o, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", s, ErrNotOffered)
}

// ErrLeft is the error of a canary that could not be removed. It stays on record,
// and the next sweep tries again.
var ErrLeft = errors.New("a canary is left behind")

// Why no canary is made.
var (
	ErrNotOffered = errors.New("the parent does not offer the type")
	// ErrReloaded: what came of it is of nobody knows which build.
	ErrReloaded = errors.New("its driver is another build now than when this began: begin again")
	// ErrUnsafe: the driver's catalog says that canaries disturb others.
	ErrUnsafe = errors.New("its catalog says that canaries are unsafe there")
)

// NotAllowedError is returned where the host's operator does not allow
// canaries.
type NotAllowedError struct {
	Parent string
	Type   inventory.TypeName
}

func (e *NotAllowedError) Error() string {
	return fmt.Sprintf("canaries of %s are not allowed on %s: the host's operator allows them in /%s, with canaries: [{parent: %q, type: %q}]",
		e.Type.Full(), e.Parent, policy.File, e.Parent, e.Type.Full())
}

// NoCanary reports whether an error says that no canary may be made, or that
// nothing offers it: nothing was tried then.
func NoCanary(err error) bool {
	_, notAllowed := errors.AsType[*NotAllowedError](err)
	return notAllowed || errors.Is(err, ErrNotOffered) || errors.Is(err, ErrUnsafe)
}

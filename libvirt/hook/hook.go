// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"context"
	"fmt"
	"slices"
	"time"

	"kindred/api"
	"kindred/libvirt/domain"
	"kindred/vm"
)

// Call is what libvirt says when it calls: GUEST OPERATION SUBOPERATION EXTRA.
type Call struct{ Guest, Operation, Suboperation, Extra string }

// Incoming reports whether a migration brings the domain. What the hook prints is
// the domain here then.
func (c *Call) Incoming() bool { return c.Operation == "migrate" && c.Suboperation == "begin" }

// Ended reports whether the domain is no more here.
func (c *Call) Ended() bool {
	return c.Suboperation == "end" && (c.Operation == "stopped" || c.Operation == "release")
}

// Hook takes domains in on one host.
type Hook struct {
	Host        string // this one, as the fleet knows it
	Fleet       vm.Fleet
	Unreachable Unreachable
	Moves       *Moves
	// Follow leaves a follower behind.
	Follow func(m *Move) error
	// Warn tells what is no reason to refuse.
	Warn func(error)
}

// reserve is the part of the time that is kept for giving back what was begun.
const reserve = 5 * time.Second

// Take is the incoming domain with this host's devices in the place of the other
// one's; nil: it stays as it is. An error is a refusal. The context bounds it.
func (h *Hook) Take(ctx context.Context, text []byte) ([]byte, error) {
	doc, err := domain.Parse(text)
	if err != nil {
		return nil, err
	}
	if len(doc.Hostdevs) == 0 {
		return nil, nil
	}
	work, cancel := ctx, context.CancelFunc(func() {})
	if end, ok := ctx.Deadline(); ok {
		left := time.Until(end)
		work, cancel = context.WithDeadline(ctx, end.Add(-min(reserve, left/5)))
	}
	defer cancel()
	out, err := h.take(work, ctx, doc)
	if err != nil && vm.Unreachable(err) && h.Unreachable == Pass {
		h.Warn(fmt.Errorf("let through as it is, for no server can be asked: %w", err))
		return nil, nil
	}
	return out, err
}

func (h *Hook) take(ctx, whole context.Context, doc *domain.Document) (out []byte, err error) {
	guest := &vm.Guest{Name: doc.Name, UUID: doc.UUID}
	for i := range doc.Hostdevs {
		guest.Devices = append(guest.Devices, vm.Device{ID: doc.Hostdevs[i].Device, Mdev: doc.Hostdevs[i].Kind == domain.Mdev})
	}
	m, ours, err := (&vm.Preparation{Fleet: h.Fleet, Guest: guest, Target: h.Host}).Prepare(ctx)
	defer func() {
		if err == nil || m == nil || !ours {
			return
		}
		if _, failed := h.Fleet.Abort(whole, m.ID, &api.Abort{Reason: "libvirt's hook on " + h.Host + " gave up: " + err.Error()}); failed != nil {
			h.Warn(fmt.Errorf("migration %s is left to its deadline: %w", m.ID, failed))
		}
	}()
	if err != nil {
		return nil, err
	}
	places, err := vm.Places(m)
	if err != nil {
		return nil, err
	}
	switch crosses := crossed(places); {
	case crosses && m.State == api.HandedOver:
		return nil, fmt.Errorf("migration %s was handed over, and its devices on %s are called as on %s, in another order: it cannot be told whether the domain has them already", m.ID, m.Target, m.Source)
	case !crosses && slices.Equal(guest.IDs(), vm.Targets(m)):
		places = nil // whoever migrates put them in already
	}
	if out, err = doc.Rewrite(places); err != nil {
		return nil, err
	}
	move := &Move{
		Migration: m.ID, Domain: doc.UUID, Name: doc.Name, Devices: vm.Targets(m), Places: places, Began: time.Now().UTC(), Deadline: m.Deadline, Log: logSize(doc.Name),
	}
	if err = h.Moves.Write(move); err != nil {
		return nil, err
	}
	ours = true // from here on nobody else knows whether the domain may use them
	if m, err = h.handOver(ctx, m); err != nil && !vm.Unreachable(err) {
		h.forget(move)
		return nil, err
	}
	// Also where it is not known whether it was handed over: the follower finds
	// that the domain did not come, and gives it back.
	if failed := h.Follow(move); failed != nil {
		h.Warn(fmt.Errorf("nobody watches how migration %s ends; say it by kindred migration complete or abort, or wait until %s: %w", m.ID, m.Deadline.Format(time.RFC3339), failed))
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// crossed reports whether a device is called there as another one is here: functions
// of two hosts are.
func crossed(places map[string]string) bool {
	for from, to := range places {
		if _, ok := places[to]; ok && from != to {
			return true
		}
	}
	return false
}

func (h *Hook) handOver(ctx context.Context, m *api.Migration) (*api.Migration, error) {
	var over *api.Migration
	err := vm.Insist(ctx, func(ctx context.Context) (err error) {
		over, err = h.Fleet.HandOver(ctx, m.ID)
		return err
	})
	if err != nil {
		return m, fmt.Errorf("hand migration %s over: %w", m.ID, err)
	}
	return over, nil
}

func (h *Hook) forget(m *Move) {
	if err := h.Moves.Remove(m); err != nil {
		h.Warn(err)
	}
}

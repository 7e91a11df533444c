// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"kindred/api"
	"kindred/libvirt/domain"
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

// Fleet is the server, as a client asks it.
type Fleet interface {
	Migrations(ctx context.Context, all bool) ([]api.Migration, error)
	Claims(ctx context.Context, all bool) ([]api.Claim, error)
	CreateMigration(ctx context.Context, key string, r *api.MigrationRequest) (*api.Migration, error)
	Migration(ctx context.Context, id string) (*api.Migration, error)
	HandOver(ctx context.Context, id string) (*api.Migration, error)
	Complete(ctx context.Context, id string) (*api.Migration, error)
	Abort(ctx context.Context, id string, a *api.Abort) (*api.Migration, error)
}

// Hook takes domains in on one host.
type Hook struct {
	Host        string // this one, as the fleet knows it
	Fleet       Fleet
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
	if err != nil && unreachable(err) && h.Unreachable == Pass {
		h.Warn(fmt.Errorf("let through as it is, for no server can be asked: %w", err))
		return nil, nil
	}
	return out, err
}

func (h *Hook) take(ctx, whole context.Context, doc *domain.Document) (out []byte, err error) {
	m, ours, err := h.prepared(ctx, doc)
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
	place := make(map[string]string, len(m.Devices))
	for _, d := range m.Devices {
		if d.Target == "" {
			return nil, fmt.Errorf("migration %s is %s, and has no device for %s", m.ID, m.State, d.Source)
		}
		if doc.Device(d.Source) != nil && !slices.Equal(doc.Devices(), targets(m)) {
			place[d.Source] = d.Target
		}
	}
	if out, err = doc.Rewrite(place); err != nil {
		return nil, err
	}
	move := &Move{
		Migration: m.ID, Domain: doc.UUID, Name: doc.Name, Devices: targets(m), Began: time.Now().UTC(), Deadline: m.Deadline, Log: logSize(doc.Name),
	}
	if err = h.Moves.Write(move); err != nil {
		return nil, err
	}
	ours = true // from here on nobody else knows whether the domain may use them
	if m, err = h.handOver(ctx, m); err != nil && !unreachable(err) {
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

func (h *Hook) handOver(ctx context.Context, m *api.Migration) (*api.Migration, error) {
	var over *api.Migration
	err := h.insist(ctx, func(ctx context.Context) (err error) {
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

func sources(m *api.Migration) []string {
	var ids []string
	for i := range m.Devices {
		ids = append(ids, m.Devices[i].Source)
	}
	slices.Sort(ids)
	return ids
}

func targets(m *api.Migration) []string {
	var ids []string
	for i := range m.Devices {
		ids = append(ids, m.Devices[i].Target)
	}
	slices.Sort(ids)
	return ids
}

// unreachable reports whether a server said nothing, or nothing that counts.
func unreachable(err error) bool {
	p, refused := errors.AsType[*api.Problem](err)
	if refused {
		return p.Code == api.Unavailable
	}
	_, ours := errors.AsType[*silence](err)
	return ours
}

// silence is an error that is no answer of a server.
type silence struct{ err error }

func (s *silence) Error() string { return "no server answers: " + s.err.Error() }
func (s *silence) Unwrap() error { return s.err }

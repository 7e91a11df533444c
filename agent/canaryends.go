// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"

	"kindred/api"
	"kindred/compat"
	"kindred/inventory"
	"kindred/prove"
	"kindred/trust"
)

// give is the source's end: it records, and sends the recording.
func (t *task) give(ctx context.Context) error {
	r, heard, err := t.record(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := t.say(ctx, &api.CanaryWord{Phase: api.CanaryRecorded}); err != nil {
		return err
	}
	if err := t.until(ctx, func(o *api.CanaryOrder) bool { return o.Peer != nil && o.Address != "" }); err != nil {
		return err
	}
	digest, err := t.send(ctx, r)
	if err != nil {
		return err
	}
	return t.say(ctx, &api.CanaryWord{Phase: api.CanarySent, Digest: digest, Inventory: r.Header().Inventory, Log: bounded(heard)})
}

// record makes the recording, when it is its turn. Whatever the target does
// afterwards, the next one can be made.
func (t *task) record(ctx context.Context) (*prove.Recording, []string, error) {
	done, err := turnAt(ctx, t.recording)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	host, err := t.host.Canaries(t.order.Canary)
	if err != nil {
		return nil, nil, &gaveUp{api.DeviceFailed, err}
	}
	defer host.Close()
	if err := t.say(ctx, &api.CanaryWord{Phase: api.CanaryWorking}); err != nil {
		return nil, nil, err
	}
	r, heard, err := t.prover().Give(ctx, &prove.Side{Host: host, Parent: t.order.Parent, Type: t.order.Type})
	if err != nil {
		return nil, nil, noProof(err)
	}
	return r, heard, nil
}

// try is the target's end: it receives a recording, and tries it.
func (t *task) try(ctx context.Context) error {
	if err := t.until(ctx, func(o *api.CanaryOrder) bool { return o.Peer != nil }); err != nil {
		return err
	}
	done, err := turnAt(ctx, t.trying)
	if err != nil {
		return err
	}
	defer done()
	host, err := t.host.Canaries(t.order.Canary)
	if err != nil {
		return &gaveUp{api.DeviceFailed, err}
	}
	defer host.Close()
	if err := t.say(ctx, &api.CanaryWord{Phase: api.CanaryWorking}); err != nil {
		return err
	}
	p := t.prover()
	r, digest, err := t.receive(ctx, p)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := t.say(ctx, &api.CanaryWord{Phase: api.CanaryReceived}); err != nil {
		return err
	}
	side := &prove.Side{Host: host, Parent: t.order.Parent, Type: t.order.Type}
	word, err := t.outcome(ctx, p, r, side)
	if err != nil {
		return err
	}
	word.Digest = digest
	return t.say(ctx, word)
}

// outcome tries a recording, and says what came of it and what was tried.
func (t *task) outcome(ctx context.Context, p *prove.Prover, r *prove.Recording, side *prove.Side) (*api.CanaryWord, error) {
	before, err := seenAt(ctx, side)
	if err != nil {
		return nil, noProof(err)
	}
	word := &api.CanaryWord{Phase: api.CanaryDone, Inventory: before, Outcome: &api.CanaryOutcome{Result: compat.Inconclusive, Grade: r.Grade()}}
	proof, err := p.Replay(ctx, r, side)
	if errors.Is(err, prove.ErrReloaded) {
		word.Outcome.Detail = err.Error()
		word.Inventory, err = seenAt(ctx, side)
		return word, err
	}
	if err != nil {
		return nil, noProof(err)
	}
	word.Log = bounded(proof.Log)
	word.Outcome = &api.CanaryOutcome{
		Result: proof.Result, Grade: proof.Grade, Controls: proof.Controls, Tries: proof.Tries, Verified: proof.Verified, Detail: proof.Detail,
	}
	if !builtAs(p.Engine, before, side, proof.TargetBuild) {
		word.Outcome.Result, word.Outcome.Detail = compat.Inconclusive, fmt.Sprintf("%s: %v", side, prove.ErrReloaded)
	}
	return word, nil
}

// seenAt is what decides of a host for a side, as it is now.
func seenAt(ctx context.Context, side *prove.Side) (*inventory.Inventory, error) {
	inv, err := side.Host.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	part, err := inv.ExtractType(side.Parent, side.Type)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", side, prove.ErrNotOffered)
	}
	return part, nil
}

// builtAs reports whether an inventory shows that build at the side.
func builtAs(engine *compat.Engine, inv *inventory.Inventory, side *prove.Side, build string) bool {
	for _, o := range engine.Offers(inv) {
		if o.Parent() == side.Parent && o.Type().TypeName == side.Type {
			return o.Build().ID == build
		}
	}
	return false
}

// Bounds of the kernel's lines that are told.
const (
	mostLines = 200
	longLine  = 500
)

func bounded(lines []string) []string {
	var list []string
	for _, l := range lines[:min(len(lines), mostLines)] {
		list = append(list, l[:min(len(l), longLine)])
	}
	return list
}

// peer is the certificate that the other end has to have.
func (t *task) peer() trust.Expected {
	return trust.Expected{Host: t.order.Peer.Host, Serial: t.order.Peer.Serial}
}

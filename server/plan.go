// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"kindred/api"
	"kindred/compat"
	"kindred/fleet"
	"kindred/inventory"
	"kindred/server/store"
)

// plan is a claim that could be written, and what has to stay so meanwhile.
type plan struct {
	claim  api.Claim
	guards []store.Guard
}

// plan judges a request by what this server has seen. Each host is judged as of
// one moment, which the guards are of; that takes its time, and holds no lock
// meanwhile. A refusal comes with the guards of what it rests on.
func (v *view) plan(ctx context.Context, req *api.ClaimRequest, now time.Time, manage bool) (*plan, error) {
	source, devices, p, err := v.planFrom(req, manage)
	if err != nil {
		return p, err
	}
	if req.Target != "" {
		return p, v.planOn(ctx, p, req, source, devices, req.Target, now, manage)
	}
	first := p.guards
	var refused *api.Problem
	for _, target := range v.candidates(ctx, qualified(source, devices), req.Policy) {
		p.guards = slices.Clone(first)
		if err := v.planOn(ctx, p, req, source, devices, target, now, manage); err == nil {
			return p, nil
		} else if problem, ok := errors.AsType[*api.Problem](err); ok && refused == nil {
			refused = problem
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	none := api.NewProblem(api.NoTarget, "devices of %s", source.Host.Name)
	if refused != nil {
		none.Reasons = append([]api.Cause{{Code: string(refused.Code), Text: refused.Detail}}, refused.Reasons...)
	} else {
		none.Reasons = v.refusals(ctx, qualified(source, devices))
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return p, none
}

// planFrom begins a plan with the devices that are to move, on their host.
func (v *view) planFrom(req *api.ClaimRequest, manage bool) (*inventory.Inventory, []*inventory.Device, *plan, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	source, devices, err := v.sources(req.Devices)
	if err != nil {
		return nil, nil, nil, err
	}
	p := &plan{claim: api.Claim{State: api.Held, Owner: req.Owner, Source: source.Host.Name, Accepted: req.Accept}}
	p.guards = append(p.guards, store.Guard{Key: store.Key(store.Host, source.Host.Name), Revision: v.hosts[source.Host.Name].revision})
	for _, d := range devices {
		name := source.Host.Name + "/" + d.ID
		p.guards = append(p.guards, store.Guard{Key: store.Key(store.Device, name), Revision: 0})
		if taken, ok := v.devices[name]; ok {
			p.guards[len(p.guards)-1].Revision = taken.Revision
			return nil, nil, p, api.NewProblem(api.DeviceClaimed, "device %s of %s: claim %s", d.ID, source.Host.Name, taken.Value)
		}
	}
	for _, c := range v.openOn(source.Host.Name) {
		for _, d := range devices {
			if slices.ContainsFunc(c.Devices, func(o api.ClaimDevice) bool { return o.Device == d.ID }) {
				return nil, nil, p, api.NewProblem(api.DeviceClaimed, "device %s is on its way to %s: claim %s", d.ID, source.Host.Name, c.ID)
			}
		}
	}
	if manage && v.hosts[source.Host.Name].Mode != api.Manage {
		return nil, nil, p, api.NewProblem(api.HostObserves, "%s, where the devices are", source.Host.Name)
	}
	return source, devices, p, nil
}

// sources are the devices that a request names: of one host.
func (v *view) sources(refs []string) (*inventory.Inventory, []*inventory.Device, error) {
	if len(refs) == 0 || len(refs) > api.MaxDevices {
		return nil, nil, api.NewProblem(api.BadRequest, "a claim is for 1 to %d devices", api.MaxDevices)
	}
	host := ""
	var ids []string
	for _, ref := range refs {
		s, err := v.index.Load().Fleet().Source(ref)
		if err != nil {
			return nil, nil, notFound(err)
		}
		switch {
		case host == "":
			host = s.Host()
		case host != s.Host():
			return nil, nil, api.NewProblem(api.BadRequest, "%s is on %s, another device on %s: devices that move together are on one host", ref, s.Host(), host)
		case slices.Contains(ids, s.ID()):
			return nil, nil, api.NewProblem(api.BadRequest, "device %s is named twice", ref)
		}
		ids = append(ids, s.ID())
	}
	inv := v.inventory(host)
	var list []*inventory.Device
	for _, id := range ids {
		if inv == nil || inv.Device(id) == nil {
			return nil, nil, api.NewProblem(api.NotFound, "device %s is not on %s any more", id, host)
		}
		list = append(list, inv.Device(id))
	}
	return inv, list, nil
}

func qualified(source *inventory.Inventory, devices []*inventory.Device) (refs []string) {
	for _, d := range devices {
		refs = append(refs, source.Host.Name+"/"+d.ID)
	}
	return refs
}

// notFound is the refusal for a question that package fleet could not answer.
func notFound(err error) error {
	e, ok := errors.AsType[*fleet.Error](err)
	switch {
	case ok && e.Code == fleet.NotFound:
		return api.NewProblem(api.NotFound, "device %s", e.Error())
	case ok && e.Code == fleet.Ambiguous:
		return api.NewProblem(api.Ambiguous, "device %s", e.Error())
	case ok && e.Code == fleet.Apart:
		return api.NewProblem(api.BadRequest, "device %s", e.Error())
	}
	return err
}

// mostCandidates is how many hosts are tried for a request that names none.
const mostCandidates = 64

// candidates are hosts that may take all devices, in the policy's order: those
// that are ready first, and then, for what may have been accepted, those of
// which something is not known.
func (v *view) candidates(ctx context.Context, refs []string, policy fleet.Policy) []string {
	answer := v.joint(ctx, refs, fleet.Options{Policy: policy, Limit: mostCandidates})
	if answer == nil {
		return nil
	}
	var names []string
	for i := range answer.Hosts {
		if g := answer.Hosts[i].Group; g == fleet.Ready || g == fleet.Unsettled {
			names = append(names, answer.Hosts[i].Host)
		}
	}
	return names
}

// joint asks the index for all devices together, nil where it has none of them.
// What is silent the index knows itself.
func (v *view) joint(ctx context.Context, refs []string, opts fleet.Options) *fleet.Joint {
	f := v.index.Load().Fleet().Within(ctx)
	var sources []*fleet.Source
	for _, ref := range refs {
		s, err := f.Source(ref)
		if err != nil {
			return nil
		}
		sources = append(sources, s)
	}
	opts.Now, opts.MaxAge = never.Add(-time.Hour), time.Hour
	answer, err := f.Joint(sources, opts)
	if err != nil {
		return nil
	}
	return answer
}

// mostRefusals is how many reasons for which no host is a candidate are told.
const mostRefusals = 8

// refusals say why no host is a candidate, most hosts first.
func (v *view) refusals(ctx context.Context, refs []string) (list []api.Cause) {
	answer := v.joint(ctx, refs, fleet.Options{Reasons: true, Limit: 1})
	if answer == nil {
		return nil
	}
	for _, r := range answer.Reasons[:min(len(answer.Reasons), mostRefusals)] {
		c := api.Cause{Subject: fmt.Sprintf("%d hosts", r.Hosts), Code: r.Code, Text: r.Text}
		if r.Hosts == 1 {
			c.Subject = "1 host"
		}
		if r.Group == fleet.NotReporting {
			c.Code, c.Text = string(api.HostSilent), api.HostSilent.Meaning()
		}
		list = append(list, c)
	}
	return list
}

// site is a host at one moment, with what holds room on it.
type site struct {
	*hostState       // of no revision where there is none
	seen       int64 // the view's revision
	room       int64
	inv        *inventory.Inventory // nil where it has not reported
	claims     []*claimRecord
	canaries   []*canaryRecord
	engine     *compat.Engine
}

func (v *view) site(name string) *site {
	v.mu.RLock()
	defer v.mu.RUnlock()
	s := &site{v.hosts[name], v.revision, v.rooms[name], v.inventory(name), v.openOn(name), v.canariesOn(name), v.engine}
	if s.hostState == nil {
		s.hostState = new(hostState)
	}
	return s
}

// planOn judges one target, and fills the plan in.
func (v *view) planOn(ctx context.Context, p *plan, req *api.ClaimRequest, source *inventory.Inventory, devices []*inventory.Device, name string, now time.Time, manage bool) error {
	at := v.site(name)
	// What this server has seen is more than what any claim before had seen on the same
	// device or target, for those are guarded; and a backup keeps the number.
	p.claim.Target, p.claim.Fence = name, at.seen
	p.guards = append(p.guards,
		store.Guard{Key: store.Key(store.Room, name), Revision: at.room},
		store.Guard{Key: store.Key(store.Host, name), Revision: at.revision},
		store.Guard{Key: store.Key(store.Live, name), Revision: at.liveRevision})
	switch {
	case at.inv == nil:
		return api.NewProblem(api.NotFound, "no host %q has reported", name)
	case name == source.Host.Name:
		return api.NewProblem(api.BadRequest, "the devices are on %s already", name)
	case at.live.State != api.Reporting:
		return api.NewProblem(api.HostSilent, "%s, since %s", name, at.live.Since.UTC().Format(time.RFC3339))
	case manage && at.Mode != api.Manage:
		return api.NewProblem(api.HostObserves, "%s, the target", name)
	}
	if err := at.ready(source, devices[0], req.Accept); err != nil {
		return err
	}
	space := newSpace(at.engine, at.inv, at.claims, at.canaries)
	var wishes [][]offer
	var froms []*compat.Source
	for _, d := range devices {
		from := at.engine.Source(source, d)
		offers, refused := space.judge(at.engine, from, req)
		if refused != nil {
			return refused
		}
		wishes, froms = append(wishes, offers), append(froms, from)
	}
	search := &compat.Search{Steps: mostSteps, Done: ctx.Done()}
	places, ok := space.place(search, wishes)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !ok && search.Over():
		return api.NewProblem(api.TooLong, "whether %s has room for %d more, each in one of several places", name, len(devices))
	case !ok:
		return noRoom(name, devices, wishes, space)
	}
	p.claim.Estimate = space.mixed()
	p.claim.Devices = nil
	for i, o := range places {
		p.claim.Devices = append(p.claim.Devices, at.device(source, devices[i], froms[i], o))
	}
	return nil
}

// mostSteps bounds the search for a way to place all devices of a request on one
// host. It is far more than devices of a few kinds need.
const mostSteps = 1 << 18

// noRoom says which devices would find no place even alone.
func noRoom(target string, devices []*inventory.Device, wishes [][]offer, s *space) error {
	p := api.NewProblem(api.NoRoom, "%s has no room for %d more", target, len(devices))
	for i, d := range devices {
		if !slices.ContainsFunc(wishes[i], func(o offer) bool { return s.lefts[o.parent].Fits(o.typ) }) {
			p.Reasons = append(p.Reasons, api.Cause{Subject: d.ID, Code: string(fleet.RoomFull), Text: fleet.RoomFull.Meaning() + ", claims counted in"})
		}
	}
	return p
}

// ready judges what a target needs beside compatibility and room.
func (s *site) ready(source *inventory.Inventory, device *inventory.Device, accepted []api.Acceptance) error {
	target := s.inv
	both, err := fleet.New(s.engine, []*inventory.Inventory{source, target})
	if err != nil {
		return fmt.Errorf("judge %s: %w", target.Host.Name, err)
	}
	from, err := both.Source(source.Host.Name + "/" + device.ID)
	if err != nil {
		return notFound(err)
	}
	p := api.NewProblem(api.NotReady, "%s", target.Host.Name)
	for _, c := range both.Targets(from, fleet.Options{}).Hosts[0].Ready {
		accepts := func(a api.Acceptance) bool { return a.Code == string(c.Code) }
		if c.Met == inventory.No || c.Met == inventory.Unknown && !slices.ContainsFunc(accepted, accepts) {
			p.Reasons = append(p.Reasons, api.Cause{Subject: target.Host.Name, Code: string(c.Code), Text: c.Detail})
		}
	}
	if len(p.Reasons) > 0 {
		return p
	}
	return nil
}

// device is what one device gets.
func (s *site) device(source *inventory.Inventory, d *inventory.Device, from *compat.Source, o offer) api.ClaimDevice {
	parent := &s.inv.Parents[o.parent]
	c := api.ClaimDevice{
		Source: d.ID, Parent: parent.Name, Type: parent.Types[o.typ].TypeName, Outcome: o.verdict.Outcome, Contract: promise(source, d),
		Kind: map[inventory.ParentKind]inventory.DeviceKind{inventory.MdevParent: inventory.Mdev, inventory.FunctionParent: inventory.VF, inventory.VGPUParent: inventory.VGPU}[parent.Kind],
	}
	for _, name := range slices.Sorted(maps.Keys(o.verdict.Copy)) {
		c.Copy = append(c.Copy, api.Attribute{Name: name, Value: o.verdict.Copy[name]})
	}
	if c.Kind == inventory.Mdev {
		c.Device = newUUID()
		c.Definition = definition(&c)
	}
	if f := o.verdict.Worst(); f != nil {
		c.Code, c.Text = string(f.Code), f.Text()
	}
	if proof, err := s.engine.About(from, o.offer); err == nil { // else no proof can be made of it
		proof.Grade, proof.Result = compat.Observed, compat.Inconclusive // until it was
		c.Proof = &proof
	}
	return c
}

// promise is the contract that goes with a device: the one on record, or else
// what the device is now.
func promise(source *inventory.Inventory, d *inventory.Device) *inventory.Contract {
	if d.Contract != nil || d.ContractUnread {
		return d.Contract
	}
	c := &inventory.Contract{Type: d.Type, DeviceAttributes: d.Attributes, Host: source.Host.Name, Recorded: source.Taken}
	if p := source.Parent(d.Parent); p != nil {
		if t := p.Type(d.Type); t != nil {
			c.Label, c.DeviceAPI, c.TypeAttributes = t.Label, t.DeviceAPI, t.Attributes
		}
	}
	return c
}

// definition is an mdev in mdevctl's format.
func definition(c *api.ClaimDevice) json.RawMessage {
	d := struct {
		Type  string              `json:"mdev_type"`
		Start string              `json:"start"`
		Attrs []map[string]string `json:"attrs"`
	}{c.Type.Full(), "manual", []map[string]string{}}
	for _, a := range c.Copy {
		d.Attrs = append(d.Attrs, map[string]string{a.Name: a.Value})
	}
	return encode(d)
}

// newUUID is a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	text := fmt.Sprintf("%x", b)
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}

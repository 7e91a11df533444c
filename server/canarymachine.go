// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"kindred/api"
	"kindred/compat"
	"kindred/inventory"
	"kindred/trust"
)

// canaryRecord is what is stored of a canary order.
type canaryRecord struct {
	api.Canary
	Request string `json:"request"` // which request it came from
	// Token is for the one connection of this step. It is told to both agents, and
	// to nobody else.
	Token  string     `json:"token,omitempty"`
	Source canaryHalf `json:"source"`
	Target canaryHalf `json:"target"`
}

// canaryHalf is what one agent said in this step, beside its phase.
type canaryHalf struct {
	// Touched is true once it has begun, in this step or an earlier one: then
	// something may be there.
	Touched bool `json:"touched,omitempty"`
	// Serial and Issued are of the certificate that it speaks with.
	Serial    string               `json:"serial,omitempty"`
	Issued    time.Time            `json:"issued,omitzero"`
	Address   string               `json:"address,omitempty"`
	Digest    string               `json:"digest,omitempty"`
	Inventory *inventory.Inventory `json:"inventory,omitempty"`
	Log       []string             `json:"log,omitempty"`
	Outcome   *api.CanaryOutcome   `json:"outcome,omitempty"`
}

// mostBegun is how often agents begin when one of them lost what it had begun.
const mostBegun = 3

// phases are the ones that an end goes through, in order.
var phases = map[api.CanaryRole][]api.CanaryPhase{
	api.CanarySource: {api.CanaryWorking, api.CanaryRecorded, api.CanarySent},
	api.CanaryTarget: {api.CanaryWorking, api.CanaryListening, api.CanaryReceived, api.CanaryDone},
}

// reached reports whether an end is that far, or further.
func (c *canaryRecord) reached(role api.CanaryRole, phase api.CanaryPhase) bool {
	end, _ := c.end(role)
	return end.Phase != "" && slices.Index(phases[role], end.Phase) >= slices.Index(phases[role], phase)
}

func (c *canaryRecord) end(role api.CanaryRole) (*api.CanaryEnd, *canaryHalf) {
	if role == api.CanaryTarget {
		return &c.To, &c.Target
	}
	return &c.From, &c.Source
}

// anew asks both agents to begin, with a token of its own.
func (c *canaryRecord) anew() {
	c.Step++
	c.Begun++
	c.Token = rand.Text()
	c.From.Phase, c.To.Phase = "", ""
	c.forget()
}

// forget drops what both agents said.
func (c *canaryRecord) forget() {
	c.Source, c.Target = canaryHalf{Touched: c.Source.Touched}, canaryHalf{Touched: c.Target.Touched}
}

// over ends an order. An agent that has not begun has nothing to clear: it asks
// before it begins, and is refused from now on.
func (c *canaryRecord) over(state api.CanaryState, code api.Code, reason string, now time.Time) {
	c.State, c.Code, c.Reason, c.Changed = state, code, reason, now
	c.Step++
	c.Token = ""
	c.forget()
	c.From.Clear, c.To.Clear = !c.Source.Touched, !c.Target.Touched
}

// hear takes what an agent says, and reports whether it is news. A word on
// another step is refused, so that nobody begins what is over.
func (c *canaryRecord) hear(host string, w *api.CanaryWord, by trust.Identity, now time.Time) (news bool, err error) {
	end, half := c.end(w.Role)
	switch {
	case end.Host != host || w.Role != api.CanarySource && w.Role != api.CanaryTarget:
		return false, api.NewProblem(api.Forbidden, "canary order %s has no %s on %s", c.ID, w.Role, host)
	case w.Step != c.Step, c.State.Over() != (w.Phase == api.CanaryClear):
		return false, api.NewProblem(api.WrongState, "canary order %s is %s, at step %d", c.ID, c.State, c.Step)
	case w.Phase == api.CanaryClear:
		news, end.Clear = !end.Clear, true
		return news, nil
	case w.Phase == api.CanaryLost:
		if c.Begun >= mostBegun {
			c.over(api.CanaryFailed, api.CanaryCutShort, lostText(w, host), now)
		} else {
			c.anew()
			c.Reason = lostText(w, host)
		}
		return true, nil
	case w.Phase == api.CanaryGaveUp:
		c.over(api.CanaryFailed, w.Code, host+": "+w.Detail, now)
		return true, nil
	}
	at, was := slices.Index(phases[w.Role], w.Phase), slices.Index(phases[w.Role], end.Phase)
	switch {
	case at < 0:
		return false, api.NewProblem(api.BadRequest, "%q is no phase of the %s of a canary order", w.Phase, w.Role)
	case at <= was:
		return false, nil // it was sent again
	case by.Serial == "" || by.Role != trust.Host || by.Name != host:
		c.over(api.CanaryFailed, api.Unauthorized, host+": its agent has no certificate, by which the other one could know it: it has to join (kindred agent join)", now)
		return true, nil
	case half.Serial != "" && half.Serial != by.Serial:
		// A certificate was renewed; the other end was told of the old one.
		c.anew()
		c.Begun--
		return true, nil
	}
	end.Phase = w.Phase
	half.Touched, half.Serial, half.Issued = true, by.Serial, by.Issued
	switch w.Phase {
	case api.CanaryWorking:
		c.State = api.CanaryRunning
	case api.CanaryListening:
		half.Address = w.Address
	case api.CanarySent, api.CanaryDone:
		half.Digest, half.Inventory, half.Log, half.Outcome = w.Digest, w.Inventory, w.Log, w.Outcome
	}
	return true, nil
}

func lostText(w *api.CanaryWord, host string) string {
	if w.Detail == "" {
		return host + " lost it"
	}
	return host + ": " + w.Detail
}

// settle joins what both agents said, when both are done. The proof is nil where
// what came of it is about no build that is known.
func (c *canaryRecord) settle(engine *compat.Engine, now time.Time) *compat.Proof {
	if c.State.Over() || !c.reached(api.CanarySource, api.CanarySent) || !c.reached(api.CanaryTarget, api.CanaryDone) {
		return nil
	}
	if o := c.Target.Outcome; o == nil || !slices.Contains([]compat.Result{compat.Accepted, compat.Rejected, compat.Inconclusive}, o.Result) || o.Grade.String() == "" {
		c.over(api.CanaryFailed, api.BadRequest, c.To.Host+": what its agent says of the outcome makes no sense", now)
		return nil
	}
	if c.Source.Digest == "" || c.Source.Digest != c.Target.Digest {
		c.over(api.CanaryFailed, api.BadRequest, "the target did not try what the source sent", now)
		return nil
	}
	p, why := c.join(engine, now)
	c.Result, c.Detail = compat.Inconclusive, why
	little := ""
	if p != nil {
		c.Result, c.Detail, c.Grade = p.Result, p.Detail, p.Grade.String()
		if lowest := engine.Policy(p.TargetType).Lowest; p.Result == compat.Accepted && p.Grade < lowest {
			little = fmt.Sprintf("it does not settle the pair: that takes a grade of %s, and the agents exercise a canary as their own hosts' catalogs say", lowest)
		}
	}
	c.over(api.CanarySettled, "", little, now)
	return p
}

// join makes the proof, or says why there is none.
func (c *canaryRecord) join(engine *compat.Engine, now time.Time) (*compat.Proof, string) {
	from, to := c.Source.Inventory, c.Target.Inventory
	for _, half := range []struct {
		inv *inventory.Inventory
		end *api.CanaryEnd
	}{{from, &c.From}, {to, &c.To}} {
		if half.inv == nil || half.inv.Host.Name != half.end.Host || half.inv.Validate() != nil {
			return nil, half.end.Host + ": what its agent says of the host makes no sense"
		}
	}
	if len(from.Devices) != 1 || from.Devices[0].Parent != c.From.Parent || from.Devices[0].Type != c.From.Type {
		return nil, c.From.Host + ": its agent recorded another device than was ordered"
	}
	source := engine.Source(from, &from.Devices[0])
	target := offerOf(engine, to, c.To.Parent, c.To.Type)
	switch {
	case target == nil:
		return nil, c.To.Host + ": its agent tried another type than was ordered"
	case source.Build().ID != c.From.Build:
		return nil, c.From.Host + ": the driver is another build now than when this was ordered"
	case target.Build().ID != c.To.Build:
		return nil, c.To.Host + ": the driver is another build now than when this was ordered"
	}
	p, err := engine.About(source, target)
	if err != nil {
		return nil, err.Error()
	}
	o := c.Target.Outcome
	p.Grade, p.Result, p.Controls, p.Tries, p.Verified, p.Detail = o.Grade, o.Result, o.Controls, o.Tries, o.Verified, o.Detail
	p.Time, p.Log = now.Truncate(time.Second), slices.Concat(c.Source.Log, c.Target.Log)
	return &p, ""
}

// offerOf is what a host offers there, nil for nothing.
func offerOf(engine *compat.Engine, inv *inventory.Inventory, parent string, name inventory.TypeName) *compat.Offer {
	for _, o := range engine.Offers(inv) {
		if o.Parent() == parent && o.Type().TypeName == name {
			return o
		}
	}
	return nil
}

// orders are what a host has to do for it.
func (c *canaryRecord) orders(host string) []api.CanaryOrder {
	var list []api.CanaryOrder
	for _, role := range []api.CanaryRole{api.CanarySource, api.CanaryTarget} {
		end, _ := c.end(role)
		if end.Host != host || end.Clear {
			continue
		}
		o := api.CanaryOrder{
			Canary: c.ID, Step: c.Step, Role: role, End: c.State.Over(), Parent: end.Parent, Type: end.Type, Tries: c.Tries,
			Phase: end.Phase, Deadline: c.Deadline, Token: c.Token,
		}
		other, there := c.end(api.CanarySource)
		ready := c.reached(api.CanarySource, api.CanaryRecorded)
		if role == api.CanarySource {
			other, there = c.end(api.CanaryTarget)
			ready = c.reached(api.CanaryTarget, api.CanaryListening)
			o.Address = there.Address
		}
		if ready && !o.End {
			o.Peer = &api.CanaryPeer{Host: other.Host, Parent: other.Parent, Type: other.Type, Serial: there.Serial}
		}
		list = append(list, o)
	}
	return list
}

// holds are the ends at which it holds room on a host.
func (c *canaryRecord) holds(host string) []*api.CanaryEnd {
	var list []*api.CanaryEnd
	for _, end := range []*api.CanaryEnd{&c.From, &c.To} {
		if end.Host == host && !end.Clear {
			list = append(list, end)
		}
	}
	return list
}

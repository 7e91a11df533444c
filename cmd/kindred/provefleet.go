// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/client"
	"kindred/compat"
	"kindred/fleet"
)

// runFleet has the server order canaries between hosts.
func (o *proveOptions) runFleet(cmd *cobra.Command, c *client.Client) error {
	for _, name := range []string{"catalogs", "proofs", "proof-keys", "scratch"} {
		if cmd.Flags().Changed(name) {
			return usage(cmd, fmt.Errorf("--%s goes with --local: agents and the server have their own", name))
		}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second one ends the process: the server's order is cancelled by then
	if o.missing {
		return o.runFleetMissing(ctx, cmd, c)
	}
	if o.from == "" || o.to == "" {
		return usage(cmd, errors.New("the server orders canaries between two hosts: both --from and --to are needed, or --local for parents of this host"))
	}
	made, err := o.order(ctx, cmd, c, &api.CanaryRequest{From: spotOf(o.from), To: spotOf(o.to), Type: o.typ, ToType: o.toType, Tries: o.tries, TTL: api.Duration(o.ttl)})
	if err != nil {
		return err
	}
	list := []proved{made}
	if err := o.output.print(cmd, list, func() { printOrdered(cmd, list) }); err != nil {
		return err
	}
	return orderedExit(list, 0)
}

// spotOf is HOST or HOST/PARENT.
func spotOf(text string) api.CanarySpot {
	host, parent, _ := strings.Cut(text, "/")
	return api.CanarySpot{Host: host, Parent: parent}
}

// awhile is how long agents are waited for that remove what they made.
const awhile = time.Minute

// order orders one proof and waits until it is made. The error is that none was.
func (o *proveOptions) order(ctx context.Context, cmd *cobra.Command, c *client.Client, r *api.CanaryRequest) (proved, error) {
	// An interrupt does not end this: whether it was ordered would not be known.
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), awhile)
	one, err := c.CreateCanary(asking, "", r)
	cancel()
	if err != nil {
		return proved{}, refusal(err)
	}
	p := newProgress(cmd.ErrOrStderr())
	defer p.end()
	one, err = awaitCanary(ctx, c, one, func(c *api.Canary) bool { p.say(canaryText(c)); return c.State.Over() })
	if ctx.Err() != nil {
		return proved{}, cancelCanary(cmd, c, one, p)
	}
	if err == nil && !cleared(one) {
		p.say("removing the canaries")
		soon, cancel := context.WithTimeout(ctx, awhile/6)
		one, _ = awaitCanary(soon, c, one, cleared) // the agents go on without us
		cancel()
	}
	switch {
	case err != nil:
		return proved{}, fmt.Errorf("canary order %s: %w; it goes on, and ends by itself: kindred proof list has what comes of it", one.ID, refusal(err))
	case one.State != api.CanarySettled:
		return proved{}, &exitError{exitFailed, fmt.Errorf("canary order %s: %s: %s: %s", one.ID, one.State, orDash(string(one.Code)), one.Reason)}
	}
	m := proved{Order: one}
	if one.Proof != "" {
		m.Proof, err = orderedProof(ctx, c, one)
	}
	return m, refusal(err)
}

// orderedProof is the proof that an order made.
func orderedProof(ctx context.Context, c *client.Client, one *api.Canary) (*compat.Proof, error) {
	key, _, _ := strings.Cut(one.Proof, "/")
	list, err := c.Proofs(ctx, api.ProofFilter{Key: key})
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(list, func(k api.KeptProof) bool { return k.ID == one.Proof }); i >= 0 {
		return &list[i].Proof, nil
	}
	return nil, fmt.Errorf("the server does not have the proof %s that its order %s made", one.Proof, one.ID)
}

// cancelCanary ends an order that nobody waits for any more, and waits until the
// agents have removed what they made.
func cancelCanary(cmd *cobra.Command, c *client.Client, one *api.Canary, p *progress) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), awhile)
	defer cancel()
	cancelled, err := c.CancelCanary(ctx, one.ID)
	if err == nil {
		p.say("removing the canaries")
		cancelled, err = awaitCanary(ctx, c, cancelled, cleared)
	}
	if err != nil {
		return &exitError{exitInterrupt, fmt.Errorf("interrupted; canary order %s: %w; its agents remove what they made when they know of it", one.ID, refusal(err))}
	}
	return &exitError{exitInterrupt, fmt.Errorf("interrupted; canary order %s is %s and all canaries are removed", cancelled.ID, cancelled.State)}
}

// cleared reports whether no canary is left anywhere.
func cleared(c *api.Canary) bool { return c.From.Clear && c.To.Clear }

// awaitCanary waits until an order is as wanted, whatever happens to the server
// meanwhile.
func awaitCanary(ctx context.Context, c *client.Client, one *api.Canary, wanted func(*api.Canary) bool) (*api.Canary, error) {
	for !wanted(one) {
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return one, context.Cause(ctx)
		}
		next, err := c.Canary(ctx, one.ID)
		p, refused := errors.AsType[*api.Problem](err)
		switch {
		case err == nil:
			one = next
		case ctx.Err() != nil:
			return one, context.Cause(ctx)
		case refused && p.Code != api.Unavailable:
			return one, err
		case time.Now().After(one.Deadline):
			return one, err
		}
	}
	return one, nil
}

// canaryText is what an order is at.
func canaryText(c *api.Canary) string {
	end := func(e *api.CanaryEnd, waits string) string {
		if e.Phase == "" {
			return e.Host + " " + waits
		}
		return e.Host + " " + string(e.Phase)
	}
	text := fmt.Sprintf("%s: %s, %s", c.From.Type.Full(), end(&c.From, "begins"), end(&c.To, "waits"))
	if c.Begun > 1 {
		text += fmt.Sprintf(", again (%s)", c.Reason)
	}
	return text
}

// missingOrders is what prove --missing did with a server, for -o json.
type missingOrders struct {
	Made []proved       `json:"made"`
	Open []openProof    `json:"open"` // not made, with why
	All  []fleet.Canary `json:"missing"`
}

// openProof is a proof that could not be made.
type openProof struct {
	Key string `json:"key"`
	Why string `json:"why"`
}

func (o *proveOptions) runFleetMissing(ctx context.Context, cmd *cobra.Command, c *client.Client) error {
	missing, err := c.MissingProofs(ctx)
	if err != nil {
		return refusal(err)
	}
	answer := missingOrders{Made: []proved{}, Open: []openProof{}, All: missing.Missing}
	for _, m := range missing.Missing {
		why := "not ordered: --dry-run"
		if m.Canaries == compat.CanariesUnsafe {
			why = "the catalog says that canaries are unsafe"
		} else if !o.dryRun {
			made, err := o.order(ctx, cmd, c, &api.CanaryRequest{
				From: api.CanarySpot{Host: m.From}, To: api.CanarySpot{Host: m.To}, Type: m.SourceType.Full(), ToType: m.TargetType.Full(), Tries: o.tries, TTL: api.Duration(o.ttl),
			})
			if ctx.Err() != nil {
				return err
			}
			if err == nil && made.Proof != nil && made.Proof.Key() == m.Key {
				answer.Made = append(answer.Made, made)
				continue
			}
			why = "the hosts are of other builds by now"
			if err != nil {
				why = err.Error()
			}
		}
		answer.Open = append(answer.Open, openProof{m.Key, why})
	}
	if err := o.output.print(cmd, answer, func() { printFleetMissing(cmd, &answer, missing.Silent) }); err != nil {
		return err
	}
	return orderedExit(answer.Made, len(answer.Open))
}

// orderedExit is the worst of what was made, and unknown while some are open.
func orderedExit(made []proved, open int) error {
	for _, m := range made {
		if m.Order.Result == compat.Rejected {
			return &exitError{code: exitNo}
		}
		if m.Order.Result != compat.Accepted || m.Order.Reason != "" { // or it settles nothing
			open++
		}
	}
	if open > 0 {
		return &exitError{code: exitUnknown}
	}
	return nil
}

func printOrdered(cmd *cobra.Command, made []proved) {
	var whole []proved
	for _, m := range made {
		if m.Proof != nil {
			whole = append(whole, m)
			continue
		}
		cmd.Printf("canary order %s: %s: %s\n", m.Order.ID, m.Order.Result, clean(m.Order.Detail))
	}
	if len(whole) > 0 {
		printProofs(cmd, whole)
	}
	for _, m := range whole {
		if m.Order.Reason != "" {
			cmd.Println(strings.Join(wrap(clean(m.Order.Reason), 80), "\n"))
		}
	}
}

func printFleetMissing(cmd *cobra.Command, answer *missingOrders, silent int) {
	printOrdered(cmd, answer.Made)
	if silent > 0 {
		cmd.Printf("%s not report: nothing is known of what they wait for.\n", pluralDo(silent))
	}
	if len(answer.All) == 0 {
		cmd.Println("No proof is missing: no device of the fleet waits for one.")
		return
	}
	if len(answer.Open) == 0 {
		return
	}
	cmd.Printf("%s would settle the rest:\n\n", plural(len(answer.Open), "proof"))
	t := newTable("FROM", "TO", "TYPES", "DEVICES", "FREES", "WHY NOT")
	for _, open := range answer.Open {
		m := &answer.All[slices.IndexFunc(answer.All, func(m fleet.Canary) bool { return m.Key == open.Key })]
		types := m.SourceType.Full()
		if m.TargetType != m.SourceType {
			types += " as " + m.TargetType.Full()
		}
		t.add(m.From, m.To, types, fmt.Sprint(m.Devices), fmt.Sprint(m.Frees), oneLine(open.Why))
	}
	cmd.Print(t.String())
}

func pluralDo(n int) string {
	if n == 1 {
		return "1 host does"
	}
	return fmt.Sprintf("%d hosts do", n)
}

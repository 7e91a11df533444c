// SPDX-License-Identifier: Apache-2.0

package callout

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"kindred/definition"
)

// Call is one action on one device, with the callout that was found for it.
type Call struct {
	scripts *Scripts
	dev     Device
	state   state
	chosen  *script
}

// Attributes asks for the attributes of the running device.
func (c *Call) Attributes(ctx context.Context) ([]definition.Attribute, error) {
	out, err := c.run(ctx, get, attributes)
	if err != nil || out == nil {
		return nil, err
	}
	data := bytes.TrimRight(out.stdout, "\x00")
	switch string(data) {
	case "", "[{}]":
		return nil, nil
	}
	attrs, err := definition.ParseAttributes(data)
	if err != nil {
		return nil, fmt.Errorf("the attributes that %s printed for %s: %w", c.chosen.path, c.dev.UUID, err)
	}
	return attrs, nil
}

// run runs the device's callout. The first time it has to be found: it is the
// first that does not say that the type is not its own. The result is nil when
// there is none.
func (c *Call) run(ctx context.Context, e event, a Action) (*result, error) {
	if c.chosen != nil && !c.chosen.supports(e, a) {
		return nil, fmt.Errorf("the callout %s does not support %s of %s: %w", c.chosen.path, e, a, ErrRefused)
	}
	candidates := c.scripts.callouts
	if c.chosen != nil {
		candidates = []string{c.chosen.path}
	}
	var input []byte
	if e != get {
		input = c.dev.Config
	}
	for _, path := range candidates {
		out, err := c.scripts.start(ctx, path, e, a, c, input)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("the callout %s was given up: %w", path, context.Cause(ctx))
		}
		if err != nil && !out.late && !out.killed {
			c.scripts.unstarted(path, err)
			continue
		}
		if out.code == notMine && c.chosen == nil {
			continue
		}
		c.scripts.printed(path, out)
		switch {
		case out.late:
			return nil, fmt.Errorf("the callout %s: %w: %w", path, err, ErrRefused)
		case out.killed:
			// mdevctl goes on: nobody knows whether the type was its own.
			c.scripts.show(fmt.Sprintf("the callout %s was killed: %v", path, err))
			continue
		case out.code != 0:
			return nil, fmt.Errorf("the callout %s failed with code %d: %w", path, out.code, ErrRefused)
		}
		if c.chosen == nil {
			c.chosen = unversioned(path)
		}
		return &out, nil
	}
	return nil, nil
}

// offered is what Kindred asks versioned callouts to support, as mdevctl does
// since 1.3.0.
const offered = `{"provides":{"version":2,"actions":["start","stop","define","undefine","modify","attributes","capabilities"],"events":["pre","post","notify","get","live"]}}`

// versioned finds the callout that answers get/capabilities for the device's
// parent and type, or nil. It is asked for once for all devices of a kind.
func (s *Scripts) versioned(ctx context.Context, dev Device) (*script, error) {
	k := kind{dev.Parent, dev.Type}
	s.mu.Lock()
	ask := s.versions[k]
	if ask == nil {
		ask = sync.OnceValues(func() (*script, error) { return s.askVersions(ctx, dev) })
		s.versions[k] = ask
	}
	s.mu.Unlock()
	return ask()
}

func (s *Scripts) askVersions(ctx context.Context, dev Device) (*script, error) {
	c := &Call{scripts: s, dev: dev, state: stateNone}
	for _, path := range s.callouts {
		out, err := s.start(ctx, path, get, capabilities, c, []byte(offered))
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("the callout %s was given up: %w", path, context.Cause(ctx))
		case err != nil && !out.late && !out.killed:
			s.unstarted(path, err)
		case out.late:
			s.unstarted(path, err)
		case out.killed || out.code == notMine:
		default:
			if found := parseSupports(path, out.stdout); found != nil {
				s.printed(path, out)
				return found, nil
			}
		}
	}
	return nil, nil
}

// parseSupports reads the answer to get/capabilities. Anything else than one
// is the answer of a callout that knows nothing of versions.
func parseSupports(path string, data []byte) *script {
	var answer struct {
		Supports *struct {
			Version *uint32   `json:"version"`
			Actions *[]Action `json:"actions"`
			Events  *[]event  `json:"events"`
		} `json:"supports"`
	}
	if json.Unmarshal(bytes.TrimRight(data, "\x00"), &answer) != nil || answer.Supports == nil {
		return nil
	}
	sup := answer.Supports
	if sup.Version == nil || sup.Actions == nil || sup.Events == nil {
		return nil
	}
	return &script{path, *sup.Actions, *sup.Events}
}

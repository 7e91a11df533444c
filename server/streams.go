// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"kindred/api"
	"kindred/inventory"
	"kindred/server/store"
	"kindred/trust"
)

// quiet is after how long a stream that has nothing to say says so: whoever
// listens knows by it that the server is there. It hears so twice before it gives up
// (package client: 35 s), and there are as many of these streams as hosts.
const quiet = 15 * time.Second

// stream writes server-sent events.
type stream struct {
	w    http.ResponseWriter
	flow *http.ResponseController
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	s := &stream{w, http.NewResponseController(w)}
	// The bound on reading a request would end the stream. Not every connection
	// has deadlines; on one without there is none to be lifted.
	_ = s.flow.SetReadDeadline(time.Time{})
	return s
}

// send writes one event. Who does not read for as long as this is given up.
func (s *stream) send(text string) error {
	// Not every connection has deadlines; one without is bounded by its client.
	_ = s.flow.SetWriteDeadline(time.Now().Add(3 * quiet))
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.flow.Flush()
}

func (s *stream) event(kind string, revision int64, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	return s.send(eventText(kind, revision, text))
}

func eventText(kind string, revision int64, data []byte) string {
	return fmt.Sprintf("event: %s\nid: %d\ndata: %s\n\n", kind, revision, data)
}

func (s *stream) idle() error { return s.send(": quiet\n\n") }

// registerStreams adds what is not one answer.
func (s *Server) registerStreams(a huma.API, mux *http.ServeMux) {
	describe := func(id, path, summary string, item reflect.Type, params ...*huma.Param) {
		o := op(id, http.MethodGet, path, summary)
		o.Parameters = params
		for _, name := range strings.Split(path, "/") {
			if strings.HasPrefix(name, "{") {
				o.Parameters = append(o.Parameters, &huma.Param{Name: strings.Trim(name, "{}"), In: "path", Required: true, Schema: &huma.Schema{Type: "string"}})
			}
		}
		o.Responses = map[string]*huma.Response{"200": {
			Description: "server-sent events; the data of each is as described",
			Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: a.OpenAPI().Components.Schemas.Schema(item, true, id)}},
		}}
		a.OpenAPI().AddOperation(&o)
	}
	describe("watch-assignments", api.PathAssignments, "What an agent has to do: the whole list at first and at each change", reflect.TypeFor[api.Assignments]())
	text := &huma.Schema{Type: "string"}
	describe("watch-events", api.PathEvents, "What changes", reflect.TypeFor[api.Event](),
		&huma.Param{Name: "kinds", In: "query", Schema: text, Description: "of host, device, claim, migration, canary, drain; comma-separated; empty: all"},
		&huma.Param{Name: api.HeaderLast, In: "header", Schema: text, Description: "go on after this revision; empty: from now"})
	mux.HandleFunc("GET "+api.PathEvents, s.serveEvents)
}

// serveAssignments answers an agent for as long as it listens. A goroutine keeps
// the stack that it needed once, and there are as many of these as agents: all but
// waiting is done apart.
func (s *Server) serveAssignments(w http.ResponseWriter, r *http.Request) {
	a := &assigning{server: s, host: r.PathValue("name")}
	apart(func() { a.begin(w, r) })
	for a.going {
		idle := time.NewTimer(quiet)
		select {
		case <-a.moved:
			apart(a.tell)
		case <-idle.C:
			apart(a.idle)
		case <-r.Context().Done():
			a.going = false
		}
		idle.Stop()
	}
}

// assigning is a stream of what one host has to do.
type assigning struct {
	server *Server
	host   string
	peer   trust.Identity
	out    *stream
	last   string          // what was told
	moved  <-chan struct{} // closed when there may be news
	going  bool
}

func (a *assigning) begin(w http.ResponseWriter, r *http.Request) {
	id, err := a.server.identify(r)
	if err == nil {
		err = mayTouch(WithIdentity(r.Context(), id), a.host)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	a.peer, a.out = id.peer, newStream(w)
	a.tell()
}

// tell says what there is to do, if that is news.
func (a *assigning) tell() {
	if a.going = a.server.revoked(a.peer) == nil; !a.going {
		return // it is refused when it comes again
	}
	var list *api.Assignments
	list, a.moved = a.server.Assignments(a.host)
	if text := string(encode([]any{list.Assignments, list.Canaries})); text != a.last {
		a.going = a.out.send(eventText("assignments", list.Revision, encode(list))) == nil
		a.last = text
	}
}

// idle looks again, and says so if there is nothing new.
func (a *assigning) idle() {
	told := a.last
	if a.tell(); a.going && a.last == told {
		a.going = a.out.idle() == nil
	}
}

// apart does something in a goroutine of its own and waits for it.
func apart(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	<-done
}

func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	if err := admin(r.Context()); err != nil {
		refuse(w, err)
		return
	}
	kinds := api.EventKinds
	if text := r.URL.Query().Get("kinds"); text != "" {
		kinds = nil
		for _, k := range strings.Split(text, ",") {
			if !slices.Contains(api.EventKinds, api.EventKind(k)) {
				refuse(w, api.NewProblem(api.BadRequest, "unknown kind of event %q: it is one of host, device, claim, migration, canary, drain", k))
				return
			}
			kinds = append(kinds, api.EventKind(k))
		}
	}
	after := s.view.current()
	if text := r.Header.Get(api.HeaderLast); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			refuse(w, api.NewProblem(api.BadRequest, "%s: %q is no revision", api.HeaderLast, text))
			return
		}
		if n > after { // this server is late, or that was another store's
			now, err := s.store.Revision(r.Context())
			if err != nil {
				refuse(w, problem(err))
				return
			}
			if n > now {
				_ = newStream(w).event(string(api.ResetEvent), now, api.Event{Kind: api.ResetEvent, Revision: now}) // the client lists anew, and comes again
				return
			}
		}
		after = n
	}
	s.events(r.Context(), newStream(w), kinds, after)
}

// events sends changes as they come, straight from the store: any server can go
// on where another one stopped.
func (s *Server) events(ctx context.Context, out *stream, kinds []api.EventKind, after int64) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type batch struct {
		changes  []store.Record
		revision int64
	}
	batches := make(chan batch)
	ended := make(chan error, 1)
	go func() {
		ended <- s.store.Watch(ctx, "", after, func(changes []store.Record, revision int64) error {
			select {
			case batches <- batch{changes, revision}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	if out.idle() != nil {
		return
	}
	devices := make(map[string][]inventory.Device)
	idle := time.NewTicker(quiet)
	defer idle.Stop()
	for s.revoked(who(ctx).peer) == nil {
		select {
		case b := <-batches:
			if !s.view.wait(ctx, b.revision, requestWait) {
				return // the client comes again, to a server that is there
			}
			for i := range b.changes {
				for _, e := range s.eventsOf(&b.changes[i], devices) {
					if slices.Contains(kinds, e.Kind) && out.event(string(e.Kind), e.Revision, e) != nil {
						return
					}
				}
			}
		case err := <-ended:
			if errors.Is(err, store.ErrCompacted) {
				_ = out.event(string(api.ResetEvent), s.view.current(), api.Event{Kind: api.ResetEvent, Revision: s.view.current()})
			}
			return
		case <-idle.C:
			if out.idle() != nil {
				return
			}
		}
	}
}

// eventsOf are the events that a change of the store is.
func (s *Server) eventsOf(r *store.Record, devices map[string][]inventory.Device) []api.Event {
	kind, name, _ := strings.Cut(r.Key, "/")
	e := api.Event{Revision: r.Revision, Name: name, Gone: r.Gone}
	switch kind {
	case store.Host, store.Live:
		e.Kind = api.HostEvent
		s.view.mu.RLock()
		if h := s.view.hosts[name]; h != nil {
			e.Host = new(s.view.describe(name))
		}
		s.view.mu.RUnlock()
		if kind != store.Host {
			return []api.Event{e}
		}
		rec, err := decodeHost(r)
		if err != nil {
			return []api.Event{e}
		}
		var now []inventory.Device
		if rec.Own != nil {
			now = rec.Own.Devices
		}
		list := append([]api.Event{e}, deviceEvents(r, name, devices[name], now)...)
		devices[name] = now
		return list
	case store.Claim:
		var c claimRecord
		if decode(r, &c) != nil {
			return nil
		}
		c.at(r)
		e.Kind = api.ClaimEvent
		if !r.Gone {
			e.Claim = &c.Claim
		}
	case store.Migration:
		var m migrationRecord
		if decode(r, &m) != nil {
			return nil
		}
		m.Revision = r.Revision
		e.Kind = api.MigrationEvent
		if !r.Gone {
			e.Migration = &m.Migration
		}
	case store.Canary:
		var c canaryRecord
		if decode(r, &c) != nil {
			return nil
		}
		c.Revision = r.Revision
		e.Kind = api.CanaryEvent
		if !r.Gone {
			e.Canary = &c.Canary
		}
	case store.Drain:
		var d drainRecord
		if decode(r, &d) != nil {
			return nil
		}
		d.Revision = r.Revision
		e.Kind = api.DrainEvent
		if !r.Gone {
			e.Drain = s.view.shown(&d)
		}
	default:
		return nil
	}
	return []api.Event{e}
}

// deviceEvents are the devices that differ from what the stream told last.
func deviceEvents(r *store.Record, host string, before, now []inventory.Device) []api.Event {
	old := make(map[string]string, len(before))
	for i := range before {
		old[before[i].ID] = string(encode(&before[i]))
	}
	var list []api.Event
	for i := range now {
		d := &now[i]
		if old[d.ID] != string(encode(d)) {
			list = append(list, api.Event{Revision: r.Revision, Kind: api.DeviceEvent, Name: host + "/" + d.ID, Device: d})
		}
		delete(old, d.ID)
	}
	for i := range before {
		if _, gone := old[before[i].ID]; gone {
			list = append(list, api.Event{Revision: r.Revision, Kind: api.DeviceEvent, Name: host + "/" + before[i].ID, Gone: true})
		}
	}
	return list
}

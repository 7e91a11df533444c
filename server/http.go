// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"kindred/api"
	"kindred/fleet"
	"kindred/inventory"
)

// Handler is the API over HTTP.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	s.register(mux)
	m := newMetrics(s.view)
	mux.Handle("GET "+api.PathMetrics, m.handler())
	mux.Handle("GET "+api.PathProfiles, profiles())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, api.NewProblem(api.NotFound, "%s %s: %s lists what can be asked", r.Method, r.URL.Path, api.PathOpenAPI))
	})
	// What every agent has open as long as it lives waits on a short stack: none of
	// what other requests go through is below it.
	first := http.NewServeMux()
	first.HandleFunc("GET "+api.PathAssignments, s.serveAssignments)
	first.Handle("/", s.admit(gathered(m.timed(mux))))
	return first
}

// admit lets nobody in who is not known, but to the paths that are for them.
func (s *Server) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := s.identify(r)
		if err != nil && r.URL.Path != api.PathOpenAPI && r.URL.Path != api.PathJoin {
			refuse(w, err)
			return
		}
		if who(r.Context()) != id {
			r = r.WithContext(WithIdentity(r.Context(), id))
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers with a problem.
func refuse(w http.ResponseWriter, err error) {
	p := refused(err)
	w.Header().Set("Content-Type", api.ProblemType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // who does not listen needs no answer
}

func refused(err error) *api.Problem {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return p
	}
	return api.NewProblem(api.Internal, "%v", err)
}

var problems sync.Once

// asProblem makes the framework's own refusals problems of ours.
func asProblem() {
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		code := api.BadRequest
		switch {
		case status == http.StatusRequestEntityTooLarge:
			code = api.TooBig
		case status == http.StatusNotFound:
			code = api.NotFound
		case status >= 500:
			code = api.Internal
		}
		p := api.NewProblem(code, "%s", message)
		for _, err := range errs {
			if p2, ok := errors.AsType[*api.Problem](err); ok {
				return p2
			}
			cause := api.Cause{Text: err.Error()}
			if d, ok := err.(huma.ErrorDetailer); ok {
				cause = api.Cause{Subject: d.ErrorDetail().Location, Text: d.ErrorDetail().Message}
			}
			p.Reasons = append(p.Reasons, cause)
		}
		return p
	}
}

// schemas makes the framework's registry know our types: values in three
// states are text or null, and types of one name in several packages differ.
func schemas() huma.Registry {
	r := huma.NewMapRegistry("#/components/schemas/", func(t reflect.Type, hint string) string {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		pkg := t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:]
		if pkg == "api" || pkg == "" || pkg == "server" {
			return huma.DefaultSchemaNamer(t, hint)
		}
		return strings.ToUpper(pkg[:1]) + pkg[1:] + huma.DefaultSchemaNamer(t, hint)
	})
	r.RegisterTypeAlias(reflect.TypeFor[inventory.Value](), reflect.TypeFor[*string]())
	return r
}

// register adds every operation.
func (s *Server) register(mux *http.ServeMux) huma.API {
	problems.Do(asProblem)
	config := huma.DefaultConfig("Kindred", api.Version)
	config.OpenAPI.Components.Schemas = schemas()
	config.Formats = formats()
	config.Info.Description = "Where a virtual machine's assigned devices can live-migrate to, room held there, and migrations. docs/fleet.md explains it."
	config.CreateHooks, config.DocsPath, config.SchemasPath, config.OpenAPIPath = nil, "", "", strings.TrimSuffix(api.PathOpenAPI, ".json")
	a := humago.New(mux, config)
	s.registerHosts(a)
	s.registerQuestions(a)
	s.registerClaims(a)
	s.registerMigrations(a)
	s.registerDrains(a)
	s.registerTrust(a)
	s.registerStreams(a, mux)
	return a
}

type none struct{}

// NameOf, Page, OneOf, Keyed and Listed are what several requests have in
// common. The framework sees exported types alone.
type NameOf struct {
	Name string `path:"name"`
}

// Page is one of many.
type Page struct {
	After string `query:"after" doc:"begin after this one"`
	Limit int    `query:"limit" minimum:"0" maximum:"1000"`
}

type answer[T any] struct{ Body T }

func op(id, method, path, summary string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, MaxBodyBytes: api.MaxBody,
		Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
	}
}

// get registers a question that administrators may ask.
func get[I, O any](a huma.API, id, path, summary string, ask func(context.Context, *I) (O, error)) {
	do(a, op(id, http.MethodGet, path, summary), ask)
}

func do[I, O any](a huma.API, o huma.Operation, ask func(context.Context, *I) (O, error)) {
	doIf(a, o, func(ctx context.Context, _ *I) error { return admin(ctx) }, ask)
}

// doIf registers what others than administrators may ask too.
func doIf[I, O any](a huma.API, o huma.Operation, may func(context.Context, *I) error, ask func(context.Context, *I) (O, error)) {
	huma.Register(a, o, func(ctx context.Context, in *I) (*answer[O], error) {
		if err := may(ctx, in); err != nil {
			return nil, refused(err)
		}
		out, err := ask(ctx, in)
		if err != nil {
			return nil, later(refused(err))
		}
		return &answer[O]{out}, nil
	})
}

// later says when to try again what is refused for the moment.
func later(p *api.Problem) error {
	if p.Code != api.TooBusy && p.Code != api.Unavailable {
		return p
	}
	return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {"1"}})
}

func (s *Server) registerHosts(a huma.API) {
	get(a, "list-hosts", api.PathHosts, "Every host that has reported, by name", func(_ context.Context, in *Page) (*api.Hosts, error) { return s.Hosts(in.After, in.Limit), nil })
	get(a, "show-host", api.PathHost, "One host, with its inventory", func(_ context.Context, in *NameOf) (*api.HostDetail, error) { return s.Host(in.Name) })
	do(a, op("forget-host", http.MethodDelete, api.PathHost, "Forget a host that is no more: it is silent, and nothing is under way on it"), func(ctx context.Context, in *NameOf) (*api.Health, error) {
		return s.Health(), s.Forget(ctx, in.Name)
	})
	do(a, op("lose-host", http.MethodPost, api.PathLost, "Say that a silent host is gone for good: no migration waits for it any more"), func(ctx context.Context, in *NameOf) (*api.Health, error) {
		return s.Health(), s.Lost(ctx, in.Name)
	})
	agent := func(id, method, path, summary string) huma.Operation {
		o := op(id, method, path, summary)
		o.SkipValidateBody = true // an agent that is newer may say more
		return o
	}
	long := func(id, path, summary string) huma.Operation {
		o := agent(id, http.MethodPut, path, summary)
		o.MaxBodyBytes, o.Middlewares = api.MaxStatic, huma.Middlewares{acceptGzip}
		o.Description = "The body may come with the Content-Encoding " + api.Gzip + "."
		return o
	}
	huma.Register(a, long("report", api.PathReport, "An agent's report of its host"), func(ctx context.Context, in *struct {
		NameOf
		Body api.Report
	}) (*answer[*api.ReportAnswer], error) {
		return speak(ctx, in.Name, func() (*api.ReportAnswer, error) { return s.report(ctx, in.Name, &in.Body, stored(ctx, &in.Body)) })
	})
	huma.Register(a, agent("alive", http.MethodPost, api.PathAlive, "An agent's word that nothing changed"), func(ctx context.Context, in *struct {
		NameOf
		Body api.Alive
	}) (*answer[*api.ReportAnswer], error) {
		return speak(ctx, in.Name, func() (*api.ReportAnswer, error) { return s.Alive(ctx, in.Name, &in.Body) })
	})
	huma.Register(a, agent("status", http.MethodPost, api.PathStatus, "What an agent says of its assignments"), func(ctx context.Context, in *struct {
		NameOf
		Body api.StatusReport
	}) (*none, error) {
		_, err := speak(ctx, in.Name, func() (none, error) { return none{}, s.Status(ctx, in.Name, in.Body) })
		return nil, err
	})
	huma.Register(a, long("static", api.PathStatic, "The static part of some hosts' inventories, by its digest"), func(ctx context.Context, in *struct {
		Hash string `path:"hash"`
		Body inventory.Inventory
	}) (*none, error) {
		if id := who(ctx); !id.Admin && id.Host == "" {
			return nil, api.NewProblem(api.Forbidden, "")
		}
		if err := s.Static(ctx, in.Hash, &in.Body); err != nil {
			return nil, refused(err)
		}
		return nil, nil
	})
}

// speak does what an agent asks for its own host.
func speak[T any](ctx context.Context, host string, do func() (T, error)) (*answer[T], error) {
	if err := mayTouch(ctx, host); err != nil {
		return nil, err
	}
	out, err := do()
	if err != nil {
		return nil, refused(err)
	}
	return &answer[T]{out}, nil
}

func (s *Server) registerQuestions(a huma.API) {
	do(a, op("targets", http.MethodPost, api.PathTargets, "Which hosts a device can move to, and why not the others"), func(_ context.Context, in *struct{ Body api.TargetsRequest }) (*fleet.Targets, error) {
		return s.Targets(&in.Body)
	})
	do(a, op("joint", http.MethodPost, api.PathJoint, "Which hosts all devices of one owner can move to together"), func(_ context.Context, in *struct{ Body api.JointRequest }) (*fleet.Joint, error) {
		return s.Joint(&in.Body)
	})
	s.registerLong(a)
	get(a, "health", api.PathHealth, "How this server is", func(context.Context, *none) (*api.Health, error) { return s.Health(), nil })
	s.registerProofs(a)
	s.registerCanaries(a)
}

// OneOf is one thing, at a revision if it is to be changed at that one.
type OneOf struct {
	ID    string `path:"id"`
	Match string `header:"If-Match" doc:"refuse unless it has this revision"`
}

// match is the revision that a write is for, 0 for any.
func (o *OneOf) match() (int64, error) {
	text := strings.Trim(o.Match, `"`)
	if text == "" || text == "*" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return 0, api.NewProblem(api.BadRequest, "If-Match: %q is no revision", o.Match)
	}
	return n, nil
}

// Keyed makes one thing however often it is sent.
type Keyed struct {
	Key string `header:"Idempotency-Key" maxLength:"200" doc:"the same key with the same request makes one thing"`
}

// Listed is a page of things that end.
type Listed struct {
	Page
	All bool `query:"all" doc:"also those that are over"`
}

func listed(ctx context.Context, _ *Listed) error { return known(ctx) }

func (s *Server) registerClaims(a huma.API) {
	o := op("create-claim", http.MethodPost, api.PathClaims, "Hold room on a target for all devices of one owner at once")
	do(a, o, func(ctx context.Context, in *struct {
		Keyed
		Body api.ClaimRequest
	}) (*api.Claim, error) {
		return s.CreateClaim(ctx, who(ctx).Name, in.Key, in.Body)
	})
	doIf(a, op("list-claims", http.MethodGet, api.PathClaims, "Claims, by id; a host sees those that are for it"), listed, func(ctx context.Context, in *Listed) (*api.Claims, error) {
		return s.claims(hostOf(ctx), in), nil
	})
	get(a, "show-claim", api.PathClaim, "One claim", func(ctx context.Context, in *OneOf) (*api.Claim, error) { return s.Claim(ctx, in.ID) })
	do(a, op("renew-claim", http.MethodPost, api.PathRenew, "Move a claim's deadline"), func(ctx context.Context, in *struct {
		OneOf
		Body api.Renewal
	}) (*api.Claim, error) {
		match, err := in.match()
		if err != nil {
			return nil, err
		}
		return s.Renew(ctx, in.ID, match, in.Body.TTL.Of())
	})
	do(a, op("release-claim", http.MethodDelete, api.PathClaim, "Give a claim's room back"), func(ctx context.Context, in *OneOf) (*api.Claim, error) {
		match, err := in.match()
		if err != nil {
			return nil, err
		}
		return s.Release(ctx, in.ID, match)
	})
}

func (s *Server) registerMigrations(a huma.API) {
	type begin struct {
		Keyed
		Body api.MigrationRequest
	}
	doIf(a, op("create-migration", http.MethodPost, api.PathMigrations, "Begin a migration: claim a target, or take a claim, and prepare it"),
		func(ctx context.Context, in *begin) error { return s.mayBegin(ctx, &in.Body) },
		func(ctx context.Context, in *begin) (*api.Migration, error) {
			return s.CreateMigration(ctx, who(ctx).Name, in.Key, in.Body)
		})
	doIf(a, op("list-migrations", http.MethodGet, api.PathMigrations, "Migrations, by id; a host sees those from and to it"), listed, func(ctx context.Context, in *Listed) (*api.Migrations, error) {
		return s.migrations(hostOf(ctx), in), nil
	})
	see := func(ctx context.Context, in *OneOf) error { return s.maySee(ctx, in.ID) }
	doIf(a, op("show-migration", http.MethodGet, api.PathMigration, "One migration"), see, func(ctx context.Context, in *OneOf) (*api.Migration, error) { return s.Migration(ctx, in.ID) })
	step := func(id, path, summary string, change func(context.Context, string, int64) (*api.Migration, error)) {
		take := func(ctx context.Context, in *OneOf) error { return s.mayTake(ctx, in.ID) }
		doIf(a, op(id, http.MethodPost, path, summary), take, func(ctx context.Context, in *OneOf) (*api.Migration, error) {
			match, err := in.match()
			if err != nil {
				return nil, err
			}
			return change(ctx, in.ID, match)
		})
	}
	step("hand-over-migration", api.PathHandOver, "Take the prepared devices: the VM's state may move from now on", s.HandOver)
	type completed struct {
		OneOf
		Body *api.Completion
	}
	took := func(ctx context.Context, in *completed) error { return s.mayTake(ctx, in.ID) }
	doIf(a, op("complete-migration", http.MethodPost, api.PathComplete, "The VM runs on the target: the target is the owner"), took, func(ctx context.Context, in *completed) (*api.Migration, error) {
		match, err := in.match()
		if err != nil {
			return nil, err
		}
		with := api.Completion{}
		if in.Body != nil {
			with = *in.Body
		}
		return s.CompleteWith(ctx, in.ID, match, with)
	})
	type ending struct {
		OneOf
		Body api.Abort
	}
	end := func(ctx context.Context, in *ending) error { return s.maySee(ctx, in.ID) }
	doIf(a, op("abort-migration", http.MethodPost, api.PathAbort, "The VM stays on the source: the source stays the owner"), end, func(ctx context.Context, in *ending) (*api.Migration, error) {
		match, err := in.match()
		if err != nil {
			return nil, err
		}
		return s.Abort(ctx, in.ID, match, in.Body)
	})
}

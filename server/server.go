// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"kindred/api"
	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/server/store"
	"kindred/trust"
)

// Store is where records are kept: a [store.Store], or one that a test stops.
type Store interface {
	Get(ctx context.Context, key string) (*store.Record, error)
	Read(ctx context.Context, begin string, yield func(store.Record) error) (int64, error)
	Commit(ctx context.Context, t store.Txn) (revision int64, ok bool, err error)
	CommitEach(ctx context.Context, list []store.Txn) (revision int64, ok []bool, err error)
	Watch(ctx context.Context, begin string, after int64, yield func(changes []store.Record, revision int64) error) error
	Announce(ctx context.Context, key string, value []byte) error
	Revision(ctx context.Context) (int64, error)
	Hurry(ctx context.Context) error
}

// Config is what a server is made of.
type Config struct {
	Store    Store
	Catalogs *compat.Catalogs
	// ProofKeys are the keys that are trusted now: proofs that one of them signed
	// count. It is asked whenever proofs come; nil: none is trusted.
	ProofKeys func() ([]proofs.NamedKey, error)
	Log       *slog.Logger
	Version   string
	Now       func() time.Time // nil: the clock's
	// SealKey opens the authority that signs agents' and administrators'
	// certificates; nil: this server signs none.
	SealKey *trust.SealKey
	// Interval is how often an agent is to be heard, Timeout after how long it
	// is taken for silent; 0 stands for 10 and 35 seconds.
	Interval, Timeout time.Duration
	// TTL is how long a claim holds room unless asked otherwise, MaxTTL the
	// longest; 0 stands for 10 minutes and 24 hours.
	TTL, MaxTTL time.Duration
	// Keep is how long what is over can still be read; 0 stands for a week.
	Keep time.Duration
	// Sweep is how often deadlines are looked at; 0 stands for a second, and
	// negative for never: who made the server calls [Server.Sweep].
	Sweep time.Duration
	// LongQuestions is how many questions over the whole fleet are answered at
	// once; 0 stands for as many as there are processors.
	LongQuestions int
	// DrainPatience is how long a drain that can begin nothing waits for the world
	// to change before it ends with what stays; 0 stands for a minute.
	DrainPatience time.Duration
}

// Server is one server of a fleet.
type Server struct {
	config  Config
	store   Store
	log     *slog.Logger
	now     func() time.Time
	replica string // this server's name among the others
	view    *view
	live    liveness
	writes  chan *write
	turns   turns
	unused  unused
	added   added
	courses courses
	long    chan struct{} // one for each long question that is being answered
}

// New makes a server, which knows nothing until [Server.Run] was called.
func New(c Config) *Server {
	or := func(d *time.Duration, standard time.Duration) {
		if *d == 0 {
			*d = standard
		}
	}
	or(&c.Interval, 10*time.Second)
	or(&c.Timeout, 35*time.Second)
	or(&c.TTL, 10*time.Minute)
	or(&c.MaxTTL, 24*time.Hour)
	or(&c.Keep, 7*24*time.Hour)
	or(&c.Sweep, time.Second)
	or(&c.DrainPatience, time.Minute)
	if c.LongQuestions == 0 {
		c.LongQuestions = runtime.GOMAXPROCS(0)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		config: c, store: c.Store, log: c.Log, now: c.Now, replica: rand.Text(),
		view: newView(c.Catalogs, c.Log), live: newLiveness(), writes: make(chan *write), turns: newTurns(), long: make(chan struct{}, c.LongQuestions), courses: courses{of: make(map[string]*course)},
	}
}

// Run follows the store and looks after deadlines until the context ends. ready
// is called once, when questions can be answered.
func (s *Server) Run(ctx context.Context, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { s.announce(ctx) })
	all.Go(func() { s.write(ctx) })
	all.Go(func() { s.sweep(ctx) })
	all.Go(func() { s.drains(ctx) })
	return s.follow(ctx, ready)
}

// retryAfter is how long a server waits before it asks a store again that did
// not answer.
const retryAfter = 500 * time.Millisecond

// follow loads the store and applies its changes, again and again as long as
// the store comes and goes.
func (s *Server) follow(ctx context.Context, ready func()) error {
	known := false
	for {
		revision := s.view.current()
		var err error
		if !known {
			var load []store.Record
			revision, err = s.store.Read(ctx, "", func(r store.Record) error {
				load = append(load, r)
				return nil
			})
			if err == nil {
				s.view.load(load, revision)
				known = true
				if ready != nil {
					ready()
					ready = nil
				}
			}
		}
		if err == nil {
			err = s.store.Watch(ctx, "", revision, func(changes []store.Record, revision int64) error {
				s.view.apply(changes, revision)
				return nil
			})
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, store.ErrCompacted) {
			known = false
		}
		s.log.Warn("the store is not there, trying again", "error", err)
		if !sleep(ctx, retryAfter) {
			return ctx.Err()
		}
	}
}

// announce tells the other servers of this one.
func (s *Server) announce(ctx context.Context) {
	for {
		err := s.store.Announce(ctx, store.Key(store.Replica, s.replica), []byte("{}"))
		if ctx.Err() != nil || !sleep(ctx, retryAfter) {
			return
		}
		s.log.Warn("this server is not known to the others for the moment", "error", err)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// read is one record as it is in the store at this moment, once this server has
// seen it too: what a client asks next is never answered from before.
func (s *Server) read(ctx context.Context, kind, id string) (*store.Record, error) {
	r, err := s.store.Get(ctx, store.Key(kind, id))
	switch {
	case err != nil:
		return nil, problem(err)
	case r == nil:
		return nil, api.NewProblem(api.NotFound, "%s %s", kind, id)
	case !s.view.wait(ctx, r.Revision, requestWait):
		return nil, api.NewProblem(api.Unavailable, "%s %s changed, and this server has not seen it yet", kind, id)
	}
	return r, nil
}

// commit writes, and waits until this server has seen what was written. A
// guard that did not hold is no error; the caller looks again.
func (s *Server) commit(ctx context.Context, t store.Txn) (ok bool, err error) {
	revision, ok, err := s.store.Commit(ctx, t)
	if err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		return false, problem(err)
	}
	if !ok {
		s.view.wait(ctx, revision, 100*time.Millisecond)
		return false, nil
	}
	if !s.view.wait(ctx, revision, requestWait) {
		return false, api.NewProblem(api.Unavailable, "it was written, and this server has not seen it yet")
	}
	return true, nil
}

// catchUp reports whether this server had seen at a revision all that is in the
// store now. If not, it returns when it has: what was judged is to be judged again,
// once, for that will be how things were after this was called.
func (s *Server) catchUp(ctx context.Context, seen int64) (had bool, err error) {
	revision, err := s.store.Revision(ctx)
	if err != nil {
		return false, problem(err)
	}
	if seen >= revision {
		return true, nil
	}
	if err := s.store.Hurry(ctx); err != nil {
		return false, problem(err)
	}
	if !s.view.wait(ctx, revision, requestWait) {
		return false, api.NewProblem(api.Unavailable, "this server has not seen yet what is in the store")
	}
	return false, nil
}

// requestWait bounds how long a request waits for the store's changes to arrive.
const requestWait = 10 * time.Second

// tries is how often a request whose guards did not hold is judged anew.
const tries = 64

var errContended = api.NewProblem(api.Unavailable, "others changed the same thing again and again")

// problem is the refusal for an error of the store.
func problem(err error) error {
	if errors.Is(err, store.ErrUncertain) || errors.Is(err, store.ErrUnavailable) {
		return api.NewProblem(api.Unavailable, "%v", err)
	}
	return err
}

func encode(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("a record cannot be encoded: %v", err)) // it is made of plain types
	}
	return data
}

// turns let one request at a time judge a host: others would judge in vain.
type turns struct {
	mu   sync.Mutex
	held map[string]*turn
}

type turn struct {
	mu      sync.Mutex
	waiting int
}

func newTurns() turns { return turns{held: make(map[string]*turn)} }

func (t *turns) take(name string) (done func()) {
	t.mu.Lock()
	one := t.held[name]
	if one == nil {
		one = new(turn)
		t.held[name] = one
	}
	one.waiting++
	t.mu.Unlock()
	one.mu.Lock()
	return func() {
		one.mu.Unlock()
		t.mu.Lock()
		defer t.mu.Unlock()
		if one.waiting--; one.waiting == 0 {
			delete(t.held, name)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kindred/api"
	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/fleet"
	"kindred/inventory"
	"kindred/server/store"
	"kindred/trust"
)

// liveRecord is whether a host is heard of, and by which server.
type liveRecord struct {
	State   api.HostState `json:"state"`
	Since   time.Time     `json:"since"`
	Seen    time.Time     `json:"seen"` // when it was heard last, for one that is silent
	Replica string        `json:"replica"`
}

// claimRecord and migrationRecord keep which request they came from: the same
// request with the same key is answered with them.
type claimRecord struct {
	api.Claim
	Request string `json:"request"`
}

// at is where in the store the record is. A record of a server that did not write
// the fence has the one of its beginning.
func (c *claimRecord) at(r *store.Record) {
	c.Revision = r.Revision
	if c.Fence == 0 {
		c.Fence = r.Created
	}
}

type migrationRecord struct {
	api.Migration
	Digest string `json:"digest"`
	Round  int    `json:"round,omitempty"` // of the drain that it is part of

	// What the change under way shows of the drivers; it becomes a proof.
	result   compat.Result
	detail   string
	rejected map[string]string // target's device -> the error
}

// hostState is what this server knows of a host. It does not change.
type hostState struct {
	Version, Agent string
	Mode           api.Mode
	Leftover       []string
	// What is asked of the host's own part again and again. The rest is looked up in
	// the record, which takes a tenth of the memory.
	Static  string // empty: it has not reported
	Origin  inventory.Origin
	Taken   time.Time
	Devices int

	record       []byte // as it is stored
	revision     int64
	live         liveRecord
	liveRevision int64
}

// view is what this server has seen of the store, at one revision.
type view struct {
	catalogs *compat.Catalogs
	log      *slog.Logger

	mu         sync.RWMutex
	revision   int64
	moved      chan struct{} // closed when the revision grows
	hosts      map[string]*hostState
	statics    map[string]*inventory.Inventory
	staticAt   map[string]int64 // the revisions of static parts
	claims     map[string]*claimRecord
	migrations map[string]*migrationRecord
	onTarget   map[string]map[string]bool // host -> claims that hold room on it
	onHost     map[string]map[string]bool // host -> migrations that are not over
	canaries   map[string]*canaryRecord
	onCanary   map[string]map[string]bool // host -> canary orders that hold room on it
	rooms      map[string]int64           // host -> revision
	devices    map[string]store.Record    // HOST/ID -> its claim
	replicas   map[string]bool
	revoked    map[string]trust.Revocation // by serial number, and by identity
	drains     map[string]*drainRecord
	owners     map[string][]fleet.Owner   // of drains
	ofDrain    map[string]map[string]bool // drain -> its migrations
	tallies    map[string]tally           // of each drain
	proofs     map[string]*proofs.File    // by key in the store
	engine     *compat.Engine
	index      atomic.Pointer[fleet.Index] // read without the lock: questions wait for nobody

	arrivals arrivals
	drafts   drafts

	wakeMu sync.Mutex
	wakes  map[string]chan struct{} // by host: closed when its assignments may have changed
}

func newView(catalogs *compat.Catalogs, log *slog.Logger) *view {
	v := &view{catalogs: catalogs, log: log, moved: make(chan struct{}), arrivals: newArrivals(), drafts: newDrafts(), wakes: make(map[string]chan struct{})}
	v.clear()
	v.engine = compat.NewEngine(catalogs, nil)
	v.index.Store(fleet.NewIndex(v.engine))
	return v
}

func (v *view) clear() {
	v.hosts, v.statics, v.staticAt = make(map[string]*hostState), make(map[string]*inventory.Inventory), make(map[string]int64)
	v.claims, v.migrations = make(map[string]*claimRecord), make(map[string]*migrationRecord)
	v.onTarget, v.onHost = make(map[string]map[string]bool), make(map[string]map[string]bool)
	v.canaries, v.onCanary = make(map[string]*canaryRecord), make(map[string]map[string]bool)
	v.rooms, v.devices = make(map[string]int64), make(map[string]store.Record)
	v.drains, v.owners = make(map[string]*drainRecord), make(map[string][]fleet.Owner)
	v.ofDrain, v.tallies = make(map[string]map[string]bool), make(map[string]tally)
	v.replicas, v.revoked, v.proofs = make(map[string]bool), make(map[string]trust.Revocation), make(map[string]*proofs.File)
}

// current is the revision that the view is at.
func (v *view) current() int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.revision
}

// wait waits until the view has reached a revision.
func (v *view) wait(ctx context.Context, revision int64, most time.Duration) bool {
	return v.arrivals.wait(ctx, revision, most)
}

// changed is closed at the next change after now.
func (v *view) changed() <-chan struct{} {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.moved
}

// news is closed when a host's assignments may have changed.
func (v *view) news(host string) <-chan struct{} {
	v.wakeMu.Lock()
	defer v.wakeMu.Unlock()
	if v.wakes[host] == nil {
		v.wakes[host] = make(chan struct{})
	}
	return v.wakes[host]
}

func (v *view) wake(host string) {
	v.wakeMu.Lock()
	defer v.wakeMu.Unlock()
	if c := v.wakes[host]; c != nil {
		close(c)
		delete(v.wakes, host)
	}
}

// load begins anew with all records.
func (v *view) load(records []store.Record, revision int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.clear()
	changed := make(dirty)
	for i := range records {
		v.take(&records[i], changed)
		clear(changed) // all of them are looked at, one after the other
	}
	v.read()
	v.step(revision)
	v.wakeMu.Lock()
	defer v.wakeMu.Unlock()
	for host, c := range v.wakes {
		close(c)
		delete(v.wakes, host)
	}
}

// apply takes changes, all those of a revision at once.
func (v *view) apply(changes []store.Record, revision int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	changed := make(dirty)
	proved := false
	for i := range changes {
		v.take(&changes[i], changed)
		proved = proved || strings.HasPrefix(changes[i].Key, store.Proof+"/")
	}
	if proved || v.index.Load().Outgrown() {
		v.learn(changed)
	} else {
		v.show(v.index.Load(), changed)
	}
	v.step(revision)
}

func (v *view) step(revision int64) {
	v.revision = max(v.revision, revision)
	close(v.moved)
	v.moved = make(chan struct{})
	v.arrivals.reach(v.revision)
}

// read makes the index of all hosts' records.
func (v *view) read() {
	v.engine = compat.NewEngine(v.catalogs, v.known())
	index := fleet.NewIndex(v.engine)
	loading := index.Loading()
	for name := range v.hosts {
		if own, _ := v.entry(index, name, nil); own != nil {
			if err := loading.Add(own); err != nil {
				v.log.Error("a host cannot be counted", "host", name, "error", err)
			}
		}
	}
	loading.Done()
	v.index.Store(index)
}

// learn makes the index anew: what is known of drivers changed, or it has become
// too large. Whoever asks meanwhile sees the old one, whole.
func (v *view) learn(changed dirty) {
	v.engine = compat.NewEngine(v.catalogs, v.known())
	index, err := v.index.Load().Under(v.engine)
	if err != nil {
		v.log.Error("what was learned cannot be put to use; all hosts are read again", "error", err)
		v.read()
		return
	}
	v.show(index, changed)
	v.index.Store(index)
}

// known are the proofs that count.
func (v *view) known() (list []compat.Proof) {
	for _, key := range slices.Sorted(maps.Keys(v.proofs)) {
		list = append(list, v.proofs[key].Proofs...)
	}
	return list
}

// show puts hosts into the index as they answer now.
func (v *view) show(index *fleet.Index, changed dirty) {
	var list []*inventory.Own
	var gone []string
	for name, known := range changed {
		switch own, there := v.entry(index, name, known); {
		case own != nil:
			list = append(list, own)
		case !there:
			gone = append(gone, name)
		}
	}
	if len(gone) > 0 {
		index.Remove(gone...)
	}
	if len(list) == 0 || index.Put(list...) == nil {
		return
	}
	for _, own := range list { // one of them cannot be so: the others can
		if err := index.Put(own); err != nil {
			v.log.Error("a host cannot be counted", "host", own.Host, "error", err)
		}
	}
}

// entry is what the index has of a host that is there: with the room that claims
// leave. A host that is not heard of keeps the time when it was, one that is has a
// time that never is too old; see [Server.Targets]. It is nil for one that cannot be
// counted.
func (v *view) entry(index *fleet.Index, name string, known *inventory.Own) (entry *inventory.Own, there bool) {
	h := v.hosts[name]
	if h == nil || v.statics[h.Static] == nil {
		return nil, false
	}
	if known == nil {
		known = h.own()
	}
	own := *known
	own.Taken = never
	if h.live.State != api.Reporting {
		own.Taken = h.live.Seen
	}
	static := v.statics[own.Static]
	if len(v.onTarget[name])+len(v.onCanary[name]) > 0 {
		own.Available = left(v.engine, inventory.Join(static, known), v.openOn(name), v.canariesOn(name))
	}
	if !index.Knows(own.Static) {
		if _, err := index.Static(static); err != nil {
			v.log.Error("a host cannot be counted", "host", name, "error", err)
			return nil, true
		}
	}
	return &own, true
}

// dirty are the hosts whose answer may change, with their own part where it is at
// hand.
type dirty map[string]*inventory.Own

func (d dirty) add(host string) {
	if d[host] == nil {
		d[host] = nil
	}
}

// never is a time that no inventory is older than.
var never = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

// openOn are the claims that hold room on a host, by id.
func (v *view) openOn(host string) []*claimRecord {
	var list []*claimRecord
	for _, id := range slices.Sorted(maps.Keys(v.onTarget[host])) {
		list = append(list, v.claims[id])
	}
	return list
}

// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"strings"

	"kindred/api"
	"kindred/compat/proofs"
	"kindred/fleet"
	"kindred/inventory"
	"kindred/server/store"
	"kindred/trust"
)

// take takes one record. Hosts whose answer it may change become dirty.
func (v *view) take(r *store.Record, changed dirty) {
	kind, name, _ := strings.Cut(r.Key, "/")
	var err error
	switch kind {
	case store.Static:
		err = v.takeStatic(r, name)
	case store.Host:
		err = v.takeHost(r, name, changed)
	case store.Live:
		var live liveRecord
		if err = decode(r, &live); err == nil {
			h := v.host(name)
			h.live, h.liveRevision = live, written(r)
			put(v.hosts, name, h, r.Gone && h.revision == 0)
			changed.add(name)
		}
	case store.Claim:
		err = v.takeClaim(r, name, changed)
	case store.Migration:
		err = v.takeMigration(r, name)
	case store.Canary:
		err = v.takeCanary(r, name, changed)
	case store.Drain:
		err = v.takeDrain(r, name)
	case store.Owners:
		err = v.takeOwners(r, name)
	case store.Room:
		put(v.rooms, name, written(r), r.Gone)
	case store.Device:
		put(v.devices, name, *r, r.Gone)
	case store.Replica:
		put(v.replicas, name, true, r.Gone)
	case store.Cert:
		var revocation trust.Revocation
		if !r.Gone {
			err = decode(r, &revocation)
		}
		if err == nil {
			put(v.revoked, name, revocation, r.Gone)
		}
	case store.Proof:
		var f *proofs.File
		if !r.Gone {
			if f, err = proofs.Decode(r.Value); err != nil {
				break
			}
			v.proofs[name] = f
			break
		}
		delete(v.proofs, name)
	}
	if err != nil {
		v.log.Error("a record of the store cannot be read; it is as if it were not there", "key", r.Key, "error", err)
	}
}

func put[T any](m map[string]T, name string, value T, gone bool) {
	if gone {
		delete(m, name)
		return
	}
	m[name] = value
}

// written is the revision to guard by.
func written(r *store.Record) int64 {
	if r.Gone {
		return 0
	}
	return r.Revision
}

func decode(r *store.Record, into any) error {
	if r.Gone {
		return nil
	}
	return json.Unmarshal(r.Value, into)
}

// host is a copy of what is known of a host, to be changed.
func (v *view) host(name string) *hostState {
	if h := v.hosts[name]; h != nil {
		return new(*h)
	}
	return new(hostState)
}

func (v *view) takeStatic(r *store.Record, hash string) error {
	if r.Gone {
		delete(v.statics, hash)
		delete(v.staticAt, hash)
		return nil
	}
	static := new(inventory.Inventory)
	err := unpack(r.Value, static)
	if err == nil {
		v.statics[hash], v.staticAt[hash] = static, r.Revision
	}
	return err
}

func (v *view) takeHost(r *store.Record, name string, changed dirty) error {
	var rec api.Report
	if one := v.drafts.of(r, name); one != nil {
		rec = one.rec
	} else {
		var err error
		if rec, err = decodeHost(r); err != nil {
			changed.add(name)
			return err
		}
	}
	h := v.host(name)
	h.take(&rec, r)
	put(v.hosts, name, h, r.Gone && h.liveRevision == 0)
	changed[name] = rec.Own
	return nil
}

func (v *view) takeClaim(r *store.Record, id string, changed dirty) error {
	if old := v.claims[id]; old != nil {
		drop(v.onTarget, old.Target, id)
		changed.add(old.Target)
		delete(v.claims, id)
	}
	if r.Gone {
		return nil
	}
	c := new(claimRecord)
	if err := decode(r, c); err != nil {
		return err
	}
	c.at(r)
	v.claims[id] = c
	if c.State != api.Ended {
		add(v.onTarget, c.Target, id)
		changed.add(c.Target)
	}
	return nil
}

func (v *view) takeMigration(r *store.Record, id string) error {
	if old := v.migrations[id]; old != nil {
		drop(v.onHost, old.Source, id)
		drop(v.onHost, old.Target, id)
		drop(v.ofDrain, old.Drain, id)
		v.tally(&old.Migration, -1)
		delete(v.migrations, id)
		v.wake(old.Source)
		v.wake(old.Target)
	}
	if r.Gone {
		return nil
	}
	m := new(migrationRecord)
	if err := decode(r, m); err != nil {
		return err
	}
	m.Revision = r.Revision
	v.migrations[id] = m
	if m.Drain != "" {
		add(v.ofDrain, m.Drain, id)
		v.tally(&m.Migration, 1)
	}
	if !m.State.Over() {
		add(v.onHost, m.Source, id)
		if m.Target != "" {
			add(v.onHost, m.Target, id)
		}
		v.wake(m.Source)
		v.wake(m.Target)
	}
	return nil
}

func (v *view) takeCanary(r *store.Record, id string, changed dirty) error {
	if old := v.canaries[id]; old != nil {
		for _, host := range []string{old.From.Host, old.To.Host} {
			drop(v.onCanary, host, id)
			changed.add(host)
			v.wake(host)
		}
		delete(v.canaries, id)
	}
	if r.Gone {
		return nil
	}
	c := new(canaryRecord)
	if err := decode(r, c); err != nil {
		return err
	}
	c.Revision = r.Revision
	v.canaries[id] = c
	for _, host := range []string{c.From.Host, c.To.Host} {
		if len(c.holds(host)) > 0 {
			add(v.onCanary, host, id)
		}
		changed.add(host)
		v.wake(host)
	}
	return nil
}

func (v *view) takeDrain(r *store.Record, id string) error {
	d := new(drainRecord)
	err := decode(r, d)
	d.Revision, d.begun = r.Revision, r.Created
	put(v.drains, id, d, r.Gone || err != nil)
	return err
}

func (v *view) takeOwners(r *store.Record, id string) (err error) {
	var list []fleet.Owner
	if !r.Gone {
		err = unpack(r.Value, &list)
	}
	put(v.owners, id, list, r.Gone || err != nil)
	return err
}

func add(m map[string]map[string]bool, name, id string) {
	if m[name] == nil {
		m[name] = make(map[string]bool)
	}
	m[name][id] = true
}

func drop(m map[string]map[string]bool, name, id string) {
	if delete(m[name], id); len(m[name]) == 0 {
		delete(m, name)
	}
}

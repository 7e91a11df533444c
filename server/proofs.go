// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"kindred/api"
	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/server/store"
)

// clocks of hosts may differ, but not by so much: the newest proof wins, and one
// from the future would win for ever.
const clocks = time.Hour

// AddProofs keeps proofs that a trusted key signed. They count from then on.
// Which keys are trusted is looked up each time.
func (s *Server) AddProofs(ctx context.Context, f *proofs.File) error {
	if len(f.Proofs) == 0 {
		return api.NewProblem(api.BadRequest, "there is no proof in it")
	}
	var keys []proofs.NamedKey
	if s.config.ProofKeys != nil {
		var err error
		if keys, err = s.config.ProofKeys(); err != nil {
			return fmt.Errorf("which keys are trusted: %w", err)
		}
	}
	if _, ok := f.Trusted(keys); !ok {
		return api.NewProblem(api.Forbidden, "no key that this server trusts signed it: put the signer's public key into the server's directory --proof-keys")
	}
	if f.Latest().After(s.now().Add(clocks)) {
		return api.NewProblem(api.BadRequest, "a proof in it is from the future: was a clock wrong?")
	}
	w, err := keep(f)
	if err != nil {
		return err
	}
	if len(w.Value) > api.MaxBody {
		return api.NewProblem(api.TooBig, "%d bytes of proofs signed as one, and a server keeps at most %d: put fewer into a file", len(w.Value), api.MaxBody)
	}
	_, err = s.commit(ctx, store.Txn{Then: []store.Write{w}})
	return err
}

// keep is the record of some proofs: the same file is kept once.
func keep(f *proofs.File) (store.Write, error) {
	data, err := f.Encode()
	if err != nil {
		return store.Write{}, fmt.Errorf("keep proofs: %w", err)
	}
	sum := sha256.Sum256(data)
	p := &f.Proofs[0]
	name := fmt.Sprintf("%s/%s-%x", p.Key(), p.Time.UTC().Format("20060102T150405"), sum[:4])
	return store.Write{Key: store.Key(store.Proof, name), Value: data}, nil
}

// Proofs lists those that are chosen, by id.
func (s *Server) Proofs(after string, limit int, of api.ProofFilter) *api.Proofs {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	page := &api.Proofs{Proofs: []api.KeptProof{}, Revision: s.view.revision}
	chosen := make(map[string]api.KeptProof)
	for name, f := range s.view.proofs {
		for i := range f.Proofs {
			if k := kept(name, f, i); chooses(&of, &k) {
				chosen[k.ID] = k
			}
		}
	}
	for _, id := range pageOf(chosen, after, limit, &page.Next) {
		page.Proofs = append(page.Proofs, chosen[id])
	}
	return page
}

// kept describes one of a record's proofs. Several of one file have numbers.
func kept(name string, f *proofs.File, i int) api.KeptProof {
	p := &f.Proofs[i]
	k := api.KeptProof{ID: name, Key: p.Key(), Origin: api.Imported, Proof: *p}
	if len(f.Proofs) > 1 {
		k.ID += "." + strconv.Itoa(i+1)
	}
	switch {
	case len(f.Signatures) > 0:
		k.Signer = f.Signatures[0].Name
	case p.Grade == compat.Observed:
		k.Origin = api.Observed
	default:
		k.Origin = api.Ordered
	}
	return k
}

func chooses(of *api.ProofFilter, k *api.KeptProof) bool {
	p := &k.Proof
	on := func(end *compat.ProofSide) bool { return end != nil && end.Host == of.Host }
	switch {
	case !strings.HasPrefix(k.Key, strings.ToLower(of.Key)),
		of.Type != "" && p.SourceType.Full() != of.Type && p.TargetType.Full() != of.Type,
		of.Host != "" && !on(p.Source) && !on(p.Target),
		cmp.Or(of.Result, p.Result) != p.Result:
		return false
	}
	return true
}

// ChosenProofs is a page of proofs.
type ChosenProofs struct {
	Page
	Key    string `query:"key" doc:"the beginning of a proof's key"`
	Type   string `query:"type" doc:"the source's or the target's type, by its full name"`
	Host   string `query:"host" doc:"the source's or the target's host"`
	Result string `query:"result" enum:"accepted,rejected,inconclusive"`
}

func (s *Server) registerProofs(a huma.API) {
	get(a, "list-proofs", api.PathProofs, "Proofs, by id: all that are kept count", func(_ context.Context, in *ChosenProofs) (*api.Proofs, error) {
		return s.Proofs(in.After, in.Limit, api.ProofFilter{Key: in.Key, Type: in.Type, Host: in.Host, Result: compat.Result(in.Result)}), nil
	})
	o := op("add-proofs", http.MethodPost, api.PathProofs, "Keep proofs that a trusted key signed")
	o.SkipValidateBody = true // proofs.Decode is stricter
	do(a, o, func(ctx context.Context, in *struct {
		RawBody []byte `contentType:"application/json"`
	}) (*api.Health, error) {
		f, err := proofs.Decode(in.RawBody)
		if err != nil {
			return nil, api.NewProblem(api.BadRequest, "%v", err)
		}
		return s.Health(), s.AddProofs(ctx, f)
	})
}

// observed are the proofs that a migration's end makes. Devices of one type that
// moved between the same builds prove the same: one, and of one that was refused
// and one that was not, the refusal.
func (m *migrationRecord) observed(c *claimRecord, now time.Time) ([]store.Write, error) {
	byKey := make(map[string]compat.Proof)
	for i := range c.Devices {
		result, detail := m.result, m.detail
		if text, ok := m.rejected[c.Devices[i].Device]; ok {
			result, detail = compat.Rejected, text
		}
		if result == "" || c.Devices[i].Proof == nil {
			continue
		}
		p := *c.Devices[i].Proof
		p.Grade, p.Result, p.Tries, p.Time, p.Detail = compat.Observed, result, 1, now.Truncate(time.Second), detail
		if known, ok := byKey[p.Key()]; !ok || known.Result != compat.Rejected {
			byKey[p.Key()] = p
		}
	}
	var list []store.Write
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		w, err := keep(&proofs.File{Proofs: []compat.Proof{byKey[key]}})
		if err != nil {
			return nil, err
		}
		list = append(list, w)
	}
	return list, nil
}

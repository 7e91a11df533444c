// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"kindred/api"
	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/inventory"
)

// aProof is one of some types and builds.
func aProof(typ, from, to string, result compat.Result, at time.Time) compat.Proof {
	name := inventory.TypeName{Namespace: "ns", Name: typ}
	return compat.Proof{
		SourceType: name, TargetType: name, SourceBuild: from, TargetBuild: to, Grade: compat.WorkingState, Result: result, Tries: 2, Controls: true, Time: at,
		Source: &compat.ProofSide{Host: "a", Parent: "p"}, Target: &compat.ProofSide{Host: "b", Parent: "p"},
	}
}

// TestProofKeys: a key is trusted from the moment when it is put there, and no
// longer than it is there.
func TestProofKeys(t *testing.T) {
	r := newRig(t)
	s := r.start(r.open())
	key, err := proofs.NewPrivateKey("site", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(build string, at time.Time) *proofs.File {
		f := &proofs.File{Proofs: []compat.Proof{aProof("small", build, "b2", compat.Accepted, at)}}
		if err := f.Sign(key); err != nil {
			t.Fatal(err)
		}
		return f
	}
	wantCode(t, s.AddProofs(t.Context(), signed("b1", r.now)), api.Forbidden)
	r.keys = []proofs.NamedKey{key.Public()}
	if err := s.AddProofs(t.Context(), signed("b1", r.now)); err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.AddProofs(t.Context(), signed("b1", r.now.Add(2*time.Hour))), api.BadRequest)
	long := signed("b1", r.now)
	long.Proofs[0].Detail = strings.Repeat("x", api.MaxBody)
	if err := long.Sign(key); err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.AddProofs(t.Context(), long), api.TooBig)
	r.keys = nil
	wantCode(t, s.AddProofs(t.Context(), signed("b3", r.now)), api.Forbidden)
	if list := s.Proofs("", 0, api.ProofFilter{}); len(list.Proofs) != 1 || list.Proofs[0].Origin != api.Imported || list.Proofs[0].Signer != "site" {
		t.Errorf("%+v", list)
	}
	s.config.ProofKeys = func() ([]proofs.NamedKey, error) { return nil, errors.New("the directory is gone") }
	if err := s.AddProofs(t.Context(), signed("b3", r.now)); err == nil || !strings.Contains(err.Error(), "the directory is gone") {
		t.Errorf("%v", err)
	}
}

// TestProofPages: each proof is on one page, and filters choose by what a proof
// says.
func TestProofPages(t *testing.T) {
	r := newRig(t)
	s := r.start(r.open())
	key, err := proofs.NewPrivateKey("site", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r.keys = []proofs.NamedKey{key.Public()}
	f := new(proofs.File)
	for i := range 7 {
		result := []compat.Result{compat.Accepted, compat.Rejected, compat.Inconclusive}[i%3]
		f.Proofs = append(f.Proofs, aProof([]string{"small", "large"}[i%2], fmt.Sprint("b", i), "b", result, r.now))
	}
	f.Proofs[6].Source.Host = "c"
	if err := f.Sign(key); err != nil {
		t.Fatal(err)
	}
	if err := s.AddProofs(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for after, n := "", 0; ; n++ {
		page := s.Proofs(after, 3, api.ProofFilter{})
		for _, p := range page.Proofs {
			if seen[p.ID] {
				t.Errorf("%s is on two pages", p.ID)
			}
			seen[p.ID] = true
		}
		if after = page.Next; after == "" {
			break
		}
		if n > 7 {
			t.Fatal("pages without an end")
		}
	}
	if len(seen) != 7 {
		t.Errorf("%d proofs on all pages", len(seen))
	}
	for _, c := range []struct {
		of   api.ProofFilter
		want int
	}{
		{api.ProofFilter{Result: compat.Rejected}, 2}, {api.ProofFilter{Type: "ns-small"}, 4}, {api.ProofFilter{Type: "ns-small", Result: compat.Accepted}, 2},
		{api.ProofFilter{Host: "c"}, 1}, {api.ProofFilter{Host: "b"}, 7}, {api.ProofFilter{Host: "z"}, 0}, {api.ProofFilter{Key: f.Proofs[2].Key()[:12]}, 1},
	} {
		if got := len(s.Proofs("", 0, c.of).Proofs); got != c.want {
			t.Errorf("%+v: %d, want %d", c.of, got, c.want)
		}
	}
}

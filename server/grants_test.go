// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"

	"kindred/api"
	"kindred/client"
)

// TestGrants: a host takes part in migrations to it, and sees those from it; of
// others it learns nothing, and of what no VM uses it takes nothing.
func TestGrants(t *testing.T) {
	a := newMachine("a", 6, &made{id: dev1, typ: "large", open: true}, &made{id: dev2, typ: "large"})
	r := newRig(t, a, newMachine("b", 4), newMachine("c", 4))
	s := r.start(r.open())
	r.report(s, "a", "b", "c")
	as := make(map[string]*client.Client)
	for _, name := range []string{"a", "b", "c"} {
		as[name] = serve(t, s, Identity{Name: "host:" + name, Host: name})
	}
	ctx := t.Context()
	begin := func(host, device, target string, accept ...api.Acceptance) (*api.Migration, error) {
		return as[host].CreateMigration(ctx, "", &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: []string{device}, Target: target, Accept: accept}})
	}
	_, err := begin("a", dev1, "b")
	wantCode(t, err, api.Forbidden)
	_, err = begin("b", dev1, "c")
	wantCode(t, err, api.Forbidden)
	_, err = begin("b", dev1, "")
	wantCode(t, err, api.Forbidden)
	_, err = begin("b", dev1, "b", api.Acceptance{Code: "build.unproven", Reason: "why not"})
	wantCode(t, err, api.Forbidden)
	_, err = begin("b", dev2, "b") // nobody uses it
	wantCode(t, err, api.NotInUse)
	_, err = begin("b", "no-such-device", "b")
	wantCode(t, err, api.NotFound)

	m, err := begin("b", dev1, "b")
	if err != nil {
		t.Fatal(err)
	}
	if m.By != "host:b" || m.State != api.Claimed {
		t.Errorf("it is %s by %s", m.State, m.By)
	}
	for name, c := range as {
		migrations, err := c.Migrations(ctx, false)
		if err != nil || len(migrations) != map[string]int{"a": 1, "b": 1, "c": 0}[name] {
			t.Errorf("%s sees %d migrations, %v", name, len(migrations), err)
		}
		claims, err := c.Claims(ctx, false)
		if err != nil || len(claims) != map[string]int{"a": 0, "b": 1, "c": 0}[name] {
			t.Errorf("%s sees %d claims, %v", name, len(claims), err)
		}
		if _, err := c.Migration(ctx, m.ID); name == "c" {
			wantCode(t, err, api.Forbidden)
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// What nobody but an administrator may do.
		_, err = c.CreateClaim(ctx, "", &api.ClaimRequest{Devices: []string{dev1}, Target: name})
		wantCode(t, err, api.Forbidden)
		_, err = c.Release(ctx, m.Claim)
		wantCode(t, err, api.Forbidden)
		_, err = c.Renew(ctx, m.Claim, &api.Renewal{})
		wantCode(t, err, api.Forbidden)
	}
	if err := r.machines["b"].work(ctx, s.Server); err != nil {
		t.Fatal(err)
	}
	_, err = as["a"].HandOver(ctx, m.ID)
	wantCode(t, err, api.Forbidden)
	if m, err = as["b"].HandOver(ctx, m.ID); err != nil || m.State != api.HandedOver {
		t.Fatalf("%+v, %v", m, err)
	}
	_, err = as["a"].Complete(ctx, m.ID)
	wantCode(t, err, api.Forbidden)
	_, err = as["c"].Abort(ctx, m.ID, &api.Abort{})
	wantCode(t, err, api.Forbidden)
	if m, err = as["a"].Abort(ctx, m.ID, &api.Abort{}); err != nil || m.State != api.Aborting {
		t.Fatalf("the source's word: %+v, %v", m, err)
	}
	if err := r.machines["b"].work(ctx, s.Server); err != nil {
		t.Fatal(err)
	}

	// A claim that an administrator made for it, with what it may not accept itself.
	claim, err := s.CreateClaim(ctx, "admin:x", "", api.ClaimRequest{Devices: []string{dev1}, Target: "b"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = as["c"].CreateMigration(ctx, "", &api.MigrationRequest{Claim: claim.ID})
	wantCode(t, err, api.Forbidden)
	if m, err = as["b"].CreateMigration(ctx, "", &api.MigrationRequest{Claim: claim.ID}); err != nil || m.Claim != claim.ID {
		t.Fatalf("%+v, %v", m, err)
	}
	nobody := serve(t, s, Identity{Name: "uid:1000"})
	_, err = nobody.Migrations(ctx, false)
	wantCode(t, err, api.Forbidden)
	_, err = nobody.Migration(ctx, m.ID)
	wantCode(t, err, api.Forbidden)
	_, err = nobody.CreateMigration(ctx, "", &api.MigrationRequest{Claim: claim.ID})
	wantCode(t, err, api.Forbidden)
}

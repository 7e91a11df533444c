// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindred/api"
	"kindred/client"
	"kindred/fleet"
)

const dev1, dev2 = "83b8f4f2-509f-382f-3c1e-e6bfe0fa0001", "83b8f4f2-509f-382f-3c1e-e6bfe0fa0002"

// serve offers a server over HTTP, to one who may do everything.
func serve(t *testing.T, s *running, id Identity) *client.Client {
	t.Helper()
	h := s.Handler()
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(WithIdentity(r.Context(), id)))
	}))
	t.Cleanup(hs.Close)
	c, err := client.New([]string{hs.URL}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func wantCode(t testing.TB, err error, code api.Code) {
	t.Helper()
	if !errors.Is(err, &api.Problem{Code: code}) {
		t.Errorf("got %v, want %s", err, code)
	}
}

func group(answer *fleet.Targets, host string) (fleet.Group, int) {
	for _, h := range answer.Hosts {
		if h.Host == host {
			if h.Room == nil || h.Room.Count == nil {
				return h.Group, -1
			}
			return h.Group, *h.Room.Count
		}
	}
	return "", -1
}

// TestFleet goes the way of one migration over HTTP, and looks at everything on
// it.
func TestFleet(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "large", open: true}), newMachine("b", 4), newMachine("c", 1))
	s := r.start(r.open())
	r.report(s, "a", "b", "c")
	c := serve(t, s, Identity{Name: "test", Admin: true})
	ctx := t.Context()

	hosts, err := c.Hosts(ctx)
	if err != nil || len(hosts) != 3 || hosts[0].Name != "a" || hosts[0].State != api.Reporting || hosts[0].Devices != 1 || hosts[0].Types != 2 {
		t.Fatalf("%+v, %v", hosts, err)
	}
	host, err := c.Host(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.machines["a"].inventory(), host.Inventory, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) }), cmp.AllowUnexported(host.Inventory.Host.QEMU)); diff != "" {
		t.Errorf("the inventory came back changed:\n%s", diff)
	}
	_, err = c.Host(ctx, "nobody")
	wantCode(t, err, api.NotFound)

	answer, err := c.Targets(ctx, &api.TargetsRequest{Device: "83b8"})
	if err != nil {
		t.Fatal(err)
	}
	if g, room := group(answer, "b"); g != fleet.Ready || room != 2 {
		t.Errorf("b: %s, room %d", g, room)
	}
	if g, _ := group(answer, "c"); g != fleet.Full {
		t.Errorf("c: %s", g)
	}

	claim, err := c.CreateClaim(ctx, "key", &api.ClaimRequest{Devices: []string{"83b8"}, Target: "b", Owner: "vm"})
	if err != nil {
		t.Fatal(err)
	}
	d := claim.Devices[0]
	if claim.State != api.Held || claim.Fence == 0 || d.Parent != "p" || d.Type.Full() != "ns-large" || len(d.Device) != 36 || d.Contract == nil || d.Contract.Host != "a" ||
		string(d.Definition) != `{"mdev_type":"ns-large","start":"manual","attrs":[]}` {
		t.Errorf("%+v", claim)
	}
	again, err := c.CreateClaim(ctx, "key", &api.ClaimRequest{Devices: []string{"83b8"}, Target: "b", Owner: "vm"})
	if err != nil || again.ID != claim.ID {
		t.Errorf("the same request again: %+v, %v", again, err)
	}
	_, err = c.CreateClaim(ctx, "key", &api.ClaimRequest{Devices: []string{"83b8"}, Target: "c", Owner: "vm"})
	wantCode(t, err, api.KeyReused)
	_, err = c.CreateClaim(ctx, "", &api.ClaimRequest{Devices: []string{"83b8"}, Target: "b"})
	wantCode(t, err, api.DeviceClaimed)
	answer, err = c.Targets(ctx, &api.TargetsRequest{Device: "83b8"})
	if g, room := group(answer, "b"); err != nil || g != fleet.Ready || room != 1 {
		t.Errorf("with the claim, b: %s, room %d, %v", g, room, err)
	}

	m, err := c.CreateMigration(ctx, "", &api.MigrationRequest{Claim: claim.ID})
	if err != nil || m.State != api.Claimed || m.Host != "a" {
		t.Fatalf("%+v, %v", m, err)
	}
	_, err = c.Release(ctx, claim.ID)
	wantCode(t, err, api.ClaimBound)
	_, err = c.HandOver(ctx, m.ID)
	wantCode(t, err, api.WrongState)
	work := func() {
		t.Helper()
		for _, name := range []string{"a", "b"} {
			if err := r.machines[name].work(ctx, s.Server); err != nil {
				t.Fatal(err)
			}
		}
	}
	work()
	if m, err = c.HandOver(ctx, m.ID); err != nil || m.State != api.HandedOver || m.Devices[0].Target != d.Device {
		t.Fatalf("%+v, %v", m, err)
	}
	r.machines["b"].device(d.Device).open, r.machines["a"].device(dev1).open = true, false
	if m, err = c.Complete(ctx, m.ID); err != nil || m.State != api.Completing || m.Host != "b" {
		t.Fatalf("%+v, %v", m, err)
	}
	work()
	if m, err = c.Migration(ctx, m.ID); err != nil || m.State != api.Completed {
		t.Errorf("%+v, %v", m, err)
	}
	if r.machines["a"].device(dev1) != nil || r.machines["b"].device(d.Device) == nil {
		t.Error("the devices are not where they belong")
	}
	if claim, err = c.Claim(ctx, claim.ID); err != nil || claim.State != api.Ended || claim.End != api.EndCompleted {
		t.Errorf("%+v, %v", claim, err)
	}
	list, err := c.Proofs(ctx, api.ProofFilter{Host: "a"})
	if err != nil || len(list) != 1 || list[0].Proof.Grade.String() != "observed" || list[0].Origin != api.Observed || list[0].Proof.Source.Host != "a" {
		t.Errorf("%+v, %v", list, err)
	}
	if open, err := c.Claims(ctx, false); err != nil || len(open) != 0 {
		t.Errorf("%+v, %v", open, err)
	}
}

// TestMetrics: what is counted is there, without names of hosts, for
// administrators alone.
func TestMetrics(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "small"}), newMachine("b", 4))
	s := r.start(r.open())
	r.report(s, "a", "b")
	if _, err := s.CreateClaim(t.Context(), "test", "", api.ClaimRequest{Devices: []string{dev1}, Target: "b"}); err != nil {
		t.Fatal(err)
	}
	h := s.Handler()
	get := func(path string, id Identity) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil).WithContext(WithIdentity(t.Context(), id)))
		return w
	}
	get("/v1/hosts/b", Identity{Admin: true})
	text := get(api.PathMetrics, Identity{Admin: true}).Body.String()
	for _, line := range []string{
		`kindred_hosts{state="reporting"} 2`, `kindred_claims{state="held"} 1`, `kindred_migrations{state="handed-over"} 0`, `kindred_drains{state="running"} 0`,
		`kindred_request_seconds_count{request="GET /v1/hosts/{name}",status="200"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if w := get(api.PathMetrics, Identity{Host: "a"}); w.Code != http.StatusForbidden {
		t.Errorf("an agent reads metrics: %d", w.Code)
	}
}

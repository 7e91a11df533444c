// SPDX-License-Identifier: Apache-2.0

package hosts_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kindred/agent"
	"kindred/api"
	"kindred/client"
	"kindred/compat"
	"kindred/sim"
	"kindred/sim/hosts"
	"kindred/trust"
)

// proofs is a site whose agents speak with the server, and with one another, by
// their certificates.
type proofs struct {
	*site
	credentials map[string]*trust.Credentials
	lines       map[string]*client.Client
}

// newProofs has hosts of some builds, whose agents joined.
func newProofs(t *testing.T, builds ...string) *proofs {
	t.Helper()
	s := &proofs{site: newSite(t), credentials: make(map[string]*trust.Credentials), lines: make(map[string]*client.Client)}
	serving, err := s.server.Serving(t.Context(), "server", "test", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", trust.ServerTLS(serving))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	web := &http.Server{Handler: s.server.Handler(), BaseContext: func(net.Listener) context.Context { return ctx }}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = web.Serve(l) // it is closed
	}()
	address := "https://" + l.Addr().String()
	catalog, err := compat.ParseCatalog("ksim.yaml", sim.Catalog)
	if err != nil {
		t.Fatal(err)
	}
	catalogs, err := compat.NewCatalogs(nil, []*compat.Catalog{catalog})
	if err != nil {
		t.Fatal(err)
	}
	scratch := t.TempDir()
	s.equip = func(host string, a *agent.Agent) {
		a.Fleet.(*hosts.Mortal).Fleet = s.lines[host]
		a.Canaries = &agent.Canaries{Engine: compat.NewEngine(catalogs, nil), Scratch: scratch, Credentials: s.credentials[host], Listen: "127.0.0.1:0"}
	}
	t.Cleanup(func() {
		for _, a := range s.agents {
			a.stop()
		}
		clear(s.agents)
		for host, h := range s.hosts {
			inv, err := h.Inventory(context.Background())
			if err != nil || len(inv.Devices) > 0 {
				t.Errorf("left on %s: %+v, %v", host, inv.Devices, err)
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
		cancel()
		web.Close()
		<-ended
		for _, c := range s.lines {
			c.Close()
		}
	})
	for _, build := range builds {
		build, name, named := strings.Cut(build, ":")
		if !named {
			name = build
		}
		h, err := hosts.Build(name, build, 2, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Allow(hosts.AllowAll); err != nil {
			t.Fatal(err)
		}
		s.hosts[name] = h
		if s.credentials[name], err = hosts.Join(t.Context(), s.client, address, name); err != nil {
			t.Fatal(err)
		}
		if s.lines[name], err = client.New([]string{address}, trust.ClientTLS(s.credentials[name], time.Now)); err != nil {
			t.Fatal(err)
		}
		s.run(name, 0)
	}
	s.reported()
	return s
}

// order orders a canary of the old type.
func (s *proofs) order(from, to string) *api.Canary {
	s.t.Helper()
	c, err := s.client.CreateCanary(s.t.Context(), "", &api.CanaryRequest{From: api.CanarySpot{Host: from}, To: api.CanarySpot{Host: to}, Type: "ksim-V4"})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// ends waits until an order is over, and nothing of it is left.
func (s *proofs) ends(id string) *api.Canary {
	s.t.Helper()
	var c *api.Canary
	s.waits("canary order "+id+" is over", func() bool {
		var err error
		if c, err = s.client.Canary(s.t.Context(), id); err != nil {
			s.t.Fatal(err)
		}
		return c.State.Over() && c.From.Clear && c.To.Clear
	}, func() any { return c })
	for _, host := range []string{c.From.Host, c.To.Host} {
		if left := s.devices(host); len(left) > 0 {
			s.t.Errorf("left on %s: %q", host, left)
		}
	}
	return c
}

// waits is until, with more patience: two processors may have much to do.
func (s *proofs) waits(what string, done func() bool, state func() any) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("this did not come in a minute: %s: %+v", what, state())
		}
	}
}

// TestOrders: what comes of a canary between two agents is what comes of one
// between two parents of one host, and the verdict changes with it.
func TestOrders(t *testing.T) {
	s := newProofs(t, "gen8", "rel11", "rel20", "anything", "cut")
	for _, c := range []struct {
		from, to string
		want     compat.Result
	}{
		{"gen8", "rel11", compat.Accepted},
		{"rel20", "gen8", compat.Rejected},
		{"gen8", "anything", compat.Accepted},
		{"gen8", "cut", compat.Accepted},
		{"rel11", "rel11", compat.Accepted},
	} {
		o := s.order(c.from, c.to)
		got := s.ends(o.ID)
		if got.State != api.CanarySettled || got.Result != c.want || got.Proof == "" || got.Begun != 1 {
			t.Errorf("%s to %s: %+v", c.from, c.to, got)
			continue
		}
		list, err := s.client.Proofs(t.Context(), api.ProofFilter{Host: c.to})
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(list, func(k api.KeptProof) bool { return k.ID == got.Proof })
		if i < 0 {
			t.Fatalf("%s to %s: the proof %s is not kept", c.from, c.to, got.Proof)
		}
		p := &list[i].Proof
		if list[i].Origin != api.Ordered || p.Result != c.want || !p.Controls || p.Tries != 2 || p.Source.Host != c.from || p.Target.Host != c.to || p.Grade != compat.WorkingState || !p.Simulated {
			t.Errorf("%s to %s: %+v", c.from, c.to, list[i])
		}
	}
}

// TestOrderRefused: nothing is ordered that cannot be, and nothing is tried that
// a host does not allow.
func TestOrderRefused(t *testing.T) {
	s := newProofs(t, "gen8", "gen9", "rel11")
	for _, c := range []struct {
		r    api.CanaryRequest
		want api.Code
	}{
		{api.CanaryRequest{From: api.CanarySpot{Host: "gen8"}, To: api.CanarySpot{Host: "nowhere"}, Type: "ksim-V4"}, api.NotFound},
		{api.CanaryRequest{From: api.CanarySpot{Host: "gen8"}, To: api.CanarySpot{Host: "gen9", Parent: "sim7"}, Type: "ksim-V4"}, api.NotOffered},
		{api.CanaryRequest{From: api.CanarySpot{Host: "gen8"}, To: api.CanarySpot{Host: "gen9"}, Type: "ksim-V5"}, api.NotOffered},
		{api.CanaryRequest{From: api.CanarySpot{Host: "gen8"}, To: api.CanarySpot{Host: "gen9"}, Type: "ksim-V4", ToType: "ksim-V5"}, api.NotCompatible},
		{api.CanaryRequest{From: api.CanarySpot{Host: "gen8"}, To: api.CanarySpot{Host: "gen9"}, Type: "ksim-V4", Tries: 1}, api.BadRequest},
	} {
		if got, err := s.client.CreateCanary(t.Context(), "", &c.r); !errors.Is(err, &api.Problem{Code: c.want}) {
			t.Errorf("%+v: %+v, %v; want %s", c.r, got, err, c.want)
		}
	}
	// A host's operator allows none, on either side.
	for _, forbids := range []string{"gen8", "rel11"} {
		if err := s.hosts[forbids].Allow("manage: [{parent: \"*\"}]\n"); err != nil {
			t.Fatal(err)
		}
		if got := s.ends(s.order("gen8", "rel11").ID); got.State != api.CanaryFailed || got.Code != api.CanaryForbidden || !strings.Contains(got.Reason, forbids+": canaries of ksim-V4 are not allowed on sim0") {
			t.Errorf("%s forbids: %+v", forbids, got)
		}
		if err := s.hosts[forbids].Allow(hosts.AllowAll); err != nil {
			t.Fatal(err)
		}
	}
	// The target's agent does not listen; either agent has no certificate; the
	// target's is none that another one could connect to.
	before := s.equip
	for _, c := range []struct {
		name, host string
		change     func(*agent.Agent)
		code       api.Code
	}{
		{"no listener", "rel11", func(a *agent.Agent) { a.Canaries.Listen = "" }, api.NoListener},
		{"an address that is not this host's", "rel11", func(a *agent.Agent) { a.Canaries.Listen = "192.0.2.1:1" }, api.NoListener},
		{"no certificate at the source", "gen8", func(a *agent.Agent) { a.Canaries.Credentials = nil }, api.Unauthorized},
		{"no certificate at the target", "rel11", func(a *agent.Agent) { a.Canaries.Credentials = nil }, api.Unauthorized},
		{"no canaries", "gen8", func(a *agent.Agent) { a.Canaries = nil }, api.CanaryForbidden},
		{"a line without a certificate", "gen8", func(a *agent.Agent) { a.Fleet.(*hosts.Mortal).Fleet = s.client }, api.Unauthorized},
		{"too long", "rel11", func(a *agent.Agent) { a.Canaries.MaxBytes = 1000 }, api.TooBig},
	} {
		s.equip = func(host string, a *agent.Agent) {
			if before(host, a); host == c.host {
				c.change(a)
			}
		}
		s.again(c.host, 0)
		if got := s.ends(s.order("gen8", "rel11").ID); got.State != api.CanaryFailed || got.Code != c.code || got.Proof != "" {
			t.Errorf("%s: %+v", c.name, got)
		}
		s.equip = before
		s.again(c.host, 0)
	}
	if got := s.ends(s.order("gen8", "rel11").ID); got.State != api.CanarySettled || got.Result != compat.Accepted {
		t.Errorf("at last: %+v", got)
	}
}

// TestOrderCancelled: whenever it is cancelled, nothing is left, and the room is
// free again.
func TestOrderCancelled(t *testing.T) {
	s := newProofs(t, "gen8", "rel11")
	for _, phase := range []api.CanaryPhase{"", api.CanaryWorking, api.CanaryRecorded, api.CanarySent} {
		o := s.order("gen8", "rel11")
		s.waits("the phase "+string(phase), func() bool {
			c, err := s.client.Canary(t.Context(), o.ID)
			if err != nil {
				t.Fatal(err)
			}
			return c.From.Phase == phase || c.State.Over() || phase == ""
		}, func() any { return o })
		if _, err := s.client.CancelCanary(t.Context(), o.ID); err != nil {
			t.Fatal(err)
		}
		got := s.ends(o.ID)
		if got.State != api.CanaryCancelled && got.State != api.CanarySettled {
			t.Errorf("cancelled at %q: %+v", phase, got)
		}
		again, err := s.client.CancelCanary(t.Context(), o.ID)
		if err != nil || again.State != got.State || again.Revision != got.Revision {
			t.Errorf("cancelled twice: %+v, %v", again, err)
		}
	}
}

// TestStrangers: the listener takes the one connection that was announced. No
// certificate, another one, the right one without the token or with another: none
// of them gets in or keeps the right one out, and nobody comes after it.
func TestStrangers(t *testing.T) {
	s := newProofs(t, "gen8", "rel11", "gen9")
	var tried []error
	front := listen(t)
	// The target's address is one in front of it, at which the test stands: it
	// tries the listener in all ways before it lets the source through, and after.
	address := free(t)
	before := s.equip
	s.equip = func(host string, a *agent.Agent) {
		if before(host, a); host == "rel11" {
			a.Canaries.Listen, a.Canaries.Reach = address, front.Addr().String()
		}
	}
	s.again("rel11", 0)
	target, err := s.credentials["rel11"].Identity()
	if err != nil {
		t.Fatal(err)
	}
	expects := trust.Expected{Host: "rel11", Serial: target.Serial}
	attempt := func(c *trust.Credentials, say string) error {
		config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"kindred-canary/1"}}
		if c != nil {
			config = trust.AgentClientTLS(c, expects, time.Now)
		}
		conn, err := tls.Dial("tcp", address, config)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, say); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		_, err = io.ReadFull(conn, make([]byte, 1))
		return err
	}
	done := make(chan error, 1)
	go func() {
		source, err := front.Accept()
		if err != nil {
			done <- err
			return
		}
		defer source.Close()
		long := strings.Repeat("x", 64)
		tried = append(tried, attempt(nil, long), attempt(s.credentials["gen9"], long), attempt(s.credentials["rel11"], long), attempt(s.credentials["gen8"], long))
		for range 30 { // who say nothing
			silent, err := net.Dial("tcp", address)
			if err != nil {
				done <- err
				return
			}
			defer silent.Close()
		}
		there, err := net.Dial("tcp", address)
		if err != nil {
			done <- err
			return
		}
		defer there.Close()
		back := make(chan struct{})
		go func() {
			defer close(back)
			_, _ = io.Copy(source, there)
		}()
		first := make([]byte, 64<<10)
		for sent := 0; ; { // slowly at first, so that the second comes while the first is there
			n, err := source.Read(first)
			if n > 0 {
				if _, err := there.Write(first[:n]); err != nil {
					break
				}
			}
			if sent += n; sent > 200<<10 && len(tried) == 4 {
				tried = append(tried, attempt(s.credentials["gen8"], long))
			}
			if err != nil {
				break
			}
		}
		_ = there.(*net.TCPConn).CloseWrite()
		<-back
		done <- nil
	}()
	got := s.ends(s.order("gen8", "rel11").ID)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got.State != api.CanarySettled || got.Result != compat.Accepted || got.Begun != 1 {
		t.Errorf("%+v", got)
	}
	if len(tried) != 5 {
		t.Fatalf("%d attempts", len(tried))
	}
	for i, err := range tried {
		if err == nil {
			t.Errorf("attempt %d got in", i)
		}
	}
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("somebody listens still")
	}
}

// TestOrdersTogether: many at once, in both directions, within one host, and of
// one to itself: each comes to its end, and agents work on them one by one.
func TestOrdersTogether(t *testing.T) {
	s := newProofs(t, "gen8", "gen9", "rel11")
	var ids []string
	for _, c := range [][2]string{{"gen8", "gen8"}, {"gen8", "rel11"}, {"rel11", "gen8"}, {"gen9", "gen8"}, {"gen8", "gen9"}, {"rel11", "rel11"}, {"gen9", "rel11"}, {"rel11", "gen9"}} {
		o := s.order(c[0], c[1])
		if c[0] == c[1] && o.From.Parent == o.To.Parent {
			t.Errorf("within %s both ends are on %s, and it has another", c[0], o.From.Parent)
		}
		ids = append(ids, o.ID)
	}
	for _, id := range ids {
		var c *api.Canary
		s.waits("order "+id+" is over", func() bool {
			var err error
			if c, err = s.client.Canary(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			return c.State.Over() && c.From.Clear && c.To.Clear
		}, func() any { return c })
		// A newer minor is not taken by an older one.
		want := compat.Accepted
		if c.From.Host == "rel11" && c.To.Host != "rel11" {
			want = compat.Rejected
		}
		if c.State != api.CanarySettled || c.Result != want || c.Begun != 1 {
			t.Errorf("%+v", c)
		}
	}
}

// TestOrderInconclusive: acceptance shows nothing where the target takes half a
// state too and nobody knows how to look at it.
func TestOrderInconclusive(t *testing.T) {
	s := newProofs(t, "gen8", "anything", "cut")
	s.know("observe")
	for _, to := range []string{"anything", "cut"} {
		got := s.ends(s.order("gen8", to).ID)
		if got.State != api.CanarySettled || got.Result != compat.Inconclusive || got.Proof == "" || !strings.Contains(got.Detail, "acceptance shows nothing") {
			t.Errorf("to %s: %+v", to, got)
		}
	}
}

// know lets agents know all of the catalog but a part of what it says of proofs.
func (s *proofs) know(without string) {
	s.t.Helper()
	text := regexp.MustCompile(`(?m)^  `+without+`:\n(    .*\n)+`).ReplaceAll(sim.Catalog, nil)
	catalog, err := compat.ParseCatalog("ksim.yaml", text)
	if err != nil {
		s.t.Fatal(err)
	}
	catalogs, err := compat.NewCatalogs(nil, []*compat.Catalog{catalog})
	if err != nil {
		s.t.Fatal(err)
	}
	before := s.equip
	s.equip = func(host string, a *agent.Agent) {
		before(host, a)
		a.Canaries.Engine = compat.NewEngine(catalogs, nil)
	}
	for host := range s.hosts {
		s.again(host, 0)
	}
}

// TestOrderOfLittle: agents whose hosts' catalogs do not say how a canary is
// exercised prove less than counts, and the order says so.
func TestOrderOfLittle(t *testing.T) {
	s := newProofs(t, "gen8", "rel11")
	s.know("exercise")
	got := s.ends(s.order("gen8", "rel11").ID)
	if got.State != api.CanarySettled || got.Result != compat.Accepted || got.Grade != "fresh-state" || !strings.Contains(got.Reason, "it does not settle the pair: that takes a grade of working-state") {
		t.Errorf("%+v", got)
	}
}

// fair reports whether an order came to a proof that says what is so, or
// was given up; nothing else may come of somebody's death.
func (s *proofs) fair(what string, c *api.Canary) {
	s.t.Helper()
	if c.State == api.CanarySettled && c.Result == compat.Accepted || c.State == api.CanaryFailed && c.Code == api.CanaryCutShort {
		return
	}
	s.t.Errorf("%s: %+v", what, c)
}

// TestOrderKilled: either agent is killed before each thing that it does, and
// started again: the order comes to the same, or is given up, and nothing is
// left.
func TestOrderKilled(t *testing.T) {
	s := newProofs(t, "gen8", "rel11")
	for _, host := range []string{"gen8", "rel11"} {
		killed, lived := 0, 0
		for step := 1; lived < 3; step++ { // how often it reports meanwhile is chance
			s.again(host, step)
			o := s.order("gen8", "rel11")
			var c *api.Canary
			s.waits("the agent is dead, or the order over", func() bool {
				var err error
				if c, err = s.client.Canary(t.Context(), o.ID); err != nil {
					t.Fatal(err)
				}
				return s.agents[host].Dead() || c.State.Over() && c.From.Clear && c.To.Clear
			}, func() any { return c })
			dead := s.agents[host].Dead()
			s.again(host, 0)
			s.fair(fmt.Sprintf("%s killed at step %d", host, step), s.ends(o.ID))
			if dead {
				killed++
			} else {
				lived++
			}
		}
		if killed < 10 {
			t.Errorf("%s was killed %d times", host, killed)
		}
		t.Logf("%s was killed at %d of its steps", host, killed)
	}
}

// TestOrderCut: the line between the agents is cut after so many bytes, whichever:
// the order begins again, and a cut is never taken for a driver's word.
func TestOrderCut(t *testing.T) {
	s := newProofs(t, "gen8", "rel11")
	inner, front := free(t), listen(t)
	before := s.equip
	s.equip = func(host string, a *agent.Agent) {
		if before(host, a); host == "rel11" {
			a.Canaries.Listen, a.Canaries.Reach = inner, front.Addr().String()
		}
	}
	s.again("rel11", 0)
	var cuts, passed atomic.Int64
	var lines sync.WaitGroup
	lines.Go(func() {
		for {
			from, err := front.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", inner)
			if err != nil {
				from.Close()
				continue
			}
			n := cuts.Swap(0) // the next one goes through
			lines.Go(func() {
				defer from.Close()
				defer to.Close()
				lines.Go(func() { _, _ = io.Copy(from, to); from.Close() })
				if n > 0 {
					_, _ = io.CopyN(to, from, n)
					return
				}
				sent, _ := io.Copy(to, from)
				passed.Store(sent)
				_ = to.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, from)
			})
		}
	})
	defer lines.Wait()
	defer front.Close()
	if got := s.ends(s.order("gen8", "rel11").ID); got.Result != compat.Accepted || got.Begun != 1 {
		t.Fatalf("without a cut: %+v", got)
	}
	whole := passed.Load()
	if whole < 1<<20 {
		t.Fatalf("only %d bytes went through", whole)
	}
	// The ends of what comes in a piece: the handshake, the token, each record of
	// TLS within a frame, the trailer and the end.
	for _, n := range []int64{1, 300, 2000, 4000, 1 << 14, 1 << 18, 1<<18 + 1000, 1 << 19, 3 << 18, 1 << 20, whole - 3000, whole - 200, whole - 25, whole - 1} {
		cuts.Store(n)
		got := s.ends(s.order("gen8", "rel11").ID)
		s.fair(fmt.Sprintf("cut after %d of %d bytes", n, whole), got)
		if got.State != api.CanarySettled || got.Begun != 2 || !strings.Contains(got.Reason+"lost", "lost") {
			t.Errorf("cut after %d of %d bytes: %+v", n, whole, got)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// free is an address on which nobody listens.
func free(t *testing.T) string {
	t.Helper()
	l := listen(t)
	l.Close()
	return l.Addr().String()
}

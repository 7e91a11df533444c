// SPDX-License-Identifier: Apache-2.0

//go:build linux

package prove

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kindred/compat"
	"kindred/host"
	"kindred/host/mdev"
	"kindred/host/vfio"
	"kindred/inventory"
	"kindred/sim"
)

// simHost makes canaries on a simulated machine, and watches what is done with
// them.
type simHost struct {
	m    *sim.Machine
	made int
	open atomic.Int32
	// commits counts how often a device was asked to take what was written;
	// before each call of a device it calls step.
	commits int
	step    func()
	// ticking devices have a counter in region 0.
	ticking bool
	ticks   byte
	// corrupts: devices show another state than they took.
	corrupts bool
}

func (h *simHost) Inventory(ctx context.Context) (*inventory.Inventory, error) {
	return host.Simulated(h.m).Inventory(ctx, host.Options{})
}

func (h *simHost) Make(_ context.Context, parent string, t inventory.TypeName) (string, error) {
	h.made++
	id := sim.UUID("canary", h.made)
	return id, mdev.Create(h.m, parent, t.Full(), id)
}

func (h *simHost) Open(_ context.Context, id string) (vfio.Device, error) {
	d, err := h.m.Open(id)
	if err != nil {
		return nil, err
	}
	h.open.Add(1)
	if h.ticking {
		d = ticking{d, h}
	}
	if h.corrupts {
		d = &corrupting{Device: d}
	}
	return &watched{Device: d, h: h}, nil
}

func (h *simHost) Remove(ctx context.Context, id string) error {
	return mdev.Remove(ctx, h.m, id, mdev.RemoveOptions{})
}

func (h *simHost) Listen() func([]string) []string { return func([]string) []string { return nil } }

// left is what is left of canaries.
func (h *simHost) left(t *testing.T) string {
	t.Helper()
	inv, err := h.Inventory(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Devices) > 0 || h.open.Load() > 0 {
		return fmt.Sprintf("%d devices and %d open", len(inv.Devices), h.open.Load())
	}
	return ""
}

type watched struct {
	vfio.Device
	h      *simHost
	closed bool
}

func (w *watched) count() {
	if w.h.step != nil {
		w.h.step()
	}
}

func (w *watched) Info() (*vfio.Info, error) { w.count(); return w.Device.Info() }

func (w *watched) SetState(to vfio.State) (vfio.Session, error) {
	w.count()
	if was, err := w.Device.State(); err == nil && was == vfio.StateResuming && to != vfio.StateResuming {
		w.h.commits++
	}
	return w.Device.SetState(to)
}

func (w *watched) ReadRegion(r int, at int64, p []byte) error {
	w.count()
	return w.Device.ReadRegion(r, at, p)
}

func (w *watched) WriteRegion(r int, at int64, p []byte) error {
	w.count()
	return w.Device.WriteRegion(r, at, p)
}

func (w *watched) Close() error {
	if !w.closed {
		w.closed = true
		w.h.open.Add(-1)
	}
	return w.Device.Close()
}

// untried is the simulated driver's catalog without what its author knows from
// trying: epochs and known-bad builds. Without observations a canary shows
// acceptance alone.
func untried(t *testing.T, observe bool) *compat.Engine {
	t.Helper()
	text := string(sim.Catalog)
	drop := []string{"epochs", "known-bad", "examples", "waivers"}
	if !observe {
		text = regexp.MustCompile(`(?m)^  observe:\n(    .*\n)+`).ReplaceAllString(text, "")
	}
	for _, key := range drop {
		text = regexp.MustCompile(`(?m)^`+key+`:\n((  .*)?\n)*`).ReplaceAllString(text, "")
	}
	c, err := compat.ParseCatalog("ksim", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Epochs)+len(c.KnownBad) > 0 || (len(c.Proof.Observe) > 0) != observe {
		t.Fatal("the catalog still knows")
	}
	catalogs, err := compat.NewCatalogs([]*compat.Catalog{c}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return compat.NewEngine(catalogs, nil)
}

// small makes a machine of a build whose devices have little memory: a fault at
// each of their operations takes many runs.
func small(t *testing.T, build string) *simHost {
	t.Helper()
	d, err := sim.Build(build)
	if err != nil {
		t.Fatal(err)
	}
	for i := range d.Types {
		d.Types[i].Memory = 8 << 10
	}
	m, err := sim.New(sim.Setup{Name: build, Parents: []sim.Parent{{Name: "sim0", Driver: d}}})
	if err != nil {
		t.Fatal(err)
	}
	return &simHost{m: m}
}

func (h *simHost) side() *Side {
	return &Side{h, "sim0", inventory.TypeName{Namespace: sim.Namespace, Name: "V4"}}
}

func prover(t *testing.T, engine *compat.Engine) *Prover {
	return &Prover{Engine: engine, Version: "test", Now: func() time.Time { return time.Unix(1_800_000_000, 0) }, Scratch: t.TempDir()}
}

// proveOnce proves a pair and looks for what was left behind.
func proveOnce(t *testing.T, engine *compat.Engine, from, to *simHost) (*compat.Proof, error) {
	t.Helper()
	p := prover(t, engine)
	proof, err := p.Prove(context.Background(), from.side(), to.side())
	for _, h := range []*simHost{from, to} {
		if left := h.left(t); left != "" {
			t.Errorf("left behind on a machine: %s", left)
		}
	}
	if files, _ := os.ReadDir(p.Scratch); len(files) > 0 {
		t.Errorf("left behind: %v", files)
	}
	return proof, err
}

// what builds of the simulated driver do to each other's states, told by hand
// from sim/builds.go; everything else of one interface works.
var pairs = []struct {
	from, to string
	observed compat.Result // with observations
	blind    compat.Result // without
	detail   string
}{
	{"gen8", "gen9", compat.Accepted, compat.Accepted, "the same to a guest"},
	{"gen9", "gen8", compat.Accepted, compat.Accepted, "the same to a guest"},
	{"gen8", "rel11", compat.Accepted, compat.Accepted, ""},
	{"rel11", "gen8", compat.Rejected, compat.Rejected, "invalid argument, at the step write"},
	{"rel20", "gen8", compat.Rejected, compat.Rejected, ""},
	{"gen8", "rel20", compat.Rejected, compat.Rejected, ""},
	{"gen8", "rel21", compat.Accepted, compat.Accepted, ""},
	{"rel20", "rel21", compat.Accepted, compat.Accepted, ""},
	{"gen8", "forgets", compat.Accepted, compat.Accepted, ""},
	{"rel20", "forgets", compat.Rejected, compat.Rejected, "bad address, at the step write"},
	// It takes what was cut short: acceptance alone shows nothing.
	{"gen8", "cut", compat.Accepted, compat.Inconclusive, ""},
	{"cut", "gen8", compat.Accepted, compat.Accepted, ""},
	// It takes anything, and corrupts what does not fit; its own does fit.
	{"rel20", "anything", compat.Rejected, compat.Inconclusive, "differ"},
	{"gen8", "anything", compat.Accepted, compat.Inconclusive, ""},
	// Another order inside, which no stream says.
	{"gen8", "swap", compat.Rejected, compat.Accepted, "differ"},
	{"gen8", "nomig", compat.Inconclusive, compat.Inconclusive, "cannot migrate"},
}

func TestProve(t *testing.T) {
	for _, observe := range []bool{true, false} {
		engine := untried(t, observe)
		for _, c := range pairs {
			proof, err := proveOnce(t, engine, small(t, c.from), small(t, c.to))
			if err != nil {
				t.Errorf("%s to %s: %v", c.from, c.to, err)
				continue
			}
			want := c.observed
			if !observe {
				want = c.blind
			}
			if proof.Result != want || observe && !strings.Contains(proof.Detail, c.detail) {
				t.Errorf("%s to %s, observed %v: %s (%s), want %s with %q", c.from, c.to, observe, proof.Result, proof.Detail, want, c.detail)
			}
			grade := compat.FreshState
			if observe {
				grade = compat.WorkingState // that exercising shows has to be seen
			}
			if proof.Grade != grade || proof.Verified != (observe && want == compat.Accepted) {
				t.Errorf("%s to %s: grade %s, verified %v", c.from, c.to, proof.Grade, proof.Verified)
			}
			if !proof.Simulated || proof.Source.Host != c.from || proof.Target.Host != c.to {
				t.Errorf("%s to %s: %+v", c.from, c.to, proof)
			}
		}
	}
}

// TestFaults lets each single operation on either machine's devices fail, with
// errnos that drivers also refuse with and others: a fault is never recorded as
// a rejection, never hides one, and leaves nothing behind.
func TestFaults(t *testing.T) {
	engine := untried(t, true)
	for _, c := range []struct {
		from, to string
		clean    compat.Result
	}{{"gen8", "gen9", compat.Accepted}, {"rel20", "gen8", compat.Rejected}} {
		from, to := small(t, c.from), small(t, c.to)
		from.m.Faults.Set()
		to.m.Faults.Set()
		proof, err := proveOnce(t, engine, from, to)
		if err != nil || proof.Result != c.clean {
			t.Fatalf("%s to %s: %v, %v", c.from, c.to, proof, err)
		}
		counts := make(map[compat.Result]int)
		failed := 0
		for _, faulty := range []string{"from", "to"} {
			total := map[string]int{"from": from.m.Faults.Total(), "to": to.m.Faults.Total()}[faulty]
			for n := 1; n <= total; n++ {
				for _, errno := range []unix.Errno{unix.EIO, unix.EINVAL, unix.EFAULT, unix.ENODEV} {
					from, to := small(t, c.from), small(t, c.to)
					m := map[string]*sim.Machine{"from": from.m, "to": to.m}[faulty]
					m.Faults.Set(sim.Fault{N: n, As: errno})
					proof, err := proveOnce(t, engine, from, to)
					if err != nil {
						failed++ // no proof at all
						continue
					}
					counts[proof.Result]++
					if proof.Result != compat.Inconclusive && proof.Result != c.clean {
						t.Errorf("%s to %s, %v at operation %d of %s: %s (%s)", c.from, c.to, errno, n, faulty, proof.Result, proof.Detail)
					}
				}
			}
		}
		t.Logf("%s to %s (%s): %v, no proof %d", c.from, c.to, c.clean, counts, failed)
	}
}

// TestLastingFaults: one that stays fails the controls.
func TestLastingFaults(t *testing.T) {
	engine := untried(t, true)
	for _, f := range []sim.Fault{
		{Op: sim.OpWrite, As: unix.EINVAL},
		{Op: sim.OpWrite, At: 4000, As: unix.EINVAL},
		{Op: sim.OpWrite, At: 4000, As: unix.EIO},
		{Op: sim.OpRead, As: unix.EIO},
		{Op: sim.OpRead, At: 4000, As: 0}, // the driver's stream ends early
		{Op: sim.OpSetState, As: unix.EINVAL},
		{Op: sim.OpReset, As: unix.EIO},
		{Op: sim.OpInfo, As: unix.EIO},
		{Op: sim.OpReadRegion, As: unix.EIO},
		{Op: sim.OpWriteRegion, As: unix.EIO},
	} {
		for _, faulty := range []string{"from", "to", "both"} {
			from, to := small(t, "gen8"), small(t, "gen9")
			if faulty != "to" {
				from.m.Faults.Set(f)
			}
			if faulty != "from" {
				to.m.Faults.Set(f)
			}
			proof, err := proveOnce(t, engine, from, to)
			if err == nil && proof.Result != compat.Inconclusive && !(proof.Result == compat.Accepted && f.Op == sim.OpReset) {
				t.Errorf("%+v on %s: %s (%s)", f, faulty, proof.Result, proof.Detail)
			}
		}
	}
}

// TestInterrupted ends the context at each call of a device: there is no proof
// then, and nothing is left.
func TestInterrupted(t *testing.T) {
	engine := untried(t, true)
	for n := 1; ; n++ {
		from, to := small(t, "gen8"), small(t, "gen9")
		ctx, cancel := context.WithCancel(context.Background())
		calls := 0
		step := func() {
			if calls++; calls == n {
				cancel()
			}
		}
		from.step, to.step = step, step
		p := prover(t, engine)
		proof, err := p.Prove(ctx, from.side(), to.side())
		cancel()
		for _, h := range []*simHost{from, to} {
			if left := h.left(t); left != "" {
				t.Fatalf("interrupted at call %d: %s", n, left)
			}
		}
		if files, _ := os.ReadDir(p.Scratch); len(files) > 0 {
			t.Fatalf("interrupted at call %d: %v", n, files)
		}
		if calls < n {
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d calls", calls)
			return
		}
		if err == nil && proof.Result != compat.Accepted {
			t.Fatalf("interrupted at call %d: %s (%s)", n, proof.Result, proof.Detail)
		}
	}
}

// damaged is a recording's file in which something went wrong after it was
// verified.
type damaged struct {
	data  []byte
	cut   int64 // -1: not cut
	flip  int64 // -1: none
	fails error // in place of the end of what was cut
}

func (d *damaged) ReadAt(p []byte, at int64) (int, error) {
	end := int64(len(d.data))
	if d.cut >= 0 {
		end = d.cut
	}
	if at >= end {
		if d.fails != nil {
			return 0, d.fails
		}
		return 0, fmt.Errorf("read: %w", syscall.EIO)
	}
	n := copy(p, d.data[at:end])
	if d.flip >= at && d.flip < at+int64(n) {
		p[d.flip-at] ^= 1 << (d.flip % 8)
	}
	return n, nil
}

// TestDamaged cuts and corrupts a recording at every border of its frames and at
// thousands of places between: no device is ever asked to take what arrived.
func TestDamaged(t *testing.T) {
	engine := untried(t, true)
	from, to := small(t, "gen8"), small(t, "gen9")
	p := prover(t, engine)
	ctx := context.Background()
	r, err := p.Record(ctx, from.side())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data := make([]byte, r.length)
	if _, err := r.file.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	if a, err := p.replay(ctx, to.side(), r, whole); err != nil || !a.Verified {
		t.Fatalf("%+v, %v", a, err)
	}
	to.commits = 0
	try := func(d damaged) {
		t.Helper()
		d.data = data
		broken := *r
		broken.file = &d
		a, err := p.replay(ctx, to.side(), &broken, whole)
		if err != nil {
			t.Fatal(err)
		}
		if !a.Fault || a.Taken || to.commits != 0 {
			t.Errorf("cut at %d, byte %d changed: %+v, %d commits", d.cut, d.flip, a, to.commits)
			to.commits = 0
		}
	}
	var places []int64
	for at := int64(0); at < min(r.length, 600); at++ {
		places = append(places, at) // the start, and the head of the header
	}
	for at := r.length - 600; at < r.length; at++ {
		places = append(places, at) // the end frame, and the trailer's last part
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		places = append(places, random.Int64N(r.length))
	}
	for _, at := range places {
		try(damaged{cut: at, flip: -1})
		try(damaged{cut: -1, flip: at})
	}
	if left := to.left(t); left != "" {
		t.Error(left)
	}
}

func TestIdentity(t *testing.T) {
	config := make([]byte, 256)
	copy(config, []byte{0x34, 0x12, 0x04, 0x4b, 0x07, 0x00, 0x10, 0x00, 0x04, 0x00, 0x00, 0x12})
	config[0x34], config[0x40], config[0x41], config[0x50] = 0x40, 0x11, 0x50, 0x09
	base := identity(config)
	for name, c := range map[string]struct {
		at   int
		seen bool
	}{
		"vendor": {0x00, true}, "revision": {0x08, true}, "class": {0x0b, true}, "subsystem": {0x2e, true},
		"capability": {0x40, true}, "next capability": {0x41, true}, "first capability": {0x34, true},
		"command": {0x04, false}, "status, an error bit": {0x07, false}, "address": {0x10, false}, "line": {0x3c, false},
		"inside a capability": {0x44, false}, "latency": {0x0d, false}, "after the capabilities": {0xf0, false},
	} {
		other := append([]byte(nil), config...)
		other[c.at] ^= 0x04
		if got := string(identity(other)) != string(base); got != c.seen {
			t.Errorf("%s at 0x%02x: noticed %v, want %v", name, c.at, got, c.seen)
		}
	}
	for _, length := range []int{0, 1, 0x3f, 0x40, 0x41} {
		if got := len(identity(config[:length])); got != length {
			t.Errorf("%d bytes gave %d", length, got)
		}
	}
	loop := append([]byte(nil), config...)
	loop[0x41] = 0x40 // the list of capabilities leads back
	identity(loop)
}

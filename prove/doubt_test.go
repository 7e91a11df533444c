// SPDX-License-Identifier: Apache-2.0

//go:build linux

package prove

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/host/vfio"
	"kindred/inventory"
	"kindred/sim"
)

// parsed is the simulated driver's catalog with its proof policy replaced.
func parsed(t *testing.T, policy string) *compat.Engine {
	t.Helper()
	text := string(sim.Catalog)
	for _, key := range []string{"epochs", "known-bad", "examples", "waivers", "proof"} {
		text = dropKey(text, key)
	}
	c, err := compat.ParseCatalog("ksim", []byte(text+"\nproof:\n"+policy))
	if err != nil {
		t.Fatal(err)
	}
	catalogs, err := compat.NewCatalogs([]*compat.Catalog{c}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return compat.NewEngine(catalogs, nil)
}

func dropKey(text, key string) string {
	var kept []string
	in := false
	for _, line := range strings.Split(text, "\n") {
		if line != "" && line[0] != ' ' && line[0] != '#' {
			in = strings.HasPrefix(line, key+":")
		}
		if !in {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// doctored is the recording of a canary whose notes somebody changed.
func doctored(t *testing.T, p *Prover, from *Side, change func(*Notes)) *os.File {
	t.Helper()
	r, err := p.Record(context.Background(), from)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := p.Control(context.Background(), r, from); err != nil {
		t.Fatal(err)
	}
	change(r.notes)
	file, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(file, testKey); err != nil {
		t.Fatal(err)
	}
	return file
}

var testKey, _ = proofs.NewPrivateKey("test", strings.NewReader(strings.Repeat("k", 32)))

// TestHostileNotes: what a stream says was seen is read by root on another host.
func TestHostileNotes(t *testing.T) {
	engine := untried(t, true)
	want := map[string]string{"a negative length": "at most 1048576 bytes", "a huge length": "at most 1048576 bytes", "before the region": "before the region", "too many": "accesses, more than"}
	for name, change := range map[string]func(*Notes){
		"a negative length": func(n *Notes) { n.Saved[0].Length = -1 },
		"a huge length":     func(n *Notes) { n.GoneOn[0].Length = 1 << 50 },
		"before the region": func(n *Notes) { n.Exercise[0].At = -8 },
		"too many":          func(n *Notes) { n.Exercise = slices.Repeat(n.Exercise[:1], 3000) },
	} {
		from := small(t, "gen8")
		p := prover(t, engine)
		file := doctored(t, p, from.side(), change)
		r, err := OpenRecording(file, []proofs.NamedKey{testKey.Public()})
		if err != nil {
			if !strings.Contains(err.Error(), want[name]) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		t.Errorf("%s: opened", name)
		r.Close()
	}
}

// TestUnsafeControl: a device's recording is not tried on canaries where the
// catalog says that they disturb others.
func TestUnsafeControl(t *testing.T) {
	engine := parsed(t, "  canaries: unsafe\n  source: test\n")
	h := small(t, "gen8")
	safe := prover(t, untried(t, true))
	r, err := safe.Record(context.Background(), h.side())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	made := h.made
	err = prover(t, engine).Control(context.Background(), r, h.side())
	if !errors.Is(err, ErrUnsafe) || h.made != made {
		t.Errorf("%v, and %d canaries were made", err, h.made-made)
	}
}

// TestNothingShown: what is the same on any fresh device shows nothing of the
// state that a driver took which takes anything.
func TestNothingShown(t *testing.T) {
	engine := parsed(t, "  canaries: safe\n  lowest: fresh-state\n  observe:\n    - {region: 0, at: 0, length: 4}\n  source: test\n")
	proof, err := proveOnce(t, engine, small(t, "rel20"), small(t, "anything"))
	if err != nil {
		t.Fatal(err)
	}
	if proof.Result != compat.Inconclusive {
		t.Errorf("%+v", proof)
	}
}

// TestMemoryPressure: states are of different sizes, so a limit on memory can
// refuse one each time and take the controls.
func TestMemoryPressure(t *testing.T) {
	engine := untried(t, true)
	from, to := small(t, "gen8"), small(t, "gen9")
	p := prover(t, engine)
	r, err := p.Record(context.Background(), from.side())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := p.Control(context.Background(), r, from.side()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.control(context.Background(), to.side()); err != nil {
		t.Fatal(err)
	}
	to.m.Faults.Set(sim.Fault{Op: sim.OpWrite, As: unix.ENOMEM})
	a, err := p.replay(context.Background(), to.side(), r, whole)
	if err != nil || !a.Fault {
		t.Errorf("%+v, %v", a, err)
	}
}

// ticking is a device of which a part never reads twice alike, as a counter.
type ticking struct {
	vfio.Device
	h *simHost
}

func (d ticking) ReadRegion(r int, at int64, p []byte) error {
	err := d.Device.ReadRegion(r, at, p)
	if len(p) > 0 && r == 0 {
		d.h.ticks++
		p[0] = d.h.ticks
	}
	return err
}

// TestTicking: a catalog that has a counter compared makes no build incompatible
// with itself, however long the part is that it has compared.
func TestTicking(t *testing.T) {
	engine := untried(t, true)
	h := small(t, "gen8")
	h.ticking = true
	proof, err := proveOnce(t, engine, h, h)
	if err != nil || proof.Result != compat.Inconclusive {
		t.Errorf("%+v, %v", proof, err)
	}
}

// forbidden is a machine whose operator allows no canaries.
type forbidden struct{ *simHost }

func (forbidden) Make(_ context.Context, parent string, t inventory.TypeName) (string, error) {
	return "", &NotAllowedError{parent, t}
}

// TestNotAllowed: where no canary may be made nothing was tried, and there is
// nothing to keep as a proof.
func TestNotAllowed(t *testing.T) {
	engine := untried(t, true)
	from, to := small(t, "gen8"), small(t, "gen9")
	closed := to.side()
	closed.Host = forbidden{to}
	for name, sides := range map[string][2]*Side{"target": {from.side(), closed}, "source": {closed, from.side()}} {
		proof, err := prover(t, engine).Prove(context.Background(), sides[0], sides[1])
		if err == nil || !NoCanary(err) || proof != nil {
			t.Errorf("the %s: %+v, %v", name, proof, err)
		}
	}
}

// stubborn is a machine whose canaries somebody else has open.
type stubborn struct{ *simHost }

func (stubborn) Remove(context.Context, string) error { return unix.EBUSY }

// TestLeftBehind: an interrupt hides no canary that could not be removed.
func TestLeftBehind(t *testing.T) {
	engine := untried(t, true)
	for n := 1; n <= 40; n++ {
		h := small(t, "gen8")
		side := h.side()
		side.Host = stubborn{h}
		ctx, cancel := context.WithCancel(context.Background())
		calls := 0
		h.step = func() {
			if calls++; calls == n {
				cancel()
			}
		}
		_, err := prover(t, engine).Prove(ctx, side, side)
		cancel()
		if !errors.Is(err, ErrLeft) {
			t.Fatalf("interrupted at call %d: %v", n, err)
		}
	}
}

// talking is a machine whose kernel says something at each operation on a device.
type talking struct {
	*simHost
	said []string
}

func (h *talking) Open(ctx context.Context, id string) (vfio.Device, error) {
	h.said = append(h.said, "opened "+id)
	return h.simHost.Open(ctx, id)
}

func (h *talking) Listen() func([]string) []string {
	from := len(h.said)
	return func([]string) []string { return h.said[from:] }
}

// TestLog: all that the kernels said is kept, once, also of a source on the
// target's host.
func TestLog(t *testing.T) {
	engine := untried(t, true)
	one, two := &talking{simHost: small(t, "gen8")}, &talking{simHost: small(t, "gen9")}
	for _, hosts := range [][2]*talking{{one, one}, {one, two}} {
		one.said, two.said = nil, nil
		from, to := hosts[0].side(), hosts[1].side()
		from.Host, to.Host = hosts[0], hosts[1]
		proof, err := prover(t, engine).Prove(context.Background(), from, to)
		if err != nil {
			t.Fatal(err)
		}
		want := one.said
		if hosts[0] != hosts[1] {
			want = append(want, two.said...)
		}
		if len(want) < 6 || !slices.Equal(proof.Log, want) {
			t.Errorf("kept %d lines of %d", len(proof.Log), len(want))
		}
	}
}

// TestScratch: a recording's file has no name at any moment at which the process
// could be killed.
func TestScratch(t *testing.T) {
	dir := t.TempDir()
	probe, err := nameless(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	probe.Close()
	file, err := prover(t, untried(t, true)).scratch()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if was, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd())); err != nil || strings.Contains(was, "kindred") {
		t.Errorf("it was %s, %v", was, err)
	}
	for name, dir := range map[string]string{"missing": filepath.Join(dir, "missing"), "a file": "/dev/null"} {
		p := Prover{Scratch: dir}
		if _, err := p.scratch(); err == nil || !strings.Contains(err.Error(), "--scratch") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if other, err := unnamed(dir); err != nil {
		t.Error(err)
	} else if other.Close(); len(must(os.ReadDir(dir))) > 0 {
		t.Error("it has a name")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestLastingFaultOfItself: hardware that fails for good on one host makes no
// build incompatible with itself on all others.
func TestLastingFaultOfItself(t *testing.T) {
	engine := untried(t, true)
	for _, f := range []sim.Fault{
		{Op: sim.OpWrite, As: unix.EINVAL}, {Op: sim.OpWrite, At: 4000, As: unix.EFAULT},
		{Op: sim.OpWrite, As: unix.ENODEV}, {Op: sim.OpSetState, N: 4, As: unix.EINVAL},
	} {
		h := small(t, "gen8")
		h.m.Faults.Set(f)
		if proof, err := proveOnce(t, engine, h, h); err == nil && proof.Result == compat.Rejected {
			t.Errorf("%+v: %+v", f, proof)
		}
	}
	// What takes its own state and shows another is found out.
	h := small(t, "gen8")
	h.corrupts = true
	proof, err := proveOnce(t, engine, h, h)
	if err != nil || proof.Result != compat.Rejected {
		t.Errorf("corrupting: %+v, %v", proof, err)
	}
}

// TestControlAgain: a fault in a target's control spoils one proof, not all that
// follow.
func TestControlAgain(t *testing.T) {
	engine := untried(t, true)
	from, to := small(t, "gen8"), small(t, "gen9")
	p := prover(t, engine)
	to.m.Faults.Set(sim.Fault{N: 5, As: unix.EIO})
	for i, want := range []compat.Result{compat.Inconclusive, compat.Accepted} {
		if proof, err := p.Prove(context.Background(), from.side(), to.side()); err != nil || proof.Result != want {
			t.Errorf("proof %d: %+v, %v", i+1, proof, err)
		}
	}
}

// corrupting is a device that shows another state than it took.
type corrupting struct {
	vfio.Device
	took bool
}

func (d *corrupting) SetState(to vfio.State) (vfio.Session, error) {
	d.took = d.took || to == vfio.StateResuming
	return d.Device.SetState(to)
}

func (d *corrupting) ReadRegion(r int, at int64, p []byte) error {
	err := d.Device.ReadRegion(r, at, p)
	if d.took && r == 0 && len(p) > 0 {
		p[0] ^= 0xff
	}
	return err
}

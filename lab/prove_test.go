// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"kindred/compat"
	"kindred/inventory"
	"kindred/lab/internal/truth"
)

// untriedCatalogs are the sample driver's without what was learned by trying:
// the epochs of its streams, which come from the truth table, and with drop
// further keys. Proofs have to do without.
func untriedCatalogs(t *testing.T, drop ...string) map[string][]byte {
	t.Helper()
	drop = append(drop, "epochs", "examples", "waivers")
	untried := make(map[string][]byte)
	for _, name := range []string{"kdx", "kdx-checked", "kdx-unchecked"} {
		data, err := os.ReadFile(filepath.Join("..", "compat", "catalog", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var kept []string
		for _, part := range strings.Split(string(data), "\n\n") {
			text := part
			for strings.HasPrefix(text, "#") {
				_, text, _ = strings.Cut(text, "\n")
			}
			if key, _, _ := strings.Cut(text, ":"); !slices.Contains(drop, key) {
				kept = append(kept, part)
			}
		}
		untried[name+".yaml"] = []byte(strings.Join(kept, "\n\n") + "\n")
	}
	return untried
}

// canaryHost puts into a guest what proofs need.
func canaryHost(ctx context.Context, t *testing.T, g *Guest, catalogs map[string][]byte) {
	t.Helper()
	installKindred(ctx, t, g)
	sh(ctx, t, g.Client, "mkdir -p /etc/kindred/catalog.d /streams /var/tmp")
	for name, data := range catalogs {
		if err := g.Put(ctx, "/etc/kindred/catalog.d/"+name, 0o644, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	policy := "canaries: [{parent: '*'}]\n"
	if err := g.Put(ctx, "/etc/kindred/policy.yaml", 0o644, strings.NewReader(policy)); err != nil {
		t.Fatal(err)
	}
}

// kindred runs it in a guest and decodes what it prints; exit codes above 4 are
// not answers.
func kindred(ctx context.Context, t *testing.T, g *Guest, into any, args ...string) {
	t.Helper()
	r, err := g.Run(ctx, Cmd{Argv: append([]string{"kindred"}, args...)})
	if err != nil {
		t.Fatal(err)
	}
	if r.ExitCode != 0 && r.ExitCode != 3 && r.ExitCode != 4 {
		t.Fatalf("kindred %s on %s: exit code %d: %s", strings.Join(args, " "), g.Name, r.ExitCode, r.Stderr)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(r.Stdout, into); err != nil {
		t.Fatalf("kindred %s on %s: %v in\n%s\n%s", strings.Join(args, " "), g.Name, err, r.Stdout, r.Stderr)
	}
}

// proving is one run of the table: what the engine says of every ordered pair of
// builds and types before any proof, and after all that it asked for.
type proving struct {
	catalogs    *compat.Catalogs
	before      *compat.Engine
	inventories map[string]*inventory.Inventory // by build
	offers      map[string]*compat.Offer        // by build/type
	proofs      []compat.Proof
	builds      []truth.Build
	params      string // of every module
}

// newProving puts the sample driver's catalogs, without what was learned by trying
// and what drop names, into a guest and into the engine.
func newProving(ctx context.Context, t *testing.T, g *Guest, params string, builds []truth.Build, drop ...string) *proving {
	t.Helper()
	site := untriedCatalogs(t, drop...)
	canaryHost(ctx, t, g, site)
	var parsed []*compat.Catalog
	for name, data := range site {
		c, err := compat.ParseCatalog(name, data)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, c)
	}
	catalogs, err := compat.NewCatalogs(compat.BuiltIn(), parsed)
	if err != nil {
		t.Fatal(err)
	}
	return &proving{
		catalogs: catalogs, before: compat.NewEngine(catalogs, nil), builds: builds, params: params,
		inventories: make(map[string]*inventory.Inventory), offers: make(map[string]*compat.Offer),
	}
}

// load makes the guest a host of the build.
func (p *proving) load(ctx context.Context, t *testing.T, g *Guest, b truth.Build) {
	t.Helper()
	sh(ctx, t, g.Client, "modprobe "+b.Module+" "+b.Params+p.params)
	sh(ctx, t, g.Client, "echo "+strings.ReplaceAll(b.Name, "_", "-")+" > /proc/sys/kernel/hostname")
}

func (p *proving) unload(ctx context.Context, t *testing.T, g *Guest, b truth.Build) {
	t.Helper()
	sh(ctx, t, g.Client, "rmmod "+b.Module)
}

func streamFile(build, typ string) string { return "/streams/" + build + "_" + typ + ".stream" }

// record takes an inventory and a stream of every build and type.
func (p *proving) record(ctx context.Context, t *testing.T, g *Guest) {
	for _, b := range p.builds {
		p.load(ctx, t, g, b)
		p.inventories[b.Name] = inspect(ctx, t, g)
		for _, o := range p.before.Offers(p.inventories[b.Name]) {
			p.offers[truth.Name(b.Name, o.Type().Name)] = o
		}
		for _, typ := range b.Types {
			r, err := g.Run(ctx, Cmd{Argv: []string{"kindred", "stream", "record", "--type", b.Namespace + "-" + typ, "--out", streamFile(b.Name, typ)}})
			if err != nil {
				t.Fatal(err)
			}
			if r.ExitCode != 0 && b.Name != "nomig" {
				t.Errorf("recording %s/%s: exit code %d: %s", b.Name, typ, r.ExitCode, r.Stderr)
			}
		}
		p.unload(ctx, t, g, b)
	}
}

// replay makes every proof that the engine asks for, and those of each build of
// itself where own is set.
func (p *proving) replay(ctx context.Context, t *testing.T, g *Guest, own bool) {
	for _, b := range p.builds {
		p.load(ctx, t, g, b)
		for _, typ := range b.Types {
			to := truth.Name(b.Name, typ)
			var files []string
			for _, from := range slices.Sorted(maps.Keys(p.offers)) {
				build, source, _ := strings.Cut(from, "/")
				v := p.before.Check(p.before.Instance(p.offers[from]), p.offers[to])
				if v.Provable() && build != "nomig" || own && from == to {
					files = append(files, streamFile(build, source))
				}
			}
			if len(files) == 0 {
				continue
			}
			var made []struct{ Proof compat.Proof }
			kindred(ctx, t, g, &made, append([]string{"stream", "replay", "-o", "json", "--type", b.Namespace + "-" + typ}, files...)...)
			for _, m := range made {
				p.proofs = append(p.proofs, m.Proof)
			}
		}
		p.unload(ctx, t, g, b)
	}
}

// after is what the engine says with the proofs.
func (p *proving) after() (*compat.Engine, map[string]*compat.Offer) {
	engine := compat.NewEngine(p.catalogs, p.proofs)
	offers := make(map[string]*compat.Offer)
	for build, inv := range p.inventories {
		for _, o := range engine.Offers(inv) {
			offers[truth.Name(build, o.Type().Name)] = o
		}
	}
	return engine, offers
}

// told is what is said of a pair.
type told struct {
	before, after compat.Outcome
	why           string // the proof's own words, or the finding that decides
}

// judge tells what is said of every pair.
func (p *proving) judge(pairs []truth.Pair) map[[2]string]told {
	engine, offers := p.after()
	all := make(map[[2]string]told)
	for _, pair := range pairs {
		was := p.before.Check(p.before.Instance(p.offers[pair.From]), p.offers[pair.To])
		is := engine.Check(engine.Instance(offers[pair.From]), offers[pair.To])
		worst := is.Worst()
		why := string(worst.Code)
		for _, f := range is.Findings {
			switch f.Code {
			case compat.ProofAccepted, compat.ProofRejected, compat.ProofInconclusive, compat.ProofTooWeak:
				why = f.Rule
			}
		}
		all[[2]string{pair.From, pair.To}] = told{was.Outcome, is.Outcome, why}
	}
	return all
}

// works is what the driver did, by system calls alone.
func works(p truth.Pair) bool {
	return p.Outcome == truth.Accepted && p.State == truth.Equal && p.Config == truth.Equal
}

// TestProofs is the truth table by proofs. Each state is recorded once on its own
// build and replayed on every other, as a vendor's regression suite is; -update
// writes the table into the documents.
func TestProofs(t *testing.T) {
	needLab(t)
	data, err := os.ReadFile("driver/truth.json")
	if err != nil {
		t.Fatal(err)
	}
	var table truth.Table
	if err := json.Unmarshal(data, &table); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	runs := make(map[string]map[[2]string]told)
	t.Run("table", func(t *testing.T) { // its end is the end of all that run beside each other
		for _, run := range []struct{ name, params string }{{"hidden", " scratch_kib=4"}, {"described", " scratch_kib=4 describe=1"}} {
			t.Run(run.name, func(t *testing.T) {
				t.Parallel()
				ctx, g := proofsHost(t, run.name)
				p := newProving(ctx, t, g, run.params, truthPlan(t, "").Builds)
				p.record(ctx, t, g)
				p.replay(ctx, t, g, false)
				said := p.judge(table.Pairs)
				judgeTable(t, &table, said, run.name == "hidden")
				t.Logf("%d proofs", len(p.proofs))
				nothingLeft(ctx, t, g)
				mu.Lock()
				defer mu.Unlock()
				runs[run.name] = said
			})
		}
	})
	t.Run("anything", func(t *testing.T) { proveAnything(t, &table) })
	if *update && !t.Failed() {
		if err := os.WriteFile("../docs/proved.md", provedPage(&table, runs), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func proofsHost(t *testing.T, name string) (context.Context, *Guest) {
	h := driverHost("proofs-"+name, 1)
	h.Memory = 768
	return bootDriver(t, h)
}

// judgeTable holds what was said of every pair against what the driver did.
func judgeTable(t *testing.T, table *truth.Table, said map[[2]string]told, hidden bool) {
	counts := make(map[string]int)
	for _, pair := range table.Pairs {
		s := said[[2]string{pair.From, pair.To}]
		counts[fmt.Sprintf("%s, then %s, and it %s", s.before, s.after, map[bool]string{true: "works", false: "does not work"}[works(pair)])]++
		from, _, _ := strings.Cut(pair.From, "/")
		to, _, _ := strings.Cut(pair.To, "/")
		switch {
		case !works(pair) && (s.before == compat.Compatible || s.after == compat.Compatible):
			t.Errorf("%s to %s is called %s before and %s after proofs, and the driver: %+v", pair.From, pair.To, s.before, s.after, pair)
		case works(pair) && s.before == compat.Unknown && s.after == compat.Incompatible:
			t.Errorf("%s to %s is called incompatible after proofs, and it works: %s", pair.From, pair.To, s.why)
		case hidden && from != to && s.before == compat.Compatible:
			t.Errorf("%s to %s: another build, and compatible before any proof", pair.From, pair.To)
		case s.after == compat.Unknown:
			t.Logf("unknown: %s to %s: %s", pair.From, pair.To, s.why)
			// The one source whose canaries cannot be relied on, and, described, a
			// feature that the guest could miss: no proof makes up for that.
			if from != "anything" && s.why != string(compat.AttributeLacks) {
				t.Errorf("%s to %s is unknown after proofs", pair.From, pair.To)
			}
		}
	}
	for _, line := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%4d  %s", counts[line], line)
	}
}

// proveAnything: a driver that accepts anything and corrupts is found out where no
// catalog knows of it.
func proveAnything(t *testing.T, table *truth.Table) {
	ctx, g := proofsHost(t, "anything")
	var few []truth.Build
	for _, b := range truthPlan(t, "").Builds {
		if slices.Contains([]string{"gen8", "rel11", "bad11", "anything"}, b.Name) {
			few = append(few, b)
		}
	}
	p := newProving(ctx, t, g, " scratch_kib=4", few, "known-bad")
	p.record(ctx, t, g)
	p.replay(ctx, t, g, true)
	for pair, s := range p.judge(pairsOf(table.Pairs, few)) {
		t.Logf("%s to %s: %s, then %s: %s", pair[0], pair[1], s.before, s.after, s.why)
		if strings.HasPrefix(pair[1], "anything/") && s.after == compat.Compatible {
			t.Errorf("%s to %s is called compatible: %s", pair[0], pair[1], s.why)
		}
		if pair[0] == pair[1] && (s.after == compat.Incompatible) != strings.HasPrefix(pair[0], "anything/") {
			t.Errorf("%s to itself is called %s: %s", pair[0], s.after, s.why)
		}
	}
	nothingLeft(ctx, t, g)
}

// nothingLeft wants a guest without devices, records of them, and recordings.
func nothingLeft(ctx context.Context, t *testing.T, g *Guest) {
	t.Helper()
	if left := sh(ctx, t, g.Client, "ls /sys/bus/mdev/devices /var/lib/kindred/canaries /var/lib/kindred/devices /var/tmp | grep -v : || true"); left != "" {
		t.Errorf("left behind on %s:\n%s", g.Name, left)
	}
	cleanLog(ctx, t, g)
}

// pairsOf are the pairs between some builds.
func pairsOf(pairs []truth.Pair, builds []truth.Build) []truth.Pair {
	in := func(name string) bool {
		build, _, _ := strings.Cut(name, "/")
		return slices.ContainsFunc(builds, func(b truth.Build) bool { return b.Name == build })
	}
	return slices.DeleteFunc(slices.Clone(pairs), func(p truth.Pair) bool { return !in(p.From) || !in(p.To) })
}

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
	"testing"

	"kindred/compat"
	"kindred/inventory"
	"kindred/lab/internal/truth"
)

// The sample driver's catalogs know what the truth table says. Proofs have to do
// without: what is left of them is what a vendor would say of a release that
// nobody tried.
func untriedCatalogs(t *testing.T) map[string][]byte {
	t.Helper()
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
			if key, _, _ := strings.Cut(text, ":"); !slices.Contains([]string{"epochs", "known-bad", "examples", "waivers"}, key) {
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

// provedTable is what comes of holding the engine against the driver, before any
// proof and after all that it asked for.
type provedTable struct {
	engine      *compat.Engine
	catalogs    *compat.Catalogs
	inventories map[string]*inventory.Inventory // by build
	offers      map[string]*compat.Offer        // by build/type
	proofs      []compat.Proof
}

// TestProofs is the truth table by proofs: what the engine says of every ordered
// pair of builds and types before any, what the drivers do when their states are
// moved, and what the engine says after. Each state is recorded once on its own
// build and replayed on every other, as a vendor's regression suite is.
func TestProofs(t *testing.T) {
	ctx, g := bootDriver(t, driverHost("proofs", 1))
	untried := untriedCatalogs(t)
	canaryHost(ctx, t, g, untried)
	var site []*compat.Catalog
	for name, data := range untried {
		c, err := compat.ParseCatalog(name, data)
		if err != nil {
			t.Fatal(err)
		}
		site = append(site, c)
	}
	catalogs, err := compat.NewCatalogs(compat.BuiltIn(), site)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("driver/truth.json")
	if err != nil {
		t.Fatal(err)
	}
	var table truth.Table
	if err := json.Unmarshal(data, &table); err != nil {
		t.Fatal(err)
	}
	for _, described := range []bool{false, true} {
		name := map[bool]string{false: "hidden", true: "described"}[described]
		t.Run(name, func(t *testing.T) {
			p := &provedTable{engine: compat.NewEngine(catalogs, nil), catalogs: catalogs, inventories: map[string]*inventory.Inventory{}, offers: map[string]*compat.Offer{}}
			p.record(ctx, t, g, described)
			p.replay(ctx, t, g, described)
			p.judge(t, &table, name)
		})
	}
	if left := strings.TrimSpace(sh(ctx, t, g.Client, "ls /sys/bus/mdev/devices /var/lib/kindred/canaries /var/tmp")); strings.Contains(left, "-") {
		t.Errorf("left behind:\n%s", left)
	}
	cleanLog(ctx, t, g)
}

// load loads a build as its host would have it.
func loadBuild(ctx context.Context, t *testing.T, g *Guest, b truth.Build, described bool) {
	t.Helper()
	params := b.Params + " scratch_kib=4"
	if described {
		params += " describe=1"
	}
	sh(ctx, t, g.Client, "modprobe "+b.Module+" "+params)
	sh(ctx, t, g.Client, "echo "+strings.ReplaceAll(b.Name, "_", "-")+" > /proc/sys/kernel/hostname")
}

func streamFile(build, typ string) string { return "/streams/" + build + "_" + typ + ".stream" }

// record takes an inventory and a stream of every build and type.
func (p *provedTable) record(ctx context.Context, t *testing.T, g *Guest, described bool) {
	for _, b := range truthPlan(t, "").Builds {
		loadBuild(ctx, t, g, b, described)
		p.inventories[b.Name] = inspect(ctx, t, g)
		for _, o := range p.engine.Offers(p.inventories[b.Name]) {
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
		sh(ctx, t, g.Client, "rmmod "+b.Module)
	}
}

// replay makes every proof that the engine asks for.
func (p *provedTable) replay(ctx context.Context, t *testing.T, g *Guest, described bool) {
	for _, b := range truthPlan(t, "").Builds {
		loadBuild(ctx, t, g, b, described)
		for _, typ := range b.Types {
			to := truth.Name(b.Name, typ)
			args := []string{"stream", "replay", "-o", "json", "--type", b.Namespace + "-" + typ}
			before := len(args)
			for _, from := range slices.Sorted(maps.Keys(p.offers)) {
				build, source, _ := strings.Cut(from, "/")
				if v := p.engine.Check(p.engine.Instance(p.offers[from]), p.offers[to]); v.Provable() && build != "nomig" {
					args = append(args, streamFile(build, source))
				}
			}
			if len(args) == before {
				continue
			}
			var made []struct{ Proof compat.Proof }
			kindred(ctx, t, g, &made, args...)
			for _, m := range made {
				p.proofs = append(p.proofs, m.Proof)
			}
		}
		sh(ctx, t, g.Client, "rmmod "+b.Module)
	}
}

// judge holds the engine against the truth, before and after.
func (p *provedTable) judge(t *testing.T, table *truth.Table, name string) {
	after := compat.NewEngine(p.catalogs, p.proofs)
	offers := make(map[string]*compat.Offer)
	for build, inv := range p.inventories {
		for _, o := range after.Offers(inv) {
			offers[truth.Name(build, o.Type().Name)] = o
		}
	}
	counts := make(map[string]int)
	for _, pair := range table.Pairs {
		good := pair.Outcome == truth.Accepted && pair.State == truth.Equal && pair.Config == truth.Equal
		did := map[bool]string{true: "works", false: "does not work"}[good]
		was := p.engine.Check(p.engine.Instance(p.offers[pair.From]), p.offers[pair.To])
		is := after.Check(after.Instance(offers[pair.From]), offers[pair.To])
		counts[fmt.Sprintf("%-13s -> %-13s where it %s", was.Outcome, is.Outcome, did)]++
		if !good && (was.Outcome == compat.Compatible || is.Outcome == compat.Compatible) {
			t.Errorf("%s to %s is called %s before and %s after proofs, and the driver: %+v", pair.From, pair.To, was.Outcome, is.Outcome, pair)
		}
		if good && is.Outcome == compat.Incompatible && was.Outcome != compat.Incompatible {
			t.Errorf("%s to %s is called incompatible after proofs, and it works: %+v", pair.From, pair.To, is.Worst())
		}
		from, _, _ := strings.Cut(pair.From, "/")
		to, _, _ := strings.Cut(pair.To, "/")
		if name == "hidden" && from != to && was.Outcome == compat.Compatible {
			t.Errorf("%s to %s: another build, and compatible before any proof", pair.From, pair.To)
		}
		if is.Outcome == compat.Unknown {
			worst := is.Worst()
			t.Logf("unknown: %s to %s (%s): %s %s", pair.From, pair.To, did, worst.Code, worst.Rule)
		}
	}
	for _, line := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%4d  %s", counts[line], line)
	}
	details := make(map[string]int)
	for _, made := range p.proofs {
		details[string(made.Result)+": "+made.Detail]++
	}
	for _, line := range slices.Sorted(maps.Keys(details)) {
		t.Logf("%4d  %s", details[line], line)
	}
	t.Logf("%d proofs", len(p.proofs))
}

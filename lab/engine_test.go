// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"kindred/compat"
	"kindred/lab/internal/truth"
)

// TestEngineAgainstDriver takes an inventory of every build of the driver on a
// real kernel, and holds what the engine and its catalogs say of every ordered
// pair against what the driver did. Before any proof it may not know; it may
// never say compatible where the driver refuses or corrupts.
func TestEngineAgainstDriver(t *testing.T) {
	ctx, g := bootDriver(t, driverHost("engine", 1))
	installKindred(ctx, t, g)
	data, err := os.ReadFile("driver/truth.json")
	if err != nil {
		t.Fatal(err)
	}
	var table truth.Table
	if err := json.Unmarshal(data, &table); err != nil {
		t.Fatal(err)
	}
	catalogs, err := compat.NewCatalogs(compat.BuiltIn(), nil)
	if err != nil {
		t.Fatal(err)
	}
	engine := compat.NewEngine(catalogs, nil)
	for _, described := range []bool{false, true} {
		name := map[bool]string{false: "hidden", true: "described"}[described]
		t.Run(name, func(t *testing.T) {
			offers := make(map[string]*compat.Offer) // by build/type
			for _, b := range truthPlan(t, "").Builds {
				params := b.Params
				if described {
					params += " describe=1"
				}
				sh(ctx, t, g.Client, "modprobe "+b.Module+" "+params)
				sh(ctx, t, g.Client, "echo "+strings.ReplaceAll(b.Name, "_", "-")+" > /proc/sys/kernel/hostname")
				inv := inspect(ctx, t, g)
				sh(ctx, t, g.Client, "rmmod "+b.Module)
				for _, o := range engine.Offers(inv) {
					offers[truth.Name(b.Name, o.Type().Name)] = o
				}
			}
			if len(offers) != len(table.Streams) {
				t.Fatalf("%d types were inspected, the truth has %d", len(offers), len(table.Streams))
			}
			counts := make(map[string]int)
			for _, p := range table.Pairs {
				from, to := offers[p.From], offers[p.To]
				if from == nil || to == nil {
					t.Fatalf("%s to %s: not inspected", p.From, p.To)
				}
				v := engine.Check(engine.Instance(from), to)
				good := p.Outcome == truth.Accepted && p.State == truth.Equal && p.Config == truth.Equal
				did := map[bool]string{true: "works", false: "does not work"}[good]
				counts[fmt.Sprintf("%-12s where it %s", v.Outcome, did)]++
				if v.Outcome == compat.Compatible && !good {
					t.Errorf("%s to %s is called compatible, and the driver: %+v", p.From, p.To, p)
				}
				if p.From == p.To && good && v.Outcome != compat.Compatible && v.Outcome != compat.Incompatible {
					t.Errorf("%s to itself is %s: %+v", p.From, v.Outcome, v.Worst())
				}
			}
			for _, line := range slices.Sorted(maps.Keys(counts)) {
				t.Logf("%4d  %s", counts[line], line)
			}
			if counts["compatible   where it works"] < len(table.Streams)/2 {
				t.Error("hardly any pair is called compatible")
			}
		})
	}
}

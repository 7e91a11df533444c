// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindred/inventory"
)

// codeCases reach every code that Check can make. A case asks for its code at
// its outcome, and for the outcome of the whole verdict.
var codeCases = []struct {
	name   string
	change func(*pair)
	want   Outcome // of the verdict
	code   Code    // among the findings
}{
	{"nothing changed", func(p *pair) {}, Compatible, TypeSame},
	{"the same API", func(p *pair) {}, Compatible, APIEqual},
	{"can migrate", func(p *pair) {}, Compatible, MigrationSupported},
	{"equal attribute", func(p *pair) {}, Compatible, AttributeAccepted},
	{"equal build", func(p *pair) {}, Compatible, BuildEqual},

	{"another name", func(p *pair) { p.toTypeNamed("ns", "u") }, Incompatible, TypeDifferent},
	{"another namespace", func(p *pair) { p.toTypeNamed("nt", "t") }, Incompatible, TypeDifferent},
	{"target's namespace unknown", func(p *pair) { p.toTypeNamed("", "t") }, Unknown, TypeUnknown},
	{"source's namespace unknown", func(p *pair) { p.device().Type.Namespace = "" }, Unknown, TypeUnknown},
	{"another label where it is no identity", func(p *pair) { p.toType().Label = inventory.Of("U") }, Compatible, TypeSame},
	{"the same label on another number", func(p *pair) { p.catalog.Identity = ByLabel; p.toTypeNamed("ns", "u") }, Compatible, TypeSame},
	{"another label on the same number", func(p *pair) { p.catalog.Identity = ByLabel; p.toType().Label = inventory.Of("U") }, Incompatible, TypeDifferent},
	{"the same label of another namespace", func(p *pair) { p.catalog.Identity = ByLabel; p.toTypeNamed("nt", "t") }, Incompatible, TypeDifferent},
	{"label not observed", func(p *pair) { p.catalog.Identity = ByLabel; p.toType().Label = inventory.Value{} }, Unknown, TypeUnknown},
	{"label known absent", func(p *pair) { p.catalog.Identity = ByLabel; p.fromType().Label = inventory.None() }, Unknown, TypeUnknown},
	{"declared equivalent", func(p *pair) { p.equivalent() }, Unknown, EquivalenceUnproven},
	{"two halves are one", func(p *pair) { p.ratio("4", 1, 2) }, Unknown, AttributeCopied},
	{"three halves are no whole", func(p *pair) { p.ratio("3", 1, 2) }, Incompatible, AttributeIndivisible},
	{"a half where one was absent", func(p *pair) { p.ratio("", 1, 2); p.device().Attributes = attributes() }, Unknown, AttributeAbsent},
	{"one by default is no half", func(p *pair) {
		p.ratio("", 1, 2)
		p.device().Attributes = attributes()
		p.catalog.Rules[len(p.catalog.Rules)-1].Absent.Default = "1"
	}, Incompatible, AttributeIndivisible},
	{"no number to divide", func(p *pair) { p.ratio("x", 1, 2) }, Unknown, AttributeMalformed},
	{"nothing read to divide", func(p *pair) { p.ratio("4", 1, 2); p.device().Attributes.Forget("size") }, Unknown, AttributeUnobserved},
	{"a pair that is refused", func(p *pair) {
		r := attributeRule(Equal)
		r.Refused = []Pair{{"1", "2*"}}
		p.rule(r)
		p.toType().Attributes.Set("a", "2.5")
	}, Incompatible, AttributeDiffers},
	{"a pair that nothing is known of", func(p *pair) {
		r := attributeRule(Equal)
		r.Refused, r.Otherwise = []Pair{{"1", "2*"}}, Unknown
		p.rule(r)
		p.toType().Attributes.Set("a", "3")
	}, Unknown, AttributeDiffers},
	{"another description", func(p *pair) {
		p.catalog.Rules = append(p.catalog.Rules, Rule{Attribute: "size", Of: OfDescription, Kind: Equal, Source: "test"})
		p.fromType().Description, p.toType().Description = inventory.Of("heads=1, size=2"), inventory.Of("size: 4\nheads: 1")
	}, Incompatible, AttributeDiffers},
	{"a description that was not read", func(p *pair) {
		p.catalog.Rules = append(p.catalog.Rules, Rule{Attribute: "size", Of: OfDescription, Kind: Equal, Absent: Absence{Off: true}, Source: "test"})
		p.fromType().Description, p.toType().Description = inventory.Value{}, inventory.Of("size: 4")
	}, Unknown, AttributeUnobserved},
	{"declared equivalent and proved", func(p *pair) { p.equivalent(); p.proved(func(*Proof) {}) }, Compatible, TypeEquivalent},

	{"another API", func(p *pair) { p.toType().DeviceAPI = inventory.Of("vfio-ap") }, Incompatible, APIDifferent},
	{"API not observed", func(p *pair) { p.toType().DeviceAPI = inventory.Value{} }, Unknown, APIUnknown},
	{"API known absent", func(p *pair) { p.fromType().DeviceAPI = inventory.None() }, Unknown, APIUnknown},
	{"API promised otherwise", func(p *pair) { p.promise(); p.contract().DeviceAPI = inventory.Of("vfio-ap") }, Incompatible, APIDifferent},

	{"catalog forbids", func(p *pair) { p.catalog.Migration[0].Can = inventory.No }, Incompatible, MigrationUnsupported},
	{"the kernel is too old", func(p *pair) {
		p.catalog.Migration = []Migration{{Can: inventory.No, Kernel: "6.7"}, {Can: inventory.Yes}}
		p.to.Host.Kernel.Release = inventory.Of("6.6.99")
	}, Incompatible, MigrationUnsupported},
	{"the kernel is new enough", func(p *pair) {
		p.catalog.Migration = []Migration{{Can: inventory.No, Kernel: "6.7"}, {Can: inventory.Yes}}
		p.to.Host.Kernel.Release = inventory.Of("6.7.0-rc1")
	}, Compatible, MigrationSupported},
	{"the kernel is not observed", func(p *pair) {
		p.catalog.Migration = []Migration{{Can: inventory.No, Kernel: "6.7"}, {Can: inventory.Yes}}
		p.to.Host.Kernel.Release = inventory.Value{}
	}, Unknown, MigrationUnknown},
	{"observed that it cannot", func(p *pair) { p.toType().Migration = &inventory.Migration{Can: inventory.No} }, Incompatible, MigrationUnsupported},
	{"the device itself cannot", func(p *pair) { p.device().Migration = &inventory.Migration{Can: inventory.No} }, Incompatible, MigrationUnsupported},
	{"nobody says whether it can", func(p *pair) { p.catalog.Migration = nil }, Unknown, MigrationUnknown},
	{"only observation says it can", func(p *pair) {
		p.catalog.Migration = nil
		p.fromType().Migration = &inventory.Migration{Can: inventory.Yes}
		p.toType().Migration = &inventory.Migration{Can: inventory.Yes}
	}, Compatible, MigrationSupported},

	{"differs", func(p *pair) { p.toType().Attributes.Set("a", "2") }, Incompatible, AttributeDiffers},
	{"promised otherwise", func(p *pair) { p.promise(); p.contract().TypeAttributes.Set("a", "2") }, Incompatible, AttributeDiffers},
	{"lacks", func(p *pair) { p.rule(attributeRule(Superset)); p.fromType().Attributes.Set("a", "1 2") }, Incompatible, AttributeLacks},
	{"too low", func(p *pair) { p.rule(attributeRule(AtLeast)); p.toType().Attributes.Set("a", "0") }, Incompatible, AttributeTooLow},
	{"too high", func(p *pair) { p.rule(attributeRule(AtMost)); p.toType().Attributes.Set("a", "2") }, Incompatible, AttributeTooHigh},
	{"out of range", func(p *pair) {
		p.rule(Rule{Attribute: "a", Of: OfType, Kind: Range, Min: "lo", Max: "hi"})
		p.fromType().Attributes = attributes("a", "9", "lo", "2", "hi", "4")
		p.toType().Attributes = attributes("a", "3", "lo", "2", "hi", "4")
	}, Incompatible, AttributeOutOfRange},
	{"not listed", func(p *pair) { p.rule(attributeRule(OneOf)); p.toType().Attributes.Set("a", "2,3") }, Incompatible, AttributeNotListed},
	{"malformed", func(p *pair) { p.rule(attributeRule(AtLeast)); p.toType().Attributes.Set("a", "many") }, Unknown, AttributeMalformed},
	{"another major", func(p *pair) {
		p.rule(attributeRule(SemVer))
		p.fromType().Attributes.Set("a", "1.2")
		p.toType().Attributes.Set("a", "2.2")
	}, Incompatible, VersionMajor},
	{"an older minor", func(p *pair) {
		p.rule(attributeRule(SemVer))
		p.fromType().Attributes.Set("a", "1.2")
		p.toType().Attributes.Set("a", "1.1.9")
	}, Incompatible, VersionOlder},
	{"not observed", func(p *pair) { p.toType().Attributes.Forget("a") }, Unknown, AttributeUnobserved},
	{"absent without a meaning", func(p *pair) { p.toType().Attributes = attributes() }, Unknown, AttributeAbsent},
	{"no rule", func(p *pair) { p.toType().Attributes.Set("b", "1") }, Unknown, AttributeUnjudged},
	{"no rule, but equal", func(p *pair) { p.fromType().Attributes.Set("b", "1"); p.toType().Attributes.Set("b", "1") }, Compatible, AttributeAccepted},
	{"no rule, and not observed", func(p *pair) {
		p.fromType().Attributes.Set("b", "1")
		p.toType().Attributes.Set("b", "1")
		p.toType().Attributes.Forget("b")
	}, Unknown, AttributeUnobserved},
	{"the device's own attribute without a rule", func(p *pair) { p.device().Attributes.Set("x", "1") }, Unknown, AttributeUnjudged},
	{"the device's own attribute copied", func(p *pair) {
		p.device().Attributes.Set("x", "1")
		p.catalog.Rules = append(p.catalog.Rules, Rule{Attribute: "x", Of: OfDevice, Kind: Copy})
	}, Compatible, AttributeCopied},
	{"the source's attributes incomplete", func(p *pair) { p.fromType().Attributes.Complete = false }, Unknown, AttributesIncomplete},
	{"the target's attributes incomplete", func(p *pair) { p.toType().Attributes.Complete = false }, Unknown, AttributesIncomplete},
	{"the device's attributes incomplete", func(p *pair) { p.device().Attributes.Complete = false }, Unknown, AttributesIncomplete},

	{"the contract could not be read", func(p *pair) { p.device().ContractUnread = true }, Unknown, ContractUnread},
	{"promised another type", func(p *pair) { p.promise(); p.contract().Type.Name = "u" }, Incompatible, ContractType},
	{"promised another label", func(p *pair) { p.catalog.Identity = ByLabel; p.promise(); p.contract().Label = inventory.Of("U") }, Incompatible, ContractType},

	{"another build", func(p *pair) { p.otherBuild() }, Unknown, BuildUnproven},
	{"another build, proved", func(p *pair) { p.otherBuild(); p.proved(func(*Proof) {}) }, Compatible, BuildProved},
	{"accepted", func(p *pair) { p.otherBuild(); p.proved(func(*Proof) {}) }, Compatible, ProofAccepted},
	{"the same stream epoch", func(p *pair) {
		p.otherBuild()
		p.catalog.Epochs = []Epoch{{Name: "e", Builds: []Selector{{"module:m": "b[12]"}}}}
	}, Compatible, BuildEpoch},
	{"different stream epochs", func(p *pair) {
		p.otherBuild()
		p.catalog.Epochs = []Epoch{{Name: "e", Builds: []Selector{{"module:m": "b1"}}}, {Name: "f", Builds: []Selector{{"module:m": "b2"}}}}
	}, Unknown, BuildUnproven},
	{"a newer version", func(p *pair) { firmwareBuild(p, "1.1", "1.2", SemVer) }, Compatible, BuildAccepted},
	{"an older version", func(p *pair) { firmwareBuild(p, "1.2", "1.1", SemVer) }, Incompatible, BuildRefused},
	{"a version that is none", func(p *pair) { firmwareBuild(p, "1.2", "new", SemVer) }, Unknown, BuildUnproven},
	{"a version with another part changed", func(p *pair) { firmwareBuild(p, "1.1", "1.2", SemVer); p.otherBuild() }, Unknown, BuildUnproven},
	{"a module not observed", func(p *pair) { p.to.Modules = nil }, Unknown, BuildUnknown},
	{"a build-id not observed", func(p *pair) { p.from.Modules[0].BuildID = inventory.Value{} }, Unknown, BuildUnknown},
	{"nothing identifies the module", func(p *pair) {
		p.from.Modules[0].BuildID = inventory.None()
		p.from.Modules[0].SrcVersion = inventory.None()
	}, Unknown, BuildUnknown},
	{"a source version where there is no build-id", func(p *pair) {
		for _, inv := range []*inventory.Inventory{p.from, p.to} {
			inv.Modules[0].BuildID, inv.Modules[0].SrcVersion = inventory.None(), inventory.Of("S")
		}
	}, Compatible, BuildEqual},
	{"a build-id against a source version", func(p *pair) {
		p.from.Modules[0].SrcVersion = inventory.Of("S")
		p.to.Modules[0].BuildID, p.to.Modules[0].SrcVersion = inventory.None(), inventory.Of("S")
	}, Unknown, BuildUnproven},
	{"a bad target", func(p *pair) { knownBad(p, "target", "b2"); p.otherBuild() }, Incompatible, BuildKnownBad},
	{"a bad source", func(p *pair) { knownBad(p, "source", "b1") }, Incompatible, BuildKnownBad},
	{"bad in any role", func(p *pair) { knownBad(p, "", "b1") }, Incompatible, BuildKnownBad},
	{"bad in the other role", func(p *pair) { knownBad(p, "source", "b2"); p.otherBuild() }, Unknown, BuildUnproven},

	{"rejected", func(p *pair) { p.proved(func(f *Proof) { f.Result = Rejected }) }, Incompatible, ProofRejected},
	{"rejected without controls", func(p *pair) {
		p.otherBuild()
		p.proved(func(f *Proof) { f.Result, f.Controls = Rejected, false })
	}, Unknown, ProofInconclusive},
	{"a build that does not take its own state", func(p *pair) { p.proved(func(f *Proof) { f.Result, f.Controls = Rejected, false }) }, Incompatible, ProofRejected},
	{"rejected once", func(p *pair) { p.otherBuild(); p.proved(func(f *Proof) { f.Result, f.Tries = Rejected, 1 }) }, Unknown, ProofInconclusive},
	{"inconclusive", func(p *pair) { p.otherBuild(); p.proved(func(f *Proof) { f.Result = Inconclusive }) }, Unknown, ProofInconclusive},
	{"accepted at a low grade", func(p *pair) { p.otherBuild(); p.proved(func(f *Proof) { f.Grade = FreshState }) }, Unknown, ProofTooWeak},
	{"accepted at a grade the catalog takes", func(p *pair) {
		p.otherBuild()
		p.catalog.Proof.Lowest = FreshState
		p.proved(func(f *Proof) { f.Grade = FreshState })
	}, Compatible, BuildProved},
	{"accepted for the other direction", func(p *pair) {
		p.otherBuild()
		p.proved(func(f *Proof) { f.SourceBuild, f.TargetBuild = f.TargetBuild, f.SourceBuild })
	}, Unknown, BuildUnproven},
	{"accepted for another shape", func(p *pair) {
		p.otherBuild()
		p.catalog.Proof.Shaping = []string{"a"}
		p.proved(func(f *Proof) { f.TargetShape = "another" })
	}, Unknown, BuildUnproven},
	{"accepted for this shape", func(p *pair) {
		p.otherBuild()
		p.catalog.Proof.Shaping = []string{"a"}
		p.proved(func(*Proof) {})
	}, Compatible, BuildProved},
	{"the newest wins", func(p *pair) {
		p.otherBuild()
		p.proved(func(f *Proof) { f.Time = f.Time.Add(time.Hour); f.Result = Rejected })
		p.proved(func(*Proof) {})
	}, Incompatible, ProofRejected},
	{"the worse of one moment wins", func(p *pair) {
		p.otherBuild()
		p.proved(func(f *Proof) { f.Result = Rejected })
		p.proved(func(*Proof) {})
	}, Incompatible, ProofRejected},

	{"no catalog at all", func(p *pair) {
		p.catalog = nil
		for _, typ := range []*inventory.Type{p.fromType(), p.toType()} {
			typ.Migration = &inventory.Migration{Can: inventory.Yes}
		}
	}, Compatible, BuildEqual},
	{"no catalog, and a parameter differs", func(p *pair) {
		p.catalog = nil
		for _, typ := range []*inventory.Type{p.fromType(), p.toType()} {
			typ.Migration = &inventory.Migration{Can: inventory.Yes}
		}
		p.to.Modules[0].Parameters.Set("debug", "1")
	}, Unknown, BuildUnproven},
	{"no catalog, and firmware not listed whole", func(p *pair) {
		p.catalog = nil
		p.to.Parents[0].Firmware.Complete = false
	}, Unknown, BuildUnknown},
	{"a function's BARs differ, and no catalog says that they may", func(p *pair) {
		p.from.Parents[0].Kind, p.to.Parents[0].Kind = inventory.FunctionParent, inventory.FunctionParent
		for _, typ := range []*inventory.Type{p.fromType(), p.toType()} {
			typ.Attributes = attributes("a", "1", "bars", "0x1000", "class", "2", "revision", "0", "subsystem_device", "1", "subsystem_vendor", "1")
		}
		p.toType().Attributes.Set("bars", "0x2000")
	}, Incompatible, AttributeDiffers},
}

func firmwareBuild(p *pair, from, to string, kind RuleKind) {
	p.catalog.Build.Firmware = []string{"fw"}
	p.catalog.Build.Versions = []VersionRule{{Part: "firmware:fw", Rule: kind, Source: "test"}}
	p.from.Parents[0].Firmware.Set("fw", from)
	p.to.Parents[0].Firmware.Set("fw", to)
}

func knownBad(p *pair, role, build string) {
	p.catalog.KnownBad = []KnownBad{{Builds: []Selector{{"module:m": build}}, Role: role, Reason: "test"}}
}

func TestCodes(t *testing.T) {
	for _, c := range codeCases {
		t.Run(c.name, func(t *testing.T) {
			p := newPair()
			c.change(p)
			v := p.check(t)
			if v.Outcome != c.want || !has(&v, c.code) {
				t.Errorf("%s, want %s with %s; findings:", v.Outcome, c.want, c.code)
				for i := range v.Findings {
					f := &v.Findings[i]
					t.Logf("  %-12s %-22s %s", f.Outcome, f.Code, f.Text())
				}
			}
			worst := Compatible
			for i := range v.Findings {
				f := &v.Findings[i]
				worst = max(worst, f.Outcome)
				if f.Text() == "" || f.Remedy != f.Code.Remedy() {
					t.Errorf("%s has text %q and remedy %q", f.Code, f.Text(), f.Remedy)
				}
				if f.Outcome != Compatible && f.Remedy == "" {
					t.Errorf("%s is %s, and nothing says what would change it", f.Code, f.Outcome)
				}
			}
			if worst != v.Outcome {
				t.Errorf("the outcome is %s, the worst finding %s", v.Outcome, worst)
			}
			if w := v.Worst(); w == nil || w.Outcome != v.Outcome {
				t.Errorf("Worst is %+v in a verdict of %s", w, v.Outcome)
			}
		})
	}
}

// TestEveryCode holds the list of codes against the codes that are made.
func TestEveryCode(t *testing.T) {
	seen := make(map[Code]bool)
	for _, c := range codeCases {
		p := newPair()
		c.change(p)
		v := p.check(t)
		for i := range v.Findings {
			seen[v.Findings[i].Code] = true
		}
	}
	// Check judges one offer; that a host has none is found by who asks about
	// the host.
	p := newPair()
	e := p.engine(t, nil)
	v := NotOffered(e.Source(p.from, p.device()), p.to)
	if v.Outcome != Incompatible || len(v.Findings) != 1 || v.Worst().Code != TypeNotOffered {
		t.Errorf("NotOffered: %+v", v)
	}
	seen[TypeNotOffered] = true
	for _, unread := range []func(){func() { p.to.ParentsUnread = true }, func() { p.to.ParentsUnread, p.to.Parents[0].TypesUnread = false, true }} {
		unread()
		if v := NotOffered(e.Source(p.from, p.device()), p.to); v.Outcome != Unknown || v.Worst().Code != TypeUnlisted {
			t.Errorf("NotOffered with types unread: %+v", v)
		}
	}
	seen[TypeUnlisted] = true

	var made []Code
	for code := range seen {
		made = append(made, code)
	}
	slices.Sort(made)
	if diff := cmp.Diff(Codes(), made); diff != "" {
		t.Errorf("codes that are listed (-) and made (+):\n%s", diff)
	}
	for _, code := range Codes() {
		if code.Meaning() == "" {
			t.Errorf("%s has no meaning", code)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package proofs

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"kindred/compat"
	"kindred/inventory"
)

func example() *File {
	return &File{Proofs: []compat.Proof{{
		SourceType: inventory.TypeName{Namespace: "kdx", Name: "V4_4"}, TargetType: inventory.TypeName{Namespace: "kdx", Name: "V4_4"},
		SourceBuild: "aa", TargetBuild: "bb", Grade: compat.WorkingState, Result: compat.Accepted,
		Controls: true, Tries: 2, Verified: true, Time: time.Date(2026, 11, 23, 6, 30, 0, 12345, time.UTC),
		Source: &compat.ProofSide{Host: "a", Parent: "p", Kernel: inventory.Of("6.12"), Build: []compat.Part{{Name: "module:kdx_gen8", Value: inventory.Of("aa")}, {Name: "firmware:fw", Value: inventory.None()}}},
		Log:    []string{"kdx: <loaded> & \u2028"},
	}}}
}

func key(t *testing.T, name string) *PrivateKey {
	t.Helper()
	k, err := NewPrivateKey(name, strings.NewReader(strings.Repeat(name, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSignatures(t *testing.T) {
	f, site, other := example(), key(t, "site"), key(t, "other")
	if err := f.Sign(other); err != nil {
		t.Fatal(err)
	}
	if err := f.Sign(site); err != nil {
		t.Fatal(err)
	}
	if err := f.Sign(site); err != nil || len(f.Signatures) != 2 {
		t.Fatalf("signed twice: %v, %d signatures", err, len(f.Signatures))
	}
	data, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := back.Encode(); err != nil || !bytes.Equal(again, data) {
		t.Errorf("%v, read and written again it is another:\n%s", err, again)
	}
	if by, ok := back.Trusted([]NamedKey{site.Public()}); !ok || by.Name != "site" {
		t.Errorf("by %v, %v", by, ok)
	}
	if _, ok := back.Trusted([]NamedKey{key(t, "third").Public()}); ok {
		t.Error("a key that did not sign counts")
	}
	if _, ok := back.Trusted(nil); ok {
		t.Error("without keys a file is trusted")
	}
	// Whatever is changed, the signature fits no more.
	for name, change := range map[string]func(p *compat.Proof){
		"result": func(p *compat.Proof) { p.Result = compat.Rejected },
		"build":  func(p *compat.Proof) { p.TargetBuild = "cc" },
		"grade":  func(p *compat.Proof) { p.Grade = compat.Observed },
		"time":   func(p *compat.Proof) { p.Time = p.Time.Add(1) },
		"log":    func(p *compat.Proof) { p.Log = nil },
		"part":   func(p *compat.Proof) { p.Source.Build[0].Value = inventory.Of("ab") },
	} {
		changed, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		change(&changed.Proofs[0])
		if _, ok := changed.Trusted([]NamedKey{site.Public()}); ok {
			t.Errorf("%s was changed, and it is trusted", name)
		}
	}
	swapped, _ := Decode(data)
	swapped.Signatures[0].Key, swapped.Signatures[1].Key = swapped.Signatures[1].Key, swapped.Signatures[0].Key
	if _, ok := swapped.Trusted([]NamedKey{site.Public()}); ok {
		t.Error("another key's signature counts")
	}
}

// TestDecodeShares: sides that are alike are one, others are not.
func TestDecodeShares(t *testing.T) {
	f := example()
	first := f.Proofs[0]
	second, third := first, first
	second.Target = new(*first.Source)
	third.Source = &compat.ProofSide{Host: "b", Parent: "p"}
	f.Proofs = append(f.Proofs, second, third)
	data, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	p := back.Proofs
	if p[0].Source != p[1].Source || p[0].Source != p[1].Target || p[0].Target != nil {
		t.Error("what is alike is there several times")
	}
	if p[2].Source == p[0].Source || p[2].Source.Host != "b" || p[0].Source.Host != "a" {
		t.Error("one side is taken for another")
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"not JSON":       "proofs",
		"cut":            string(good[:len(good)/2]),
		"more":           string(good) + "{}",
		"other schema":   strings.Replace(string(good), "kindred.proofs/v1", "kindred.proofs/v9", 1),
		"unknown key":    strings.Replace(string(good), `"tries"`, `"tires"`, 1),
		"unknown grade":  strings.Replace(string(good), "working-state", "hearsay", 1),
		"unknown result": strings.Replace(string(good), `"accepted"`, `"fine"`, 1),
		"no build":       strings.Replace(string(good), `"source_build": "aa"`, `"source_build": ""`, 1),
		"no grade":       strings.Replace(string(good), `"grade": "working-state",`, "", 1),
		"no time":        strings.Replace(string(good), `"time": "2026-11-23T06:30:00.000012345Z",`, "", 1),
		"too long":       strings.Repeat(" ", MaxSize+1),
	} {
		if f, err := Decode([]byte(data)); err == nil {
			t.Errorf("%s: read as %+v", name, f)
		}
	}
}

func TestKeys(t *testing.T) {
	k := key(t, "site")
	back, err := ParsePrivateKey(k.Encode())
	if err != nil || *back != *k {
		t.Fatalf("%v, %v", back, err)
	}
	list, err := ParseKeys([]byte("# trusted\n\n" + k.Public().String() + " # ours\n" + key(t, "b").Public().String()))
	if err != nil || len(list) != 2 || list[0] != k.Public() {
		t.Fatalf("%v, %v", list, err)
	}
	for _, bad := range []string{"ed25519 abc name", "rsa " + "AAAA name", k.Public().String() + " more", string(k.Encode())} {
		if _, err := ParseKeys([]byte(bad)); err == nil {
			t.Errorf("read %q", bad)
		}
	}
	for _, bad := range []string{"", "ed25519-private AAAA x", k.Public().String()} {
		if _, err := ParsePrivateKey([]byte(bad)); err == nil {
			t.Errorf("read %q", bad)
		}
	}
	for _, name := range []string{"", "two words", "a#b", "a\nb"} {
		if _, err := NewPrivateKey(name, strings.NewReader(strings.Repeat("x", 32))); err == nil {
			t.Errorf("%q names a key", name)
		}
	}
	if _, err := NewPrivateKey("short", strings.NewReader("few")); err == nil {
		t.Error("a key without enough randomness")
	}
}

func FuzzDecode(f *testing.F) {
	good, err := example().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"schema":"kindred.proofs/v1","proofs":null,"signatures":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Decode(data)
		if err != nil {
			return
		}
		again, err := file.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(again)
		if err != nil {
			t.Fatalf("%v in what was written:\n%s", err, again)
		}
		if more, _ := back.Encode(); !bytes.Equal(again, more) {
			t.Fatalf("it changes:\n%s\n%s", again, more)
		}
	})
}

// TestTooLong: what Decode would not read is not written.
func TestTooLong(t *testing.T) {
	f := example()
	f.Proofs[0].Detail = strings.Repeat("x", MaxSize-10)
	if _, err := f.Encode(); err == nil || !strings.Contains(err.Error(), "at most 16777216") {
		t.Error(err)
	}
}

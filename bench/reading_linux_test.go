// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"kindred/bench/private"
	"kindred/bench/reading"
	"kindred/bench/synth"
)

// TestMain goes into a private mount namespace when benchmarks are asked for:
// Kindred then reads a live host's /sys, as in the comparison with mdevctl.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" || private.Inside() {
		os.Exit(m.Run())
	}
	code, err := private.Run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	os.Exit(code)
}

func BenchmarkTypes(b *testing.B)   { benchmark(b, reading.Types) }
func BenchmarkDevices(b *testing.B) { benchmark(b, reading.Devices) }

func benchmark(b *testing.B, what reading.What) {
	for _, spec := range synth.Standard {
		root, err := synth.TempDir()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { os.RemoveAll(root) })
		if err := spec.Write(root); err != nil {
			b.Fatal(err)
		}
		uncover, err := private.Cover(root)
		if err != nil {
			b.Fatal(err)
		}
		bare, err := reading.Prepare("/", what)
		if err != nil {
			b.Fatal(err)
		}
		for _, cores := range []int{1, runtime.NumCPU()} {
			on := fmt.Sprintf("%v/cores=%d", spec, cores)
			b.Run("bare/"+on, func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
				b.ReportAllocs()
				for b.Loop() {
					if err := bare.Run(); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("kindred/"+on, func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
				b.ReportAllocs()
				for b.Loop() {
					if n, err := reading.Kindred("/", what); err != nil || n == 0 {
						b.Fatal(n, err)
					}
				}
			})
		}
		if err := uncover(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestSynth checks that a tree holds what it says, as Kindred reads it, and
// that its links stay inside.
func TestSynth(t *testing.T) {
	root := t.TempDir()
	spec := synth.Spec{Parents: 3, Types: 4, Devices: 25}
	if err := spec.Write(root); err != nil {
		t.Fatal(err)
	}
	for what, want := range map[reading.What]int{reading.Types: 12, reading.Devices: 25} {
		if n, err := reading.Kindred(root, what); err != nil || n != want {
			t.Errorf("%d %v and error %v, want %d", n, what, err, want)
		}
		bare, err := reading.Prepare(root, what)
		if err != nil {
			t.Fatal(err)
		}
		if err := bare.Run(); err != nil {
			t.Error(err)
		}
	}
	link := filepath.Join(root, "sys/bus/mdev/devices", synth.ID(0), "mdev_type", "name")
	if text, err := os.ReadFile(link); err != nil || string(text) != "GRID A10-1Q\n" {
		t.Errorf("the first device's type is %q, error %v", text, err)
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"kindred/lab/internal/truth"
)

// bzImage makes a boot image around a kernel, as the kernel's build does.
func bzImage(t *testing.T, kernel []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	payload := enc.EncodeAll(kernel, nil)
	payload = binary.LittleEndian.AppendUint32(payload, uint32(len(kernel)))
	const setup, offset = 2, 100
	image := make([]byte, (setup+1)*512+offset)
	image[offSetupSects] = setup
	copy(image[offMagic:], "HdrS")
	binary.LittleEndian.PutUint16(image[offVersion:], 0x020f)
	binary.LittleEndian.PutUint32(image[offPayloadOffset:], offset)
	binary.LittleEndian.PutUint32(image[offPayloadLength:], uint32(len(payload)))
	return append(append(image, payload...), "what follows the payload"...)
}

func TestCutVmlinux(t *testing.T) {
	kernel := append([]byte("\x7fELF"), bytes.Repeat([]byte("kernel"), 10000)...)
	good := bzImage(t, kernel)
	got, err := cutVmlinux(good)
	if err != nil || !bytes.Equal(got, kernel) {
		t.Fatalf("%d bytes, %v; want the %d put in", len(got), err, len(kernel))
	}
	change := func(f func(b []byte)) []byte {
		b := slices.Clone(good)
		f(b)
		return b
	}
	payload := 3*512 + 100
	end := payload + int(binary.LittleEndian.Uint32(good[offPayloadLength:]))
	bad := map[string][]byte{
		"nothing":        nil,
		"short":          good[:offPayloadLength],
		"cut":            good[:end-1],
		"no boot header": change(func(b []byte) { b[offMagic] = 'x' }),
		"old protocol":   change(func(b []byte) { binary.LittleEndian.PutUint16(b[offVersion:], 0x0207) }),
		"far offset":     change(func(b []byte) { binary.LittleEndian.PutUint32(b[offPayloadOffset:], 1<<32-1) }),
		"long payload":   change(func(b []byte) { binary.LittleEndian.PutUint32(b[offPayloadLength:], 1<<32-1) }),
		"short payload":  change(func(b []byte) { binary.LittleEndian.PutUint32(b[offPayloadLength:], 3) }),
		"empty payload":  change(func(b []byte) { binary.LittleEndian.PutUint32(b[offPayloadLength:], 4) }),
		"other packer":   change(func(b []byte) { copy(b[payload:], "\x1f\x8b") }),
		"broken data":    change(func(b []byte) { b[payload+20] ^= 0xff }),
		"huge size":      change(func(b []byte) { binary.LittleEndian.PutUint32(b[end-4:], 1<<32-1) }),
		"wrong size":     change(func(b []byte) { b[end-4]++ }),
		"no ELF":         bzImage(t, []byte("a kernel of another kind")),
	}
	for name, image := range bad {
		if got, err := cutVmlinux(image); err == nil {
			t.Errorf("%s: %d bytes and no error", name, len(got))
		}
	}
}

func FuzzCutVmlinux(f *testing.F) {
	f.Add(make([]byte, bootHeaderEnd))
	f.Fuzz(func(t *testing.T, image []byte) {
		if got, err := cutVmlinux(image); err == nil && !bytes.HasPrefix(got, []byte("\x7fELF")) {
			t.Error("neither an ELF file nor an error")
		}
	})
}

func TestInitramfs(t *testing.T) {
	tr := tree{}
	tr.dir("root", 0o700)
	tr.text("etc/deep/name", "a\n")
	tr.symlink("bin/sh", "busybox")
	tr.copy("init", "host.go", 0o755)
	var one, two bytes.Buffer
	if err := tr.write(&one); err != nil {
		t.Fatal(err)
	}
	if err := tr.write(&two); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the same tree gave different bytes")
	}
	var got []string
	for r := cpio.NewReader(&one); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		line := h.FileInfo().Mode().String() + " " + h.Name
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		if h.Name == "etc/deep/name" {
			line += ": " + string(data)
		}
		got = append(got, line)
	}
	want := []string{
		"drwxr-xr-x bin", "Lrwxrwxrwx bin/sh -> busybox",
		"drwxr-xr-x etc", "drwxr-xr-x etc/deep", "-rw-r--r-- etc/deep/name: a\n",
		"-rwxr-xr-x init", "drwx------ root",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
	for _, name := range []string{"/abs", "../up", "a//b", "a/", ".", ""} {
		if err := (tree{name: entry{}}).write(io.Discard); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
	if err := (tree{"gone": entry{mode: cpio.TypeReg, file: "no-such-file"}}).write(io.Discard); err == nil {
		t.Error("a file that is not there was taken")
	}
}

func TestNewestRelease(t *testing.T) {
	names := strings.Fields(`
		linux-headers-6.12.9+deb12-amd64 linux-image-6.12.9+deb12-amd64-unsigned
		linux-headers-6.12.10+deb12-amd64 linux-image-6.12.10+deb12-amd64-unsigned linux-image-6.12.10+deb12-amd64
		linux-headers-6.12.11+deb12-amd64
		linux-image-6.12.12+deb12-amd64-unsigned
		linux-headers-6.12.13+deb12-amd64 linux-image-6.12.13+deb12-amd64
		linux-headers-6.12.14+deb12-cloud-amd64 linux-image-6.12.14+deb12-cloud-amd64-unsigned
		linux-headers-6.12.15+deb13-amd64 linux-image-6.12.15+deb13-amd64-unsigned
		linux-image-6.12.10+deb12-amd64-dbg`)
	if got, ok := newestRelease(names); !ok || got != "6.12.10+deb12-amd64" {
		t.Errorf("newest = %q, %v", got, ok)
	}
	if got, ok := newestRelease(nil); ok {
		t.Errorf("newest of none = %q", got)
	}
}

func TestModuleOrder(t *testing.T) {
	dep, err := parseModulesDep("k/c-d.ko: k/b.ko k/a.ko\nk/b.ko: k/a.ko\nk/a.ko:\nk/e.ko: k/a.ko\n")
	if err != nil {
		t.Fatal(err)
	}
	got, err := dep.order([]string{"c_d", "e", "b"})
	if diff := cmp.Diff([]string{"k/a.ko", "k/b.ko", "k/c-d.ko", "k/e.ko"}, got); err != nil || diff != "" {
		t.Errorf("%v, order (-want +got):\n%s", err, diff)
	}
	if _, err := dep.order([]string{"zz"}); err == nil || !strings.Contains(err.Error(), "a, b, c_d, e") {
		t.Errorf("error %v, want one that lists what there is", err)
	}
	if _, err := parseModulesDep("no colon\n"); err == nil {
		t.Error("a line without a colon was taken")
	}
}

func TestKnownHostsAreValid(t *testing.T) {
	seen := map[string]bool{}
	for _, h := range KnownHosts() {
		if err := h.validate(); err != nil {
			t.Error(err)
		}
		if seen[h.Name] {
			t.Errorf("two hosts are named %q", h.Name)
		}
		seen[h.Name] = true
	}
	for _, h := range []Host{{}, {Name: "A"}, {Name: "-a"}, {Name: "a,b"}, {Name: "a", Memory: 64}} {
		if h.validate() == nil {
			t.Errorf("%+v was taken", h)
		}
	}
}

func TestDied(t *testing.T) {
	e := died("a", "boot\r\n[1] BUG: bad\r\n[2] Kernel panic - not syncing: x\r\nlast\r\n", "QEMU ended")
	if e.Cause != "[2] Kernel panic - not syncing: x" || !strings.HasSuffix(e.Console, "\nlast") {
		t.Errorf("%+v", e)
	}
	if e := died("a", strings.Repeat("line\n", 1000), "QEMU ended"); e.Cause != "QEMU ended" || strings.Count(e.Console, "\n") != tailLines-1 {
		t.Errorf("cause %q, %d lines", e.Cause, strings.Count(e.Console, "\n"))
	}
}

// TestTornText: what is booted again, and that no other death is.
func TestTornText(t *testing.T) {
	torn := fmt.Errorf("booting: %w", died("a", "[1.3] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n[1.4] Kernel panic - not syncing: Fatal exception in interrupt\n", ""))
	other := died("a", "[1.3] BUG: kernel NULL pointer dereference\n[1.4] Kernel panic - not syncing: Fatal exception\n", "")
	if !tornText(torn) || tornText(other) || tornText(nil) || tornText(context.Canceled) {
		t.Errorf("torn: %t, another panic: %t, none: %t", tornText(torn), tornText(other), tornText(nil))
	}
}

func TestDriverBuilds(t *testing.T) {
	builds, err := DriverBuilds()
	if err != nil {
		t.Fatal(err)
	}
	if len(builds) < 40 {
		t.Errorf("only %d builds", len(builds))
	}
	seen := map[string]bool{}
	for _, b := range builds {
		if seen[b.Name] || !hostName.MatchString(b.Name) || len(b.Types) == 0 {
			t.Errorf("%+v: named twice, not a host's name, or without types", b)
		}
		seen[b.Name] = true
		if h, ok := KnownHost(b.Name); !ok || !strings.HasPrefix(h.Modules[0], b.Module()) {
			t.Errorf("no host for build %s: %+v", b.Name, h)
		}
	}
	want := DriverBuild{Name: "gen9", Namespace: "kdx", PCI: true, Dialect: "window", Stream: "1.0", Types: []string{"V4_4", "V5_4"}, Options: "-"}
	if diff := cmp.Diff(want, builds[1]); diff != "" {
		t.Errorf("second build (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"a b c\n", "a kdx usb window 1.0 V:4:4 0x7 -\n"} {
		if _, err := parseDriverBuilds(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestDriverTruthIsWhole checks the recorded table by itself: it is complete, its two
// forms agree, and it has what it was made to show.
func TestDriverTruthIsWhole(t *testing.T) {
	data, err := os.ReadFile("driver/truth.json")
	if err != nil {
		t.Fatal(err)
	}
	var table truth.Table
	if err := json.Unmarshal(data, &table); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("driver/truth.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(page, table.Markdown()) {
		t.Error("truth.md is not made of truth.json")
	}
	names := 0
	for _, b := range truthPlan(t, "").Builds {
		names += len(b.Types)
	}
	if len(table.Streams) != names || len(table.Pairs) != names*names || len(table.Cut) != names {
		t.Errorf("%d streams, %d pairs, %d cut for %d types", len(table.Streams), len(table.Pairs), len(table.Cut), names)
	}
	got := map[string]string{}
	for _, p := range table.Pairs {
		got[p.From+" "+p.To] = strings.TrimSpace(strings.Join([]string{p.Outcome, p.Where, p.Errno, p.State}, " "))
		if p.From == p.To && (p.Outcome != truth.Accepted || p.State != truth.Equal) && p.From != "nomig/V4_4" && p.From != "anything/V4_4" {
			t.Errorf("%s does not take its own stream: %+v", p.From, p)
		}
	}
	for pair, want := range map[string]string{
		"gen8/V4_4 gen9/V4_4":     "accepted   equal",
		"gen9/V4_4 gen8/V4_4":     "accepted   equal",
		"gen8/V4_4 gen9/V5_4":     "refused header EINVAL",
		"split4/4q split5/4q":     "accepted   equal",
		"rel10/V4_4 rel11/V4_4":   "accepted   equal",
		"rel11/V4_4 rel10/V4_4":   "refused header EINVAL",
		"rel10/V4_4 rel20/V4_4":   "refused header EINVAL",
		"rel11/V4_4 rel20/V4_4":   "refused header EINVAL",
		"gen8/V4_4 poor/V4_4":     "refused header EINVAL",
		"bad11/V4_4 rel11/V4_4":   "accepted   equal",
		"bad11/V4_4 rel12/V4_4":   "refused stop EINVAL",
		"gen8/V4_4 anything/V4_4": "accepted   different",
		"param/V4_4 param1/V4_4":  "refused header EINVAL",
		"mtty10/p1 mtty11/p1":     "refused header EFAULT",
		"hisi10/q2 hisi11/q2":     "accepted   equal",
		"hisi10/q2 hisi20/q2":     "refused header EFAULT",
		"qat1/dc qat1x/dc":        "accepted   equal",
		"qat1x/dc qat1/dc":        "refused header EINVAL",
		"qat1/dc qat1slow/dc":     "refused stop EINVAL",
		"mlxtag/std mlx1/std":     "refused state EOPNOTSUPP",
		"mlxopt/std mlx1/std":     "accepted   equal",
		"viopart/net vio1/net":    "refused header EINVAL",
		"vio2/net vio1/net":       "refused header EINVAL",
		"xe1/vf xerev/vf":         "refused state ENODEV",
		"xe1/vf xe2/vf":           "refused state EINVAL",
		"pds2/lm pds1/lm":         "refused stop EINVAL",
		"pds1/lm pdsswap/lm":      "accepted   different",
		"gen8/V4_4 nomig/V4_4":    "refused start ENOTTY",
		"nomig/V4_4 gen8/V4_4":    "no stream",
	} {
		if got[pair] != want {
			t.Errorf("%s: %q, want %q", pair, got[pair], want)
		}
	}
}

// TestConfigured: what Kconfig drops is said.
func TestConfigured(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".config")
	for _, c := range []struct{ drop, add, want string }{
		{"", "", ""},
		{"CONFIG_IOMMUFD=y\n", "", "CONFIG_IOMMUFD=y"},
		{"CONFIG_VFIO=m\n", "CONFIG_VFIO=y\n", "CONFIG_VFIO=m"},
		{"", "CONFIG_CPU_MITIGATIONS=y\n", "CONFIG_CPU_MITIGATIONS=n"},
	} {
		if c.drop != "" && !strings.Contains(string(iommufdConfig), c.drop) {
			t.Fatalf("%q is not asked for", c.drop)
		}
		made := strings.Replace(string(iommufdConfig), c.drop, "", 1) + c.add
		if err := os.WriteFile(file, []byte(made), 0o644); err != nil {
			t.Fatal(err)
		}
		err := configured(file)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasSuffix(err.Error(), " "+c.want)) {
			t.Errorf("without %q, with %q: %v, want %q", c.drop, c.add, err, c.want)
		}
	}
}

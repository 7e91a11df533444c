// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func TestCopyUntil(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"ls\n", "ls\n"},
		{"ls\n\x1drest", "ls\n"},
		{"\x1d", ""},
	} {
		var out bytes.Buffer
		copyUntil(&out, iotest.OneByteReader(strings.NewReader(c.in)), leave)
		if out.String() != c.want {
			t.Errorf("%q: copied %q, want %q", c.in, out.String(), c.want)
		}
	}
}

func TestListen(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "a.control")
	first, err := listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := listen(socket); err == nil {
		l.Close()
		t.Error("a host that is up was taken over")
	}
	// As after a crash: the socket is there and nobody listens.
	first.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false)
	first.Close()
	second, err := listen(socket)
	if err != nil {
		t.Fatalf("after a crash: %v", err)
	}
	second.Close()
}

func TestHostsNamed(t *testing.T) {
	if _, err := hostsNamed([]string{"a", "nosuch"}); err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("error %v, want one that names the host", err)
	}
	if _, err := hostsNamed([]string{"a", "a"}); err == nil {
		t.Error("the same host was taken twice")
	}
}

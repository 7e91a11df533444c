// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// TestLAN: a frame goes to all others, whole; one that is cut off gets none and
// is not heard, and gets what comes after it was joined again.
func TestLAN(t *testing.T) {
	lan := NewLAN("a", "b", "c")
	ends := make(map[string]net.Conn)
	for _, name := range lan.names {
		file, err := lan.plug(name)
		if err != nil {
			t.Fatal(err)
		}
		if ends[name], err = net.FileConn(file); err != nil {
			t.Fatal(err)
		}
		file.Close()
		t.Cleanup(func() { ends[name].Close() })
	}
	frame := func(text string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	}
	send := func(from, text string) {
		t.Helper()
		if _, err := ends[from].Write(frame(text)); err != nil {
			t.Fatal(err)
		}
	}
	gets := func(at, want string) {
		t.Helper()
		if err := ends[at].SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		var length [4]byte
		if _, err := io.ReadFull(ends[at], length[:]); err != nil {
			t.Fatalf("%s gets no frame: %v", at, err)
		}
		frame := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(ends[at], frame); err != nil || string(frame) != want {
			t.Fatalf("%s gets %q, %v; want %q", at, frame, err, want)
		}
	}
	send("a", "to all")
	gets("b", "to all")
	gets("c", "to all")

	lan.Cut("b")
	send("a", "without b")
	gets("c", "without b") // so it was delivered to all by now
	// Not by its end: nobody would tell when it was heard, and it might be joined by then.
	lan.deliver("b", frame("from nobody"))
	send("a", "still without b")
	gets("c", "still without b")
	lan.Join("b")
	send("a", "to b again")
	gets("b", "to b again")
	gets("c", "to b again")
	send("b", "from b again")
	gets("a", "from b again")
	gets("c", "from b again")
}

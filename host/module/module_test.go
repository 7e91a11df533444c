// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/binary"
	"strings"
	"testing"
)

// note encodes one ELF note.
func note(order binary.ByteOrder, name string, kind uint32, desc string) []byte {
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }
	var head [12]byte
	order.PutUint32(head[0:], uint32(len(name)))
	order.PutUint32(head[4:], uint32(len(desc)))
	order.PutUint32(head[8:], kind)
	return append(append(head[:], pad([]byte(name))...), pad([]byte(desc))...)
}

func TestParseBuildID(t *testing.T) {
	little, big := binary.LittleEndian, binary.BigEndian
	id := note(little, "GNU\x00", 3, "\x01\x02\x03\x04\xff")
	for _, c := range []struct {
		name    string
		notes   []byte
		want    string
		problem string
	}{
		{"alone", id, "01020304ff", ""},
		{"after another, as in /sys/kernel/notes", append(note(little, "Xen\x00", 6, "linux"), id...), "01020304ff", ""},
		{"big endian", note(big, "GNU\x00", 3, "\xaa\xbb"), "aabb", ""},
		{"no build-id", note(little, "GNU\x00", 1, "abcd"), "", "no GNU build-id"},
		{"nothing", nil, "", "no GNU build-id"},
		{"cut short", id[:14], "", "an ELF note of"},
		{"absurd length", []byte("\xff\xff\xff\xff\xff\xff\xff\xff\x03\x00\x00\x00GNU\x00"), "", "an ELF note of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseBuildID(c.notes)
			if got != c.want || c.problem == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%q, %v; want %q, %q", got, err, c.want, c.problem)
			}
		})
	}
}

func FuzzParseBuildID(f *testing.F) {
	f.Add(note(binary.LittleEndian, "GNU\x00", 3, "\x01\x02\x03\x04"))
	f.Add(note(binary.BigEndian, "GNU\x00", 3, "\x01\x02\x03\x04"))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\x03\x00\x00\x00GNU\x00"))
	f.Fuzz(func(t *testing.T, notes []byte) {
		id, err := ParseBuildID(notes)
		if err == nil && (id == "" || len(id)%2 != 0) {
			t.Errorf("%q is no build-id", id)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package domain

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// edit replaces the bytes from..to of a text.
type edit struct {
	from, to int
	text     string
}

// Rewrite is the text with other devices in the place of those that the map
// names. Nothing else differs, and what is the same already is not touched.
func (d *Document) Rewrite(devices map[string]string) ([]byte, error) {
	for old := range devices {
		if d.Device(old) == nil {
			return nil, fmt.Errorf("the domain has no device %s", old)
		}
	}
	var edits []edit
	want := make([]string, 0, len(d.Hostdevs))
	for i := range d.Hostdevs {
		h := &d.Hostdevs[i]
		device, ok := devices[h.Device]
		if !ok {
			device = h.Device
		}
		want = append(want, device)
		if device == h.Device {
			continue
		}
		more, err := h.become(device)
		if err != nil {
			return nil, fmt.Errorf("put %s in the place of %s: %w", device, h.Device, err)
		}
		edits = append(edits, more...)
	}
	text := apply(d.text, edits)
	// What was written is read again: an address in a form that this package does
	// not know must not reach a hypervisor.
	again, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the domain with its new devices: %w", err)
	}
	for i := range want {
		if len(again.Hostdevs) != len(want) || again.Hostdevs[i].Device != want[i] {
			return nil, fmt.Errorf("the domain with its new devices has not %s where it belongs", want[i])
		}
	}
	return text, nil
}

// apply makes the edits in a copy.
func apply(text []byte, edits []edit) []byte {
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	var out bytes.Buffer
	at := 0
	for _, e := range edits {
		out.Write(text[at:e.from])
		out.WriteString(e.text)
		at = e.to
	}
	out.Write(text[at:])
	return out.Bytes()
}

// become are the edits that make a device another one.
func (h *Hostdev) become(device string) ([]edit, error) {
	if h.Kind == Mdev {
		id, err := uuid(device)
		if err != nil {
			return nil, err
		}
		from, to, ok := value(h.tag, "uuid")
		if !ok {
			return nil, errors.New("its address has no uuid")
		}
		return []edit{{h.from + from, h.from + to, id}}, nil
	}
	now, err := split(device)
	if err != nil {
		return nil, err
	}
	was, err := split(h.Device)
	if err != nil {
		return nil, err
	}
	var edits []edit
	for i, p := range parts {
		if now[i] == was[i] {
			continue
		}
		text := fmt.Sprintf(p.format, now[i])
		if from, to, ok := value(h.tag, p.name); ok {
			edits = append(edits, edit{h.from + from, h.from + to, text})
			continue
		}
		after := h.from + len("<address")
		edits = append(edits, edit{after, after, " " + p.name + "=" + strconv.Quote(text)})
	}
	return edits, nil
}

// value finds an attribute's value in a start tag that the tokenizer took: there
// are quotes around it, and none in it.
func value(tag []byte, name string) (from, to int, ok bool) {
	space := func(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }
	i := bytes.IndexFunc(tag, func(r rune) bool { return r < 0x80 && space(byte(r)) })
	for i >= 0 && i < len(tag) {
		for i < len(tag) && space(tag[i]) {
			i++
		}
		begin := i
		for i < len(tag) && tag[i] != '=' && !space(tag[i]) {
			i++
		}
		found := string(tag[begin:i])
		for i < len(tag) && (tag[i] == '=' || space(tag[i])) {
			i++
		}
		if i == len(tag) || tag[i] != '\'' && tag[i] != '"' {
			return 0, 0, false // the end of the tag
		}
		from = i + 1
		length := bytes.IndexByte(tag[from:], tag[i])
		if length < 0 {
			return 0, 0, false
		}
		if found == name {
			return from, from + length, true
		}
		i = from + length + 1
	}
	return 0, 0, false
}

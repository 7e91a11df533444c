// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"

	"golang.org/x/sys/unix"
)

// A stream is a header, which PRE_COPY gives, the contents, the memory, and a
// sum; little endian.
const (
	imageHeader   = 48
	imageContents = 24
	imageSum      = 8
)

// image is a stream as a driver writes it for a type.
type image struct {
	kind         uint64 // of the stream, from its name
	major, minor uint16
	face         uint32 // the interface: vendor and device
	features     uint64 // that the guest was given; of a target, what it has
	memory       uint64
}

func imageOf(d *Driver, t *Type, features uint64) image {
	kind := d.Migration.Stream
	if kind == "" {
		kind = d.Namespace
	}
	h := fnv.New64a()
	h.Write([]byte(kind))
	return image{h.Sum64(), d.Migration.Major, d.Migration.Minor, t.Vendor<<16 | t.Device, features, t.Memory}
}

func (m *image) size() uint64 { return imageHeader + imageContents + m.memory + imageSum }

func (m *image) header() []byte {
	b := make([]byte, imageHeader)
	copy(b, "SIMSTATE")
	binary.LittleEndian.PutUint64(b[8:], m.kind)
	binary.LittleEndian.PutUint16(b[16:], m.major)
	binary.LittleEndian.PutUint16(b[18:], m.minor)
	binary.LittleEndian.PutUint32(b[20:], m.face)
	binary.LittleEndian.PutUint64(b[24:], m.features)
	binary.LittleEndian.PutUint64(b[32:], m.memory)
	return b
}

func parseImage(b []byte) (m image, ok bool) {
	m = image{
		binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint16(b[16:]), binary.LittleEndian.Uint16(b[18:]),
		binary.LittleEndian.Uint32(b[20:]), binary.LittleEndian.Uint64(b[24:]), binary.LittleEndian.Uint64(b[32:]),
	}
	return m, bytes.Equal(b, m.header())
}

func (c *contents) image() []byte {
	b := binary.LittleEndian.AppendUint64(nil, c.count)
	b = binary.LittleEndian.AppendUint64(b, c.digest)
	return binary.LittleEndian.AppendUint64(b, c.scar)
}

// sum is what stands at the end of a stream with the contents: enough to see
// that the right one ended.
func (c *contents) sum() uint64 { return c.word(c.count) * odd2 }

// read gives bytes of the stream from an offset on, up to its end.
func (m *image) read(d *Migration, c *contents, p []byte, at uint64) int {
	p = p[:min(uint64(len(p)), m.size()-at)]
	total := len(p)
	sum := c.sum()
	if d.BadSum {
		sum ^= 1
	}
	parts := []struct {
		size uint64
		give func(p []byte, at uint64)
	}{
		{imageHeader, func(p []byte, at uint64) { copy(p, m.header()[at:]) }},
		{imageContents, func(p []byte, at uint64) { copy(p, c.image()[at:]) }},
		{m.memory, func(p []byte, at uint64) { c.memory(p, m.placed(d, at)) }},
		{imageSum, func(p []byte, at uint64) { copy(p, binary.LittleEndian.AppendUint64(nil, sum)[at:]) }},
	}
	for _, part := range parts {
		if at >= part.size {
			at -= part.size
			continue
		}
		n := min(part.size-at, uint64(len(p)))
		part.give(p[:n], at)
		p, at = p[n:], 0
	}
	return total
}

// placed is where the memory of an offset in the stream lies: a driver that
// shuffles begins elsewhere.
func (m *image) placed(d *Migration, at uint64) uint64 {
	if d.Shuffles {
		return at + 1<<40
	}
	return at
}

// loading is a stream being taken.
type loading struct {
	driver  *Driver
	want    image // what the device would write
	at      uint64
	head    []byte // header and contents as far as they came
	into    contents
	sum     [imageSum]byte
	hurt    bool   // the memory was not that of its contents
	hurtAt  uint64 // where first
	refused bool
	why     string // the last refusal, for the log
	scratch []byte
}

func newLoading(d *Driver, t *Type) *loading {
	return &loading{driver: d, want: imageOf(d, t, t.Features), into: newContents(t)}
}

const imageFront = imageHeader + imageContents

// write takes bytes. An error is a refusal; whether it stays, and what becomes
// of the bytes, is the driver's way.
func (l *loading) write(p []byte) (int, error) {
	m := &l.driver.Migration
	if l.refused && !m.Forgets {
		return 0, unix.ENODEV
	}
	if uint64(len(p)) > l.want.size()-min(l.at, l.want.size()) && !m.TakesAnything {
		l.refused = true
		l.why = fmt.Sprintf("state of more than %d bytes", l.want.size())
		return 0, unix.ENOMEM
	}
	total := len(p)
	var refusal error
	for len(p) > 0 && l.at < imageFront {
		end := uint64(imageHeader)
		if l.at >= imageHeader {
			end = imageFront
		}
		n := min(end-l.at, uint64(len(p)))
		l.head = append(l.head, p[:n]...)
		l.at, p = l.at+n, p[n:]
		switch {
		case l.at == imageHeader && !l.fits() && !m.TakesAnything:
			l.refused, refusal = true, m.refusal()
			if !m.Forgets {
				return 0, refusal
			}
		case l.at == imageFront:
			l.unpack()
		}
	}
	l.compare(p)
	if refusal != nil {
		return 0, refusal
	}
	return total, nil
}

// fits looks at the header. Where it does not fit, it notes why.
func (l *loading) fits() bool {
	got, ok := parseImage(l.head[:imageHeader])
	switch want := &l.want; {
	case !ok:
		l.why = "no state of this driver"
	case got.kind != want.kind:
		l.why = fmt.Sprintf("state of the kind %#x, not %#x", got.kind, want.kind)
	case !l.driver.Migration.takes(got.major, got.minor):
		l.why = fmt.Sprintf("state of version %d.%d, which this driver of %d.%d does not take", got.major, got.minor, want.major, want.minor)
	case got.face != want.face:
		l.why = fmt.Sprintf("state of interface %08x, not %08x", got.face, want.face)
	case got.features&^want.features != 0:
		l.why = fmt.Sprintf("the guest was given features %#x, this device has %#x", got.features, want.features)
	case got.memory != want.memory:
		l.why = fmt.Sprintf("state of %d bytes of memory, not %d", got.memory, want.memory)
	default:
		return true
	}
	return false
}

// unpack reads the contents. With a header that does not fit they are read as
// if it did.
func (l *loading) unpack() {
	b := l.head[imageHeader:]
	got, _ := parseImage(l.head[:imageHeader])
	l.into = contents{
		count: binary.LittleEndian.Uint64(b), digest: binary.LittleEndian.Uint64(b[8:]), scar: binary.LittleEndian.Uint64(b[16:]),
		features: got.features & l.want.features,
	}
	l.hurt = !l.fits()
}

// compare takes memory and the sum: what comes is compared with what follows
// from the contents.
func (l *loading) compare(p []byte) {
	for len(p) > 0 {
		off := l.at - imageFront
		var n uint64
		switch {
		case off < l.want.memory:
			n = min(l.want.memory-off, uint64(len(p)), 1<<16)
			if uint64(len(l.scratch)) < n {
				l.scratch = make([]byte, n)
			}
			l.into.memory(l.scratch[:n], l.want.placed(&l.driver.Migration, off))
			if !l.hurt && !bytes.Equal(l.scratch[:n], p[:n]) {
				l.hurt, l.hurtAt = true, off
			}
		case off < l.want.memory+imageSum:
			n = uint64(copy(l.sum[off-l.want.memory:], p))
		default: // more than there is room for
			n = uint64(len(p))
			l.hurt, l.hurtAt = true, off
		}
		l.at, p = l.at+n, p[n:]
	}
}

// finish is RESUMING to STOP: what the device has then, or why not. A driver
// that takes what does not fit leaves a scar.
func (l *loading) finish(had contents) (contents, error) {
	m := &l.driver.Migration
	short := l.at < l.want.size()
	scarred := func(c contents) contents {
		c.hurt(l.hurtAt, l.at)
		return c
	}
	switch {
	case l.refused && m.Forgets && !short:
		return scarred(l.into), nil
	case m.TakesTruncated && l.refused:
		return scarred(had), nil
	case (m.TakesTruncated || m.TakesAnything) && l.at == 0:
		return had, nil
	case (m.TakesTruncated || m.TakesAnything) && short:
		return scarred(l.into), nil
	case short || l.refused:
		l.why = fmt.Sprintf("state of %d bytes, not %d", l.at, l.want.size())
		return had, unix.EINVAL
	case l.hurt && (m.IgnoresSum || m.TakesAnything):
		return scarred(l.into), nil
	case m.IgnoresSum || m.TakesAnything:
		return l.into, nil
	case l.hurt || binary.LittleEndian.Uint64(l.sum[:]) != l.into.sum():
		l.why = "the state does not match its sum"
		return had, unix.EINVAL
	}
	return l.into, nil
}

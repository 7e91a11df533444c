// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"encoding/binary"
	"math/bits"
)

// contents is everything of a device that its guest can change: a few numbers
// from which all else follows.
type contents struct {
	count  uint64 // words of work done
	digest uint64 // of the words, in their order
	// features are what the guest was given. They stay on a target that has more.
	features uint64
	// scar is zero for a device whose state was always loaded as it was saved.
	scar uint64
}

const (
	digestStart = 0x6b696e6472656421
	odd1        = 0x9e3779b97f4a7c15
	odd2        = 0xd6e8feb86659fd93
)

func newContents(t *Type) contents { return contents{digest: digestStart, features: t.Features} }

// feed does one word of work.
func (c *contents) feed(word uint64) {
	c.count++
	c.digest = bits.RotateLeft64((c.digest^word)*odd1, 27) + c.count
}

// word is the memory's i-th word of eight bytes.
func (c *contents) word(i uint64) uint64 {
	x := (c.digest ^ c.scar) + (i+1)*odd1
	x = (x ^ x>>32) * odd2
	return x ^ x>>29
}

// pageSize is how much of the memory is alike but for its first word.
const pageSize = 4096

// memory gives the memory's bytes from an offset on. Its pages begin with a word
// of their own and go on alike: what is moved is to cost little beside moving it.
func (c *contents) memory(p []byte, at uint64) {
	var whole []byte // a page that was written already
	for len(p) > 0 {
		off := at % pageSize
		n := int(min(pageSize-off, uint64(len(p))))
		switch {
		case n < pageSize:
			c.page(p[:n], at/pageSize, off)
		case whole == nil:
			whole = p[:n]
			c.page(whole, at/pageSize, 0)
		default:
			copy(p[:n], whole)
			binary.LittleEndian.PutUint64(p, c.word(at/pageSize+pageSize))
		}
		at, p = at+uint64(n), p[n:]
	}
}

// page gives bytes of one page from an offset on.
func (c *contents) page(p []byte, page, off uint64) {
	var word [8]byte
	for len(p) > 0 {
		i := off / 8
		if i == 0 {
			i = page + pageSize
		}
		binary.LittleEndian.PutUint64(word[:], c.word(i))
		n := copy(p, word[off%8:])
		off, p = off+uint64(n), p[n:]
	}
}

// hurt leaves a scar that depends on what went wrong and where.
func (c *contents) hurt(why, where uint64) {
	c.scar = bits.RotateLeft64((c.scar^why)*odd2, 31) ^ where*odd1 | 1
}

// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"kindred/host/vfio"
)

// Work is what a guest does with a device: so many words of work, which follow
// from the seed.
func Work(d vfio.Device, seed uint64, words int) error {
	var word [8]byte
	for i := range words {
		x := (seed + uint64(i) + 1) * odd2
		binary.LittleEndian.PutUint64(word[:], x^x>>31)
		if err := d.WriteRegion(barRegisters, RegWork, word[:]); err != nil {
			return fmt.Errorf("work: %w", err)
		}
	}
	return nil
}

// Seen is a digest of what a guest sees of a device: config space, registers,
// and the first and last of its memory, where every byte follows from the
// contents. A guest that is moved must see the same before and after.
func Seen(d vfio.Device) (string, error) {
	info, err := d.Info()
	if err != nil {
		return "", fmt.Errorf("look: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %v %v", info.API, info.Regions, info.IRQs)
	look := func(region int, at, n uint64) {
		p := make([]byte, n)
		if err == nil {
			err = d.ReadRegion(region, int64(at), p)
		}
		h.Write(p)
	}
	look(vfio.RegionConfig, 0, configSize)
	look(barRegisters, 0, registers)
	memory := info.Regions[barMemory].Size
	ends := min(memory, 4096)
	look(barMemory, 0, ends)
	look(barMemory, memory-ends, ends)
	if err != nil {
		return "", fmt.Errorf("look: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

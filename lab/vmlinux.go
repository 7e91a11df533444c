// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Offsets in the x86 boot header (Documentation/arch/x86/boot.rst). The payload
// fields are there since boot protocol 2.08.
const (
	offSetupSects    = 0x1f1
	offMagic         = 0x202
	offVersion       = 0x206
	offPayloadOffset = 0x248
	offPayloadLength = 0x24c
	bootHeaderEnd    = 0x250

	minBootProtocol = 0x0208
	maxVmlinux      = 512 << 20
)

var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// cutVmlinux takes the uncompressed kernel out of a bzImage. QEMU starts it by
// the PVH entry, which saves unpacking it again under emulation at every boot.
func cutVmlinux(bzImage []byte) ([]byte, error) {
	if len(bzImage) < bootHeaderEnd || !bytes.Equal(bzImage[offMagic:offMagic+4], []byte("HdrS")) {
		return nil, errors.New("not a bzImage: no boot header")
	}
	if v := binary.LittleEndian.Uint16(bzImage[offVersion:]); v < minBootProtocol {
		return nil, fmt.Errorf("boot protocol %d.%02d does not say where the kernel lies, 2.08 is needed", v>>8, v&0xff)
	}
	setup := int64(bzImage[offSetupSects])
	if setup == 0 {
		setup = 4
	}
	start := (setup+1)*512 + int64(binary.LittleEndian.Uint32(bzImage[offPayloadOffset:]))
	length := int64(binary.LittleEndian.Uint32(bzImage[offPayloadLength:]))
	// The last 4 bytes of a zstd payload are the uncompressed size, for the boot stub.
	if length < 4 || start+length > int64(len(bzImage)) {
		return nil, fmt.Errorf("the boot header puts the kernel at %d+%d in a file of %d bytes", start, length, len(bzImage))
	}
	payload := bzImage[start : start+length-4]
	if !bytes.HasPrefix(payload, zstdMagic) {
		return nil, fmt.Errorf("the kernel is not compressed with zstd (it starts with % x)", payload[:min(4, len(payload))])
	}
	size := binary.LittleEndian.Uint32(bzImage[start+length-4:])
	if size > maxVmlinux {
		return nil, fmt.Errorf("the kernel claims %d bytes uncompressed, more than %d", size, maxVmlinux)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxVmlinux), zstd.WithDecoderMaxWindow(256<<20), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("making a zstd decoder: %w", err)
	}
	defer dec.Close()
	vmlinux, err := dec.DecodeAll(payload, make([]byte, 0, size))
	if err != nil {
		return nil, fmt.Errorf("uncompressing the kernel: %w", err)
	}
	if len(vmlinux) != int(size) || !bytes.HasPrefix(vmlinux, []byte("\x7fELF")) {
		return nil, fmt.Errorf("uncompressed %d bytes of %d, or no ELF file", len(vmlinux), size)
	}
	return vmlinux, nil
}

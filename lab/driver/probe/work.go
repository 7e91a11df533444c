// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"kindred/lab/driver/internal/raw"
)

// Registers of BAR 0, see lab/driver/README.md.
const (
	regCounter = 0x20
	regDigest  = 0x28
	regFeed    = 0x38
	regQueues  = 0x0c
	regQueue   = 0x40
	regRings   = 0x1000
	bar0Size   = 0x4000
	ringSize   = 0x400
	ringSlots  = 64
)

const (
	opFeed = 1
	opFill = 2
	opHash = 3
	opMix  = 4 // of features, the third
)

// post puts a command into queue q and rings its doorbell.
func post(d *raw.Device, q int, op, length uint32, arg uint64) error {
	tail, err := d.ReadRegion(raw.BAR0, int64(regQueue+8*q+4), 4)
	if err != nil {
		return err
	}
	slot := binary.LittleEndian.Uint32(tail) % ringSlots
	desc := binary.LittleEndian.AppendUint32(nil, op)
	desc = binary.LittleEndian.AppendUint32(desc, length)
	desc = binary.LittleEndian.AppendUint64(desc, arg)
	if err := d.WriteRegion(raw.BAR0, int64(regRings+ringSize*q)+int64(slot)*16, desc); err != nil {
		return err
	}
	return d.Write32(int64(regQueue+8*q+4), (slot+1)%ringSlots)
}

// work is what a guest does with its device: every queue, the scratch by command
// and by hand, and the register that feeds.
func work(d *raw.Device, seed uint64) error {
	b, err := d.ReadRegion(raw.BAR0, regQueues, 4)
	if err != nil {
		return err
	}
	for q := range int(binary.LittleEndian.Uint32(b)) {
		for _, err := range []error{
			post(d, q, opFeed, 0, seed+uint64(q)),
			post(d, q, opFill, 512, uint64(q)*512),
			post(d, q, opHash, 1024, uint64(q)*256),
		} {
			if err != nil {
				return fmt.Errorf("posting to queue %d: %w", q, err)
			}
		}
	}
	for _, err := range []error{
		d.Write64(regFeed, seed*3),
		d.WriteRegion(raw.BAR2, 3000, binary.LittleEndian.AppendUint64(nil, seed*5)),
	} {
		if err != nil {
			return fmt.Errorf("feeding: %w", err)
		}
	}
	return nil
}

// visible is all of the device that a guest sees, but for config space.
func visible(d *raw.Device) ([32]byte, error) {
	size, err := d.RegionSize(raw.BAR2)
	if err != nil {
		return [32]byte{}, err
	}
	sum := sha256.New()
	for _, r := range []struct{ region, size int }{{raw.BAR0, bar0Size}, {raw.BAR2, int(size)}} {
		b, err := d.ReadRegion(r.region, 0, r.size)
		if err != nil {
			return [32]byte{}, fmt.Errorf("reading region %d: %w", r.region, err)
		}
		sum.Write(b)
	}
	return [32]byte(sum.Sum(nil)), nil
}

// drain reads a data fd to where it ends for now. ENOMSG is the end of pre-copy.
func drain(fd int, to *bytes.Buffer, buf []byte) error {
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.ENOMSG):
			return nil
		case err != nil:
			return fmt.Errorf("reading the stream: %w", err)
		case n == 0:
			return nil
		}
		to.Write(buf[:n])
	}
}

// save moves the device's state into a stream and leaves the device stopped. What is
// given as late is done between pre-copy and the end.
func save(d *raw.Device, buf []byte, late func() error) (stream []byte, initial uint64, err error) {
	flags, err := d.Flags()
	if err != nil {
		return nil, 0, fmt.Errorf("asking for migration: %w", err)
	}
	var out bytes.Buffer
	fd := -1
	if flags&raw.FlagPreCopy != 0 {
		state := uint32(raw.PreCopy)
		if flags&raw.FlagP2P != 0 {
			state = raw.PreCopyP2P // what waits goes on waiting
		}
		if fd, err = d.SetState(state); err != nil {
			return nil, 0, fmt.Errorf("PRE_COPY: %w", err)
		}
		defer unix.Close(fd)
		if initial, _, err = raw.PrecopyInfo(fd); err != nil {
			return nil, 0, fmt.Errorf("asking what is left: %w", err)
		}
		if err := drain(fd, &out, buf); err != nil {
			return nil, 0, err
		}
	}
	if late != nil && fd >= 0 {
		if err := late(); err != nil {
			return nil, 0, err
		}
	}
	last, err := d.SetState(raw.StopCopy)
	if err != nil {
		return nil, 0, fmt.Errorf("STOP_COPY: %w", err)
	}
	if fd < 0 {
		fd = last
		defer unix.Close(fd)
	}
	if err := drain(fd, &out, buf); err != nil {
		return nil, 0, err
	}
	if _, err := d.SetState(raw.Stop); err != nil {
		return nil, 0, fmt.Errorf("STOP: %w", err)
	}
	return out.Bytes(), initial, nil
}

// load moves a stream into the device, which is to be stopped after.
func load(d *raw.Device, stream []byte, chunk int) error {
	fd, err := d.SetState(raw.Resuming)
	if err != nil {
		return fmt.Errorf("RESUMING: %w", err)
	}
	defer unix.Close(fd)
	for len(stream) > 0 {
		n, err := unix.Write(fd, stream[:min(chunk, len(stream))])
		if err != nil {
			return fmt.Errorf("writing the stream: %w", err)
		}
		stream = stream[n:]
	}
	if _, err := d.SetState(raw.Stop); err != nil {
		return fmt.Errorf("RESUMING to STOP: %w", err)
	}
	return nil
}

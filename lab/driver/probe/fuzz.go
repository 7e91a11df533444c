// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"kindred/lab/driver/internal/raw"
)

// fuzzer is one hostile user with one device, whose calls two threads make at once.
type fuzzer struct {
	uuid   string
	mu     sync.Mutex // guards what is below, not the calls
	device *raw.Device
	fds    []int // data fds, of sessions that are over as well
	valid  [][]byte
	counts map[string]int
}

// fuzz attacks every parent in the guest until the time is over. What it finds is in
// the kernel's log, or the guest is gone.
func fuzz(d time.Duration, seed uint64) error {
	types, err := filepath.Glob("/sys/class/mdev_bus/*/mdev_supported_types/*")
	if err != nil {
		return err
	}
	var fuzzers []*fuzzer
	for i, dir := range types {
		f := &fuzzer{uuid: raw.UUID(100 + i), counts: map[string]int{}}
		if err := (raw.Type{Dir: dir}).Create(f.uuid); err != nil {
			continue // another type took the parent's room
		}
		if err := f.reopen(); err != nil {
			return err
		}
		if err := f.learn(); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		fuzzers = append(fuzzers, f)
	}
	end := time.Now().Add(d)
	var all sync.WaitGroup
	for i, f := range fuzzers {
		for thread := range 2 {
			r := rand.New(rand.NewPCG(seed, uint64(i*2+thread)))
			all.Go(func() {
				for time.Now().Before(end) {
					f.step(r, thread == 0)
				}
			})
		}
	}
	all.Wait()
	total := map[string]int{"devices": len(fuzzers)}
	for _, f := range fuzzers {
		f.device.Close()
		for _, fd := range f.fds {
			unix.Close(fd)
		}
		if err := raw.Remove(f.uuid); err != nil {
			return err
		}
		for k, n := range f.counts {
			total[k] += n
		}
	}
	return json.NewEncoder(os.Stdout).Encode(total)
}

func (f *fuzzer) reopen() (err error) {
	f.device, err = raw.Open(f.uuid)
	return err
}

// learn records valid streams to start mutations from.
func (f *fuzzer) learn() error {
	if flags, err := f.device.Flags(); err != nil || flags == 0 {
		return nil // nothing to learn where nothing migrates
	}
	for seed := range uint64(2) {
		if seed > 0 {
			if err := work(f.device, seed); err != nil {
				return err
			}
		}
		stream, _, err := save(f.device, make([]byte, 1<<20), nil)
		if err != nil {
			return err
		}
		f.valid = append(f.valid, stream)
		if err := f.device.Reset(); err != nil {
			return err
		}
	}
	return nil
}

func (f *fuzzer) count(what string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[what]++
	if err == nil {
		f.counts[what+" ok"]++
	}
}

func (f *fuzzer) keep(fd int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fds = append(f.fds, fd)
	if len(f.fds) > 8 { // some outlive several sessions
		unix.Close(f.fds[0])
		f.fds = f.fds[1:]
	}
}

// fd is any data fd, the newest more often. It may be closed under us: that is part of it.
func (f *fuzzer) fd(r *rand.Rand) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.fds) == 0 {
		return -1
	}
	if r.IntN(4) > 0 {
		return f.fds[len(f.fds)-1]
	}
	return f.fds[r.IntN(len(f.fds))]
}

func (f *fuzzer) handle() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.device.FD
}

// step does one hostile thing. Only the first thread closes the device.
func (f *fuzzer) step(r *rand.Rand, first bool) {
	switch n := r.IntN(100); {
	case n < 25:
		f.state(r)
	case n < 45:
		f.write(r)
	case n < 60:
		f.read(r)
	case n < 70:
		f.session(r)
	case n < 80:
		f.region(r)
	case n < 92:
		f.ioctl(r)
	case n < 96:
		_, err := raw.Ioctl(f.handle(), raw.DeviceReset, 0)
		f.count("reset", err)
	case first && n == 99:
		f.mu.Lock()
		f.device.Close()
		if err := f.reopen(); err != nil {
			// The other thread's call still holds the old group for a moment.
			time.Sleep(time.Millisecond)
			for f.reopen() != nil {
				time.Sleep(time.Millisecond)
			}
		}
		f.mu.Unlock()
		f.count("reopen", nil)
	}
}

func (f *fuzzer) setState(state uint32) (int, error) {
	b := make([]byte, 16)
	binary.NativeEndian.PutUint32(b, 16)
	binary.NativeEndian.PutUint32(b[4:], raw.FeatureState|raw.FeatureSet)
	binary.NativeEndian.PutUint32(b[8:], state)
	_, err := raw.IoctlBytes(f.handle(), raw.DeviceFeature, b)
	fd := int(int32(binary.NativeEndian.Uint32(b[12:])))
	if err == nil && fd > 2 {
		f.keep(fd)
	}
	return fd, err
}

func (f *fuzzer) state(r *rand.Rand) {
	state := uint32(r.IntN(9))
	if r.IntN(50) == 0 {
		state = r.Uint32()
	}
	_, err := f.setState(state)
	f.count("state", err)
}

// session is a whole resume of a valid stream with mutations, in random pieces.
func (f *fuzzer) session(r *rand.Rand) {
	if len(f.valid) == 0 {
		return
	}
	stream := append([]byte(nil), f.valid[r.IntN(len(f.valid))]...)
	for range r.IntN(4) {
		mutate(r, &stream)
	}
	_, _ = f.setState(raw.Running)
	fd, err := f.setState(raw.Resuming)
	if err != nil || fd < 3 {
		_, _ = raw.Ioctl(f.handle(), raw.DeviceReset, 0)
		return
	}
	for len(stream) > 0 {
		n := min(len(stream), 1+r.IntN(1<<(4+r.IntN(14))))
		wrote, err := unix.Write(fd, stream[:n])
		if err != nil {
			f.count("refused write", nil)
			wrote = n
		}
		stream = stream[wrote:]
	}
	_, err = f.setState(raw.Stop)
	f.count("mutated stream", err)
	_, _ = f.setState(raw.Running)
}

func mutate(r *rand.Rand, b *[]byte) {
	s := *b
	if len(s) == 0 {
		return
	}
	at := r.IntN(len(s))
	if r.IntN(2) == 0 {
		at = r.IntN(min(len(s), 256)) // headers are where it matters
	}
	switch r.IntN(6) {
	case 0:
		s[at] ^= 1 << r.IntN(8)
	case 1:
		s[at] = byte(r.Uint32())
	case 2:
		if at+8 <= len(s) {
			binary.LittleEndian.PutUint64(s[at:], []uint64{0, 1, 1 << 31, 1<<32 - 1, 1 << 63, 1<<64 - 1, r.Uint64()}[r.IntN(7)])
		}
	case 3:
		s = s[:at]
	case 4:
		s = append(s, make([]byte, r.IntN(100000))...)
	case 5:
		s = append(s[:at:at], s[min(len(s), at+r.IntN(64)):]...)
	}
	*b = s
}

func (f *fuzzer) write(r *rand.Rand) {
	b := make([]byte, r.IntN(1<<r.IntN(18)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	if len(b) == 0 {
		b = []byte{}
	}
	_, err := unix.Write(f.fd(r), b)
	f.count("write", err)
}

func (f *fuzzer) read(r *rand.Rand) {
	_, err := unix.Read(f.fd(r), make([]byte, 1+r.IntN(1<<r.IntN(20))))
	f.count("read", err)
}

func (f *fuzzer) region(r *rand.Rand) {
	b := make([]byte, 1+r.IntN(1<<r.IntN(18)))
	for i := range min(len(b), 64) {
		b[i] = byte(r.Uint32())
	}
	offset := raw.Offset(r.IntN(10), int64(r.IntN(1<<r.IntN(19))))
	switch r.IntN(10) {
	case 0:
		offset = int64(r.Uint64())
	case 1, 2, 3: // doorbells, registers and rings
		offset = int64(r.IntN(0x60)) &^ 3
		b = b[:min(len(b), 4)]
	}
	var err error
	if r.IntN(2) == 0 {
		_, err = unix.Pread(f.handle(), b, offset)
	} else {
		_, err = unix.Pwrite(f.handle(), b, offset)
	}
	f.count("region", err)
}

// ioctl makes calls with arguments that are random, too short, or no memory at all.
func (f *fuzzer) ioctl(r *rand.Rand) {
	request := uintptr(0x3b64 + r.IntN(0x20))
	fd := f.handle()
	if r.IntN(3) == 0 {
		fd = f.fd(r)
	}
	b := make([]byte, 64)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	binary.NativeEndian.PutUint32(b, uint32(r.IntN(80)))
	switch r.IntN(4) {
	case 0:
		binary.NativeEndian.PutUint32(b[4:], uint32(r.IntN(16))|1<<(16+r.IntN(4)))
	case 1:
		binary.NativeEndian.PutUint32(b[4:], 0)
		binary.NativeEndian.PutUint32(b[8:], uint32(r.IntN(12)))
	}
	arg := uintptr(unsafe.Pointer(&b[0]))
	if r.IntN(8) == 0 {
		arg = uintptr(r.Uint64())
		if r.IntN(2) == 0 {
			arg = 0
		}
	}
	if arg != 0 && arg != uintptr(unsafe.Pointer(&b[0])) && arg < 1<<47 {
		arg |= 1 << 63 // never into our own memory
	}
	got, err := raw.Ioctl(fd, request, arg)
	f.count("ioctl", err)
	_ = got
	if request == raw.DeviceFeature && err == nil {
		if fd := int(int32(binary.NativeEndian.Uint32(b[12:]))); binary.NativeEndian.Uint32(b[4:]) == raw.FeatureState|raw.FeatureSet && fd > 2 {
			f.keep(fd)
		}
	}
}

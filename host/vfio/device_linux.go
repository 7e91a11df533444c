// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// device is a Device of the kernel.
type device struct {
	id   string
	file shared

	described *description

	mu       sync.Mutex
	sessions map[*session]bool // not closed yet
}

// description is what the device said of itself, with where its regions are.
type description struct {
	Info
	offsets []uint64
}

// newDevice takes the device's descriptor, and others that must stay open as long.
func newDevice(id string, fd int, held files) *device {
	return &device{id: id, file: shared{fd: fd, after: held.close}, sessions: make(map[*session]bool)}
}

// call makes an ioctl on the device.
func (d *device) call(request uintptr, arg unsafe.Pointer) error {
	fd, err := d.file.use()
	if err != nil {
		return err
	}
	defer d.file.done()
	_, err = ioctl(fd, request, arg)
	return err
}

func (d *device) feature(arg unsafe.Pointer) error {
	fd, err := d.file.use()
	if err != nil {
		return err
	}
	defer d.file.done()
	return feature(fd, arg)
}

func (d *device) fail(what string, err error) error {
	return fmt.Errorf("VFIO device %s: %s: %w", d.id, what, err)
}

// Info asks once.
func (d *device) Info() (*Info, error) {
	described, err := d.describe()
	if err != nil {
		return nil, err
	}
	return &described.Info, nil
}

func (d *device) describe() (*description, error) {
	if d.described != nil {
		return d.described, nil
	}
	info := deviceInfo{argsz: sizeof(&deviceInfo{})}
	if err := d.call(deviceGetInfo, unsafe.Pointer(&info)); err != nil {
		return nil, d.fail("ask what it is", err)
	}
	got := &description{Info: Info{CanReset: info.flags&flagReset != 0}}
	for _, api := range deviceAPIs {
		if info.flags&api.bit != 0 {
			got.API = api.name
		}
	}
	// EINVAL is the word for an index without a region or interrupt, such as the
	// VGA region of what is no VGA device.
	for i := range info.numRegions {
		r := regionInfo{argsz: sizeof(&regionInfo{}), index: i}
		if err := d.call(deviceGetRegionInfo, unsafe.Pointer(&r)); err != nil && !errors.Is(err, unix.EINVAL) {
			return nil, d.fail(fmt.Sprintf("ask for region %d", i), err)
		}
		got.Regions = append(got.Regions, Region{Size: r.size, Readable: r.flags&regionRead != 0, Writable: r.flags&regionWrite != 0})
		got.offsets = append(got.offsets, r.offset)
	}
	for i := range info.numIRQs {
		irq := irqInfo{argsz: sizeof(&irqInfo{}), index: i}
		if err := d.call(deviceGetIRQInfo, unsafe.Pointer(&irq)); err != nil && !errors.Is(err, unix.EINVAL) {
			return nil, d.fail(fmt.Sprintf("ask for interrupt index %d", i), err)
		}
		got.IRQs = append(got.IRQs, irq.count)
	}
	d.described = got
	return got, nil
}

// flags are the migration flags, also of a driver that lacks the one that counts.
func (d *device) flags() (Flags, error) {
	f := featureValue{flags: featureGet | featureMigration}
	f.argsz = sizeof(&f)
	if err := d.feature(unsafe.Pointer(&f)); err != nil {
		return 0, d.fail("ask for its migration features", err)
	}
	return Flags(f.value), nil
}

func (d *device) Migration() (Flags, error) {
	flags, err := d.flags()
	if err == nil && flags&FlagStopCopy == 0 {
		err = d.fail("ask for its migration features", fmt.Errorf("%w: no STOP_COPY", ErrNotMigratable))
	}
	return flags, err
}

func (d *device) State() (State, error) {
	f := featureMigState{flags: featureGet | featureState}
	f.argsz = sizeof(&f)
	if err := d.feature(unsafe.Pointer(&f)); err != nil {
		return StateError, d.fail("ask for its migration state", err)
	}
	return State(f.state), nil
}

func (d *device) SetState(to State) (Session, error) {
	f := featureMigState{flags: featureSet | featureState, state: uint32(to), dataFD: -1}
	f.argsz = sizeof(&f)
	var err error
	withoutSignals(func() { err = d.feature(unsafe.Pointer(&f)) })
	if err != nil {
		return nil, d.fail("set its migration state to "+to.String(), err)
	}
	if f.dataFD < 0 {
		return nil, nil
	}
	s, err := d.newSession(int(f.dataFD))
	if err != nil {
		return nil, d.fail("set up the session of "+to.String(), err)
	}
	return s, nil
}

func (d *device) DataSize() (uint64, error) {
	f := featureValue{flags: featureGet | featureDataSize}
	f.argsz = sizeof(&f)
	// Not d.feature: here ENOTTY may also be a core's that is older than 6.2.
	if err := d.call(deviceFeature, unsafe.Pointer(&f)); err != nil {
		return 0, d.fail("ask how much saving would give", err)
	}
	return f.value, nil
}

// access reads or writes all of p with do, piece by piece if the kernel will.
func (d *device) access(what string, region int, at int64, p []byte, do func(fd int, p []byte, offset int64) (int, error)) error {
	described, err := d.describe()
	if err != nil {
		return err
	}
	fail := func(err error) error {
		return d.fail(fmt.Sprintf("%s %d bytes at %d of region %d", what, len(p), at, region), err)
	}
	if region < 0 || region >= len(described.Regions) || at < 0 || uint64(at)+uint64(len(p)) > described.Regions[region].Size {
		return fail(errors.New("outside of the region"))
	}
	fd, err := d.file.use()
	if err != nil {
		return fail(err)
	}
	defer d.file.done()
	offset := int64(described.offsets[region]) + at
	for done := 0; done < len(p); {
		n, err := do(fd, p[done:], offset+int64(done))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fail(err)
		case n == 0:
			return fail(io.ErrUnexpectedEOF)
		}
		done += n
	}
	return nil
}

func (d *device) ReadRegion(region int, at int64, p []byte) error {
	return d.access("read", region, at, p, unix.Pread)
}

func (d *device) WriteRegion(region int, at int64, p []byte) error {
	return d.access("write", region, at, p, unix.Pwrite)
}

func (d *device) Reset() error {
	if err := d.call(deviceReset, nil); err != nil {
		return d.fail("reset", err)
	}
	return nil
}

// toRunning resets the device unless it is RUNNING, or has no migration state.
func (d *device) toRunning() error {
	state, err := d.State()
	switch {
	case errors.Is(err, ErrNotMigratable):
		return nil
	case err != nil:
		return err
	case state == StateRunning:
		return nil
	}
	if err := d.Reset(); err != nil {
		return fmt.Errorf("it is %s: %w", state, err)
	}
	return nil
}

// Close resets the device unless it is RUNNING, so that nobody finds it half way.
func (d *device) Close() error {
	err := d.toRunning()
	if !d.release() {
		return nil // it was closed before
	}
	return err
}

// release closes the device as it is, with its sessions, and says whether it was
// the first to.
func (d *device) release() bool {
	d.mu.Lock()
	var left []*session
	for s := range d.sessions {
		left = append(left, s)
	}
	d.mu.Unlock()
	for _, s := range left {
		s.Close()
	}
	return d.file.close()
}

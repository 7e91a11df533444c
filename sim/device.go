// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"encoding/binary"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"kindred/host/vfio"
)

// The registers in BAR 0, little endian. Reading changes nothing.
const (
	RegMagic    = 0x00 // u32: "SIM1"
	RegFace     = 0x04 // u32: vendor and device
	RegFeatures = 0x08 // u64: that the guest was given
	RegMemory   = 0x10 // u64: bytes of memory
	RegCount    = 0x18 // u64: words of work done
	RegDigest   = 0x20 // u64: of the work
	RegScar     = 0x28 // u64: not 0 after a state that was not loaded as it was saved
	RegWork     = 0x30 // u64, written: does a word of work
)

const (
	barRegisters = 0 // of regionSize bytes
	barMemory    = 2
	registers    = 0x1000
	configSize   = 256
	regMagic     = 0x314d4953
)

// state is a device that exists, open or not.
type state struct {
	id     string
	driver *Driver
	typ    *Type
	faults *Faults
	log    func(line string)

	mu       sync.Mutex
	mig      vfio.State
	contents contents
	command  uint16 // of config space
	open     *device
	loading  *loading
	session  *session
}

func newState(id string, d *Driver, t *Type, f *Faults, log func(line string)) *state {
	return &state{id: id, driver: d, typ: t, faults: f, log: log, mig: sRunning, contents: newContents(t)}
}

// say logs why a state was refused, as a driver's dev_err() would.
func (s *state) say(why string) {
	if why != "" {
		s.log(s.driver.Namespace + " " + s.id + ": " + why)
	}
}

// renew is what a reset does: the device is as when it was made, but that some
// drivers keep the contents.
func (s *state) renew() {
	s.end()
	s.mig = sRunning
	if !s.driver.Migration.KeepsState {
		s.contents, s.command = newContents(s.typ), 0
	}
}

// end ends a session: its file stays and gives ENODEV.
func (s *state) end() {
	if s.session != nil {
		s.session.over = true
	}
	s.session, s.loading = nil, nil
}

// device is an open device: one file.
type device struct {
	*state
	onClose func()
	closed  chan struct{}
	once    sync.Once
}

var _ vfio.Device = (*device)(nil)

func (s *state) errorf(op Op, err error) error {
	return fmt.Errorf("simulated %s of %s: %w", op, s.id, err)
}

// openDevice is a first open: one at a time, as a group or cdev is.
func (s *state) openDevice(onClose func()) (*device, error) {
	d := &device{state: s, onClose: onClose, closed: make(chan struct{})}
	if err := s.strike(OpOpen, 0, 0, nil, nil); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil {
		return nil, s.errorf(OpOpen, unix.EBUSY)
	}
	s.open = d
	if !s.driver.Migration.KeepsState {
		s.renew()
	}
	return d, nil
}

// strike counts an operation and does what a fault wants of it. A stall waits
// for one of the channels.
func (s *state) strike(op Op, at, size uint64, closed, ended <-chan struct{}) error {
	fault := s.faults.hit(op, at, size)
	if fault == nil {
		return nil
	}
	if fault.Stall && (closed != nil || ended != nil) {
		select {
		case <-closed:
		case <-ended:
		}
		if fault.As == 0 {
			return s.errorf(op, unix.EINTR)
		}
	}
	if fault.Lost {
		s.mu.Lock()
		s.end()
		s.mig = sError
		s.mu.Unlock()
	}
	if fault.As == 0 {
		return nil
	}
	return s.errorf(op, fault.As)
}

// begin counts an operation and takes the device for it.
func (d *device) begin(op Op) error {
	if err := d.strike(op, 0, 0, d.closed, nil); err != nil {
		return err
	}
	d.mu.Lock()
	if d.open != d {
		d.mu.Unlock()
		return d.errorf(op, unix.EBADF)
	}
	return nil
}

func (d *device) Info() (*vfio.Info, error) {
	if err := d.begin(OpInfo); err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	info := &vfio.Info{API: d.typ.api(), CanReset: !d.driver.Migration.KeepsState, Regions: make([]vfio.Region, 9), IRQs: make([]uint32, 5)}
	info.Regions[barRegisters] = vfio.Region{Size: registers, Readable: true, Writable: true}
	info.Regions[barMemory] = vfio.Region{Size: d.typ.Memory, Readable: true}
	info.Regions[vfio.RegionConfig] = vfio.Region{Size: configSize, Readable: true, Writable: true}
	return info, nil
}

// errNotMigratable is what the kernel answers for a driver without migration
// operations (vfio_ioctl_device_feature of vfio_main.c).
var errNotMigratable = fmt.Errorf("%w: %w", vfio.ErrNotMigratable, unix.ENOTTY)

func (d *device) Migration() (vfio.Flags, error) {
	if err := d.begin(OpMigration); err != nil {
		return 0, err
	}
	defer d.mu.Unlock()
	if d.driver.Migration.None {
		return 0, d.errorf(OpMigration, errNotMigratable)
	}
	flags := d.driver.Migration.flags()
	if flags&vfio.FlagStopCopy == 0 {
		return flags, d.errorf(OpMigration, vfio.ErrNotMigratable)
	}
	return flags, nil
}

func (d *device) State() (vfio.State, error) {
	if err := d.begin(OpState); err != nil {
		return sError, err
	}
	defer d.mu.Unlock()
	if d.driver.Migration.None {
		return sError, d.errorf(OpState, errNotMigratable)
	}
	return d.mig, nil
}

// SetState walks as the drivers' migration_set_state do: a step at a time, and
// the device stays where a step failed.
func (d *device) SetState(to vfio.State) (vfio.Session, error) {
	if err := d.begin(OpSetState); err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	if d.driver.Migration.None {
		return nil, d.errorf(OpSetState, errNotMigratable)
	}
	var opened *session
	for d.mig != to {
		step, ok := next(d.driver.Migration.flags(), d.mig, to)
		if !ok {
			return nil, d.errorf(OpSetState, unix.EINVAL)
		}
		var err error
		if opened, err = d.step(step); err != nil {
			return nil, d.errorf(OpSetState, err)
		}
		d.mig = step
	}
	if opened == nil {
		return nil, nil
	}
	return opened, nil
}

// step is one arc; it returns the session that the arc opened.
func (d *device) step(to vfio.State) (*session, error) {
	saves := func(s vfio.State) bool { return s == sStopCopy || s == sPreCopy || s == sPreCopyP2P }
	switch from := d.mig; {
	case saves(from) && saves(to): // the session goes on
	case saves(to):
		d.session = &session{device: d, ended: make(chan struct{})}
		return d.session, nil
	case saves(from):
		d.end()
	case to == sResuming:
		d.loading = newLoading(d.driver, d.typ)
		d.session = &session{device: d, ended: make(chan struct{}), takes: true}
		return d.session, nil
	case from == sResuming && d.loading != nil:
		loaded, err := d.loading.finish(d.contents)
		if err != nil {
			d.say(d.loading.why)
			return nil, err
		}
		d.contents = loaded
		d.end()
	}
	return nil, nil
}

func (d *device) DataSize() (uint64, error) {
	if err := d.begin(OpDataSize); err != nil {
		return 0, err
	}
	defer d.mu.Unlock()
	if d.driver.Migration.None {
		return 0, d.errorf(OpDataSize, unix.ENOTTY)
	}
	m := imageOf(d.driver, d.typ, d.contents.features)
	return m.size(), nil
}

func (d *device) ReadRegion(region int, at int64, p []byte) error {
	if err := d.begin(OpReadRegion); err != nil {
		return err
	}
	defer d.mu.Unlock()
	size, err := d.within(region, at, len(p))
	switch {
	case err != nil:
		return d.errorf(OpReadRegion, err)
	case region == barMemory:
		d.contents.memory(p, uint64(at))
	case region == barRegisters:
		copy(p, d.registers()[at:])
	default:
		copy(p, d.config()[at:size])
	}
	return nil
}

func (d *device) WriteRegion(region int, at int64, p []byte) error {
	if err := d.begin(OpWriteRegion); err != nil {
		return err
	}
	defer d.mu.Unlock()
	if _, err := d.within(region, at, len(p)); err != nil {
		return d.errorf(OpWriteRegion, err)
	}
	switch {
	case region == vfio.RegionConfig: // but for the command, what is written has no effect
		for i, b := range p {
			switch at + int64(i) {
			case 4:
				d.command = d.command&0xff00 | uint16(b)
			case 5:
				d.command = d.command&0x00ff | uint16(b)<<8
			}
		}
		return nil
	case d.mig == sStop || d.mig == sStopCopy || d.mig == sResuming || d.mig == sError || region == barMemory:
		return d.errorf(OpWriteRegion, unix.EIO)
	case at == RegWork && len(p) == 8:
		d.contents.feed(binary.LittleEndian.Uint64(p))
	}
	return nil
}

// within checks an access; it returns the region's size.
func (d *device) within(region int, at int64, n int) (uint64, error) {
	size := map[int]uint64{barRegisters: registers, barMemory: d.typ.Memory, vfio.RegionConfig: configSize}[region]
	if at < 0 || uint64(at) > size || uint64(n) > size-uint64(at) {
		return size, unix.EINVAL
	}
	return size, nil
}

// config is the config space (include/uapi/linux/pci_regs.h).
func (d *device) config() []byte {
	b := make([]byte, configSize)
	binary.LittleEndian.PutUint16(b, uint16(d.typ.Vendor))
	binary.LittleEndian.PutUint16(b[2:], uint16(d.typ.Device))
	binary.LittleEndian.PutUint16(b[4:], d.command)
	binary.LittleEndian.PutUint32(b[8:], d.typ.Class<<8|uint32(d.typ.Revision))
	binary.LittleEndian.PutUint16(b[0x2c:], uint16(d.typ.Vendor))
	binary.LittleEndian.PutUint16(b[0x2e:], uint16(d.typ.Device))
	return b
}

func (d *device) registers() []byte {
	b := make([]byte, registers)
	binary.LittleEndian.PutUint32(b[RegMagic:], regMagic)
	binary.LittleEndian.PutUint32(b[RegFace:], d.typ.Vendor<<16|d.typ.Device)
	binary.LittleEndian.PutUint64(b[RegFeatures:], d.contents.features)
	binary.LittleEndian.PutUint64(b[RegMemory:], d.typ.Memory)
	binary.LittleEndian.PutUint64(b[RegCount:], d.contents.count)
	binary.LittleEndian.PutUint64(b[RegDigest:], d.contents.digest)
	binary.LittleEndian.PutUint64(b[RegScar:], d.contents.scar)
	return b
}

func (d *device) Reset() error {
	if err := d.begin(OpReset); err != nil {
		return err
	}
	defer d.mu.Unlock()
	d.renew()
	return nil
}

// Close closes the file. Its sessions go with it, and whoever waits in one.
func (d *device) Close() error {
	err := d.strike(OpClose, 0, 0, nil, nil)
	closed := false
	d.once.Do(func() {
		closed = true
		close(d.closed)
		d.mu.Lock()
		d.open = nil
		if d.driver.Migration.KeepsState {
			if d.session != nil {
				d.session.over = true
			}
		} else {
			d.renew()
		}
		d.mu.Unlock()
		if d.onClose != nil {
			d.onClose()
		}
	})
	if !closed {
		return d.errorf(OpClose, unix.EBADF)
	}
	return err
}

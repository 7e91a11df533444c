// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"kindred/host/tree"
)

// TestLayout: sizes and offsets as include/uapi/linux/vfio.h has them, printed by
// a C compiler.
func TestLayout(t *testing.T) {
	for name, c := range map[string]struct{ got, want uintptr }{
		"vfio_group_status":                     {unsafe.Sizeof(groupStatus{}), 8},
		"vfio_device_info":                      {unsafe.Sizeof(deviceInfo{}), 24},
		"vfio_device_info.num_irqs":             {unsafe.Offsetof(deviceInfo{}.numIRQs), 12},
		"vfio_region_info":                      {unsafe.Sizeof(regionInfo{}), 32},
		"vfio_region_info.size":                 {unsafe.Offsetof(regionInfo{}.size), 16},
		"vfio_region_info.offset":               {unsafe.Offsetof(regionInfo{}.offset), 24},
		"vfio_irq_info":                         {unsafe.Sizeof(irqInfo{}), 16},
		"vfio_irq_info.count":                   {unsafe.Offsetof(irqInfo{}.count), 12},
		"vfio_device_bind_iommufd":              {unsafe.Sizeof(bindIOMMUFD{}), 16},
		"vfio_device_bind_iommufd.iommufd":      {unsafe.Offsetof(bindIOMMUFD{}.iommufd), 8},
		"vfio_device_feature with migration":    {unsafe.Sizeof(featureValue{}), 16},
		"vfio_device_feature_migration.flags":   {unsafe.Offsetof(featureValue{}.value), 8},
		"vfio_device_feature with mig_state":    {unsafe.Sizeof(featureMigState{}), 16},
		"vfio_device_feature_mig_state.data_fd": {unsafe.Offsetof(featureMigState{}.dataFD), 12},
		"vfio_precopy_info":                     {unsafe.Sizeof(precopyInfo{}), 24},
		"vfio_precopy_info.initial_bytes":       {unsafe.Offsetof(precopyInfo{}.initial), 8},
		"vfio_precopy_info.dirty_bytes":         {unsafe.Offsetof(precopyInfo{}.dirty), 16},
		"VFIO_REGION_INFO_FLAG_WRITE":           {regionWrite, 2},
		"VFIO_DEVICE_FEATURE_MIG_DATA_SIZE":     {featureDataSize, 9},
		"the state RESUMING":                    {uintptr(StateResuming), 4},
		"the state PRE_COPY_P2P":                {uintptr(StatePreCopyP2P), 7},
		"VFIO_MIGRATION_PRE_COPY":               {uintptr(FlagPreCopy), 4},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", name, c.got, c.want)
		}
	}
}

func TestFind(t *testing.T) {
	const mdev = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
	const function = "0000:01:00.1"
	for name, c := range map[string]struct {
		id   string
		make []string // files and directories
		link string   // iommu_group's directory
		want place
		err  error
	}{
		"by group":       {mdev, []string{"sys/bus/mdev/devices/" + mdev + "/vfio-dev/vfio3/", "dev/vfio/7"}, "sys/bus/mdev/devices/" + mdev, place{id: mdev, group: "7"}, nil},
		"upper case":     {"83B8F4F2-509F-382F-3C1E-E6BFE0FA1001", []string{"sys/bus/mdev/devices/" + mdev + "/", "dev/vfio/7"}, "sys/bus/mdev/devices/" + mdev, place{id: mdev, group: "7"}, nil},
		"by cdev":        {function, []string{"sys/bus/pci/devices/" + function + "/vfio-dev/vfio3/", "dev/vfio/devices/vfio3", "dev/iommu"}, "", place{id: function, cdev: "vfio3"}, nil},
		"both":           {function, []string{"sys/bus/pci/devices/" + function + "/vfio-dev/vfio3/", "dev/vfio/devices/vfio3", "dev/iommu", "dev/vfio/7"}, "sys/bus/pci/devices/" + function, place{id: function, group: "7", cdev: "vfio3"}, nil},
		"cdev, no iommu": {function, []string{"sys/bus/pci/devices/" + function + "/vfio-dev/vfio3/", "dev/vfio/devices/vfio3", "dev/vfio/7"}, "sys/bus/pci/devices/" + function, place{id: function, group: "7"}, nil},
		"another driver": {function, []string{"sys/bus/pci/devices/" + function + "/", "dev/vfio/vfio"}, "sys/bus/pci/devices/" + function, place{}, ErrNoDevice},
		"none":           {mdev, []string{"sys/bus/pci/devices/" + function + "/"}, "", place{}, ErrNoDevice},
		"a path":         {"../../../etc", []string{"sys/bus/pci/devices/"}, "", place{}, ErrNoDevice},
		"the bus":        {".", []string{"sys/bus/pci/devices/x/vfio-dev/vfio3/", "dev/vfio/devices/vfio3", "dev/iommu"}, "", place{}, ErrNoDevice},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, f := range c.make {
				dir := filepath.Join(root, f)
				if f[len(f)-1] != '/' {
					dir = filepath.Dir(dir)
				}
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if f[len(f)-1] != '/' {
					if err := os.WriteFile(filepath.Join(root, f), nil, 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			if c.link != "" {
				if err := os.Symlink("../../../kernel/iommu_groups/7", filepath.Join(root, c.link, "iommu_group")); err != nil {
					t.Fatal(err)
				}
			}
			d, err := tree.Open(root)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			got, err := find(d, c.id)
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("%+v, %v; want %+v, %v", got, err, c.want, c.err)
			}
		})
	}
}

// piped is a session over a pipe's end, as a driver whose file knows poll has it.
func piped(t *testing.T, end int) (s *session, other int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	d := newDevice("test", -1, nil)
	s, err := d.newSession(fds[end])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, fds[1-end]
}

// TestSessionClose: who waits wakes, and the descriptors are given back.
func TestSessionClose(t *testing.T) {
	before := descriptors(t)
	s, other := piped(t, 0)
	defer unix.Close(other)
	if flags, err := unix.FcntlInt(uintptr(s.file.fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("the session's file blocks: flags %#x, %v", flags, err)
	}
	read := make(chan error)
	go func() {
		_, err := s.Read(make([]byte, 8))
		read <- err
	}()
	select {
	case err := <-read:
		t.Fatalf("an empty pipe gave %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v, want closed", err)
	}
	if _, err := s.Write(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("writing after: %v, want closed", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if got := descriptors(t); got != before+1 { // the pipe's other end
		t.Errorf("%d descriptors open, %d before", got, before)
	}
	if len(s.device.sessions) != 0 {
		t.Error("the device still knows the session")
	}
}

// TestSessionErrno: errnos come through, and readers see data and the end.
func TestSessionErrno(t *testing.T) {
	s, other := piped(t, 0)
	go func() { time.Sleep(10 * time.Millisecond); unix.Write(other, []byte("abc")) }()
	p := make([]byte, 8)
	if n, err := s.Read(p); err != nil || !bytes.Equal(p[:n], []byte("abc")) {
		t.Errorf("%q, %v", p[:n], err)
	}
	if _, err := s.Precopy(); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("PRECOPY_INFO of a pipe: %v, want ENOTTY", err)
	}
	unix.Close(other)
	if n, err := s.Read(p); n != 0 || err != nil {
		t.Errorf("the end: %d bytes, %v; want none, and no error", n, err)
	}
	// What never gets ready, and says why at once: poll must not come first.
	if _, err := s.Write(p); !errors.Is(err, syscall.EBADF) {
		t.Errorf("writing to the reading end: %v, want EBADF", err)
	}
	w, reader := piped(t, 1)
	if _, err := w.Read(p); !errors.Is(err, syscall.EBADF) {
		t.Errorf("reading from the writing end: %v, want EBADF", err)
	}
	unix.Close(reader)
	if _, err := w.Write(p); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing for nobody: %v, want EPIPE", err)
	}
}

// TestSessionAllocates nothing for a chunk: gigabytes pass.
func TestSessionAllocates(t *testing.T) {
	r, other := piped(t, 0)
	p := make([]byte, 512)
	if n := testing.AllocsPerRun(100, func() {
		unix.Write(other, p)
		if _, err := r.Read(p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a read", n)
	}
	unix.Close(other)
	w, other := piped(t, 1)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		unix.Read(other, p)
	}); n != 0 {
		t.Errorf("%v allocations for a write", n)
	}
	unix.Close(other)
}

// TestSignalsComeBack: the thread takes signals again after a call without.
func TestSignalsComeBack(t *testing.T) {
	var during, after, before unix.Sigset_t
	mask := func(to *unix.Sigset_t) {
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, to); err != nil {
			t.Fatal(err)
		}
	}
	mask(&before)
	withoutSignals(func() { mask(&during) })
	mask(&after)
	if before != after || during == before {
		t.Errorf("blocked before %x, during %x, after %x", before.Val[0], during.Val[0], after.Val[0])
	}
}

// TestFilesClose: what Open had opened before it failed is closed.
func TestFilesClose(t *testing.T) {
	before := descriptors(t)
	var f files
	for range 3 {
		if _, err := f.open("/dev/null"); err != nil {
			t.Fatal(err)
		}
	}
	d := newDevice("test", f[2], f[:2])
	s, err := d.newSession(must(unix.Dup(f[0])))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.file.use(); err != nil { // somebody is in a call
		t.Fatal(err)
	}
	if !d.release() || d.release() {
		t.Error("it is closed once")
	}
	if got := descriptors(t); got != before+3 {
		t.Errorf("%d descriptors during the call, want those of the device: %d", got-before, 3)
	}
	d.file.done()
	if got := descriptors(t); got != before {
		t.Errorf("%d descriptors open, %d before", got, before)
	}
	if _, err := d.State(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("State after Close: %v", err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Read after the device's Close: %v", err)
	}
}

func must(fd int, err error) int {
	if err != nil {
		panic(err)
	}
	return fd
}

// descriptors counts this program's.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Transfer runs in a guest of the lab and tries Kindred's VFIO layer there. Each
// call does one thing with one device and prints a truth.Report; what it finds
// after closing it asks the kernel by system calls alone.
//
//	transfer info UUID         what the device says of itself
//	transfer save UUID FILE    works with the device, and saves its state
//	transfer load UUID FILE    loads it, and makes the device run
//	transfer leave UUID STATE  goes to a state and dies, as a crashed program does
//	transfer stop UUID         opens the device and stops it
//	transfer hold UUID         opens the device, says so in /tmp/hold, and keeps it until its input ends
package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"kindred/host/vfio"
	"kindred/lab/driver/internal/raw"
	"kindred/lab/internal/truth"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "transfer: %v\n", err)
		os.Exit(1)
	}
}

type options struct {
	command, uuid, arg string
	path               vfio.Path
	piece              int
	timeout            time.Duration
	skip               bool
}

func run(args []string) error {
	var o options
	if len(args) < 2 {
		return errors.New("what, with which device? See the package's comment")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	path := flags.String("path", "", "cdev or group, else what there is")
	flags.IntVar(&o.piece, "piece", 0, "1: write the stream byte by byte")
	flags.DurationVar(&o.timeout, "timeout", time.Minute, "of the transfer")
	flags.BoolVar(&o.skip, "skip-precopy", false, "save without")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	o.command, o.uuid, o.arg, o.path = args[0], flags.Arg(0), flags.Arg(1), vfio.Path(*path)

	var r truth.Report
	time.Sleep(time.Millisecond) // the runtime's own descriptors are opened with the first timer
	before, err := descriptors()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := o.once(&r); err != nil {
		return err
	}
	r.Took = time.Since(began).Milliseconds()
	after, err := descriptors()
	if err != nil {
		return err
	}
	r.Left = after - before
	r.Closed = closed(strings.ToLower(o.uuid))
	return json.NewEncoder(os.Stdout).Encode(r)
}

// once opens the device, does it, and closes the device.
func (o *options) once(r *truth.Report) error {
	d, err := vfio.Open(o.uuid, vfio.OpenOptions{Path: o.path})
	if err != nil {
		r.Failed, r.Text = "other", err.Error()
		for name, class := range map[string]error{"busy": vfio.ErrBusy, "no device": vfio.ErrNoDevice, "no path": vfio.ErrNoPath, "not viable": vfio.ErrNotViable} {
			if errors.Is(err, class) {
				r.Failed = name
			}
		}
		return nil
	}
	if err := o.with(d, r); err != nil {
		return err
	}
	if state, err := d.State(); err == nil {
		r.State = state.String()
	}
	return d.Close()
}

func (o *options) with(d vfio.Device, r *truth.Report) error {
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	defer cancel()
	switch o.command {
	case "info":
		info, err := d.Info()
		if err != nil {
			return err
		}
		flags, err := d.Migration()
		r.API, r.Flags, r.Regions = info.API, uint64(flags), len(info.Regions)
		if errors.Is(err, vfio.ErrNotMigratable) {
			r.Failed, err = "not migratable", nil
		}
		return err
	case "save":
		return o.save(ctx, d, r)
	case "load":
		return o.load(ctx, d, r)
	case "hold":
		if err := os.WriteFile("/tmp/hold", nil, 0o600); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	case "leave":
		return leave(d, o.arg)
	case "stop":
		_, err := d.SetState(vfio.StateStop)
		return err
	}
	return fmt.Errorf("no command %q", o.command)
}

func (o *options) save(ctx context.Context, d vfio.Device, r *truth.Report) error {
	const feed = 0x38 // see lab/driver/README.md; mtty has only eight registers
	if info, err := d.Info(); err != nil {
		return err
	} else if info.Regions[vfio.RegionBAR0].Size > feed {
		if err := d.WriteRegion(vfio.RegionBAR0, feed, binary.LittleEndian.AppendUint64(nil, 4711)); err != nil {
			return err
		}
	}
	f, err := os.Create(o.arg)
	if err != nil {
		return err
	}
	defer f.Close()
	saved, err := vfio.Save(ctx, d, f, vfio.SaveOptions{SkipPreCopy: o.skip})
	r.Bytes, r.PreCopy, r.Initial = saved.Bytes, saved.PreCopy, saved.Initial
	if saved.Said != nil {
		r.Said = *saved.Said
	}
	return finish(d, r, err)
}

func (o *options) load(ctx context.Context, d vfio.Device, r *truth.Report) error {
	f, err := os.Open(o.arg)
	if err != nil {
		return err
	}
	defer f.Close()
	var from io.Reader = f
	if o.piece == 1 {
		from = iotest.OneByteReader(f)
	}
	loaded, err := vfio.Load(ctx, d, from, vfio.LoadOptions{})
	r.Bytes = loaded.Bytes
	if err := finish(d, r, err); err != nil || r.Failed != "" {
		return err
	}
	_, err = d.SetState(vfio.StateRunning)
	return err
}

// finish reports a failure, or what the device looks like.
func finish(d vfio.Device, r *truth.Report, err error) error {
	var failed *vfio.Error
	if errors.As(err, &failed) {
		if failed.Left != nil {
			return err
		}
		r.Failed, r.Step, r.At, r.Then, r.Text = string(failed.Kind), string(failed.Step), failed.At, failed.State.String(), err.Error()
		if errno := failed.Errno(); errno == unix.EOPNOTSUPP {
			r.Errno = "EOPNOTSUPP" // its other name comes first in the list
		} else if errno != 0 {
			r.Errno = unix.ErrnoName(errno)
		}
		return nil
	}
	if err != nil {
		return err
	}
	r.Visible, err = visible(d)
	return err
}

// visible is a digest of what a guest sees of the lab's driver. Of mtty it takes
// nothing: reading its eight registers changes them.
func visible(d vfio.Device) (string, error) {
	info, err := d.Info()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, region := range []int{vfio.RegionBAR0, 2} {
		size := info.Regions[region].Size
		if size <= 8 {
			continue
		}
		b := make([]byte, size)
		if err := d.ReadRegion(region, 0, b); err != nil {
			return "", err
		}
		sum.Write(b)
	}
	return fmt.Sprintf("%x", sum.Sum(nil)[:8]), nil
}

func leave(d vfio.Device, state string) error {
	n, err := strconv.Atoi(state)
	if err != nil {
		return err
	}
	if _, err := d.SetState(vfio.State(n)); err != nil {
		return err
	}
	os.Exit(0)
	return nil
}

// closed is what somebody else finds who opens the device, not by our code.
func closed(uuid string) string {
	d, err := raw.Open(uuid)
	if err != nil {
		return "not opened"
	}
	defer d.Close()
	state, err := d.State()
	if err != nil {
		return "no state"
	}
	return vfio.State(state).String()
}

func descriptors() (int, error) {
	list, err := os.ReadDir("/proc/self/fd")
	return len(list), err
}

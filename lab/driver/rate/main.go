// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Rate runs in a guest of the lab and measures how fast a device's state goes
// through Kindred, beside a loop that only reads or writes the device's data fd.
// It prints the quickest of some rounds, in turns, as JSON.
//
//	rate SOURCE TARGET    two devices of one type
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"kindred/host/vfio"
	"kindred/inventory"
	"kindred/lab/driver/internal/raw"
	"kindred/stream"
)

// Rates are what was measured, in MiB a second.
type Rates struct {
	Bytes     int64
	BareRead  float64 // reading the data fd in STOP_COPY
	Record    float64 // Save into a stream
	BareWrite float64 // a file into the data fd in RESUMING
	Replay    float64 // Load from a stream in a file
}

const (
	rounds = 15
	chunk  = 1 << 20 // of the bare loops
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "rate: %v\n", err)
		os.Exit(1)
	}
}

// In the guest's memory: what is replayed has to come from somewhere.
const (
	stateFile  = "/tmp/rate.state"
	streamFile = "/tmp/rate.stream"
)

func run(source, target string) error {
	var r Rates
	if err := prepare(source); err != nil {
		return err
	}
	for range rounds {
		for _, m := range []struct {
			best *float64
			do   func() (int64, time.Duration, error)
		}{
			{&r.BareRead, func() (int64, time.Duration, error) { return bareRead(source) }},
			{&r.Record, func() (int64, time.Duration, error) { return record(source, io.Discard) }},
			{&r.BareWrite, func() (int64, time.Duration, error) { return bareWrite(target) }},
			{&r.Replay, func() (int64, time.Duration, error) { return replay(target) }},
		} {
			n, took, err := m.do()
			if err != nil {
				return err
			}
			r.Bytes = n
			*m.best = max(*m.best, float64(n)/took.Seconds()/(1<<20))
		}
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// prepare writes the source's state into both files.
func prepare(source string) error {
	f, err := os.Create(streamFile)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, err := record(source, f); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	state, err := os.Create(stateFile)
	if err != nil {
		return err
	}
	defer state.Close()
	from, err := stream.NewReader(f)
	if err != nil {
		return err
	}
	_, err = io.Copy(state, from)
	return err
}

// bareRead asks for STOP_COPY and reads to the end.
func bareRead(uuid string) (n int64, took time.Duration, err error) {
	d, err := raw.Open(uuid)
	if err != nil {
		return 0, 0, err
	}
	defer d.Close()
	defer func() { err = errors.Join(err, d.Reset()) }()
	buf := make([]byte, chunk)
	began := time.Now()
	fd, err := d.SetState(raw.StopCopy)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(fd)
	for {
		got, err := unix.Read(fd, buf)
		if err != nil {
			return n, 0, err
		}
		if got == 0 {
			return n, time.Since(began), nil
		}
		n += int64(got)
	}
}

// bareWrite copies a file into the data fd.
func bareWrite(uuid string) (n int64, took time.Duration, err error) {
	d, err := raw.Open(uuid)
	if err != nil {
		return 0, 0, err
	}
	defer d.Close()
	defer func() { err = errors.Join(err, d.Reset()) }()
	f, err := os.Open(stateFile)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	buf := make([]byte, chunk)
	began := time.Now()
	to, err := d.SetState(raw.Resuming)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(to)
	for {
		got, err := unix.Read(int(f.Fd()), buf)
		if err != nil {
			return n, 0, err
		}
		if got == 0 {
			_, err := d.SetState(raw.Stop)
			return n, time.Since(began), err
		}
		for p := buf[:got]; len(p) > 0; {
			wrote, err := unix.Write(to, p)
			if err != nil {
				return n, 0, err
			}
			p = p[wrote:]
		}
		n += int64(got)
	}
}

func record(uuid string, to io.Writer) (int64, time.Duration, error) {
	d, err := vfio.Open(uuid, vfio.OpenOptions{})
	if err != nil {
		return 0, 0, err
	}
	defer d.Close()
	began := time.Now()
	w, err := stream.NewWriter(to, header(uuid))
	if err != nil {
		return 0, 0, err
	}
	saved, err := vfio.Save(context.Background(), d, w, vfio.SaveOptions{SkipPreCopy: true})
	if err != nil {
		return 0, 0, err
	}
	if err := w.Close(nil); err != nil {
		return 0, 0, err
	}
	return saved.Bytes, time.Since(began), nil
}

func replay(uuid string) (int64, time.Duration, error) {
	d, err := vfio.Open(uuid, vfio.OpenOptions{})
	if err != nil {
		return 0, 0, err
	}
	defer d.Close()
	f, err := os.Open(streamFile)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	began := time.Now()
	r, err := stream.NewReader(f)
	if err != nil {
		return 0, 0, err
	}
	loaded, err := vfio.Load(context.Background(), d, r, vfio.LoadOptions{})
	return loaded.Bytes, time.Since(began), err
}

// header is the least that a stream needs.
func header(uuid string) *stream.Header {
	typ := inventory.TypeName{Namespace: "kdx", Name: "V4_4"}
	return &stream.Header{Made: time.Now(), By: "rate", Inventory: &inventory.Inventory{
		Schema: inventory.Schema,
		Origin: inventory.FromKernel, Taken: time.Now(), Host: inventory.Host{Name: "guest"},
		Parents: []inventory.Parent{{Name: "parent", Kind: inventory.MdevParent}},
		Devices: []inventory.Device{{ID: uuid, Kind: inventory.Mdev, Parent: "parent", Type: typ, InUse: inventory.No}},
	}}
}

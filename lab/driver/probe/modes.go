// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"kindred/lab/driver/internal/raw"
)

// faults switches on each fault of a loaded module in turn and says what it does.
func faults(module, namespace string) error {
	t, err := firstType(namespace)
	if err != nil {
		return err
	}
	set := func(name, value string) error {
		return os.WriteFile("/sys/module/"+module+"/parameters/"+name, []byte(value), 0)
	}
	return fresh(t, func(d *raw.Device) error {
		if err := work(d, 1); err != nil {
			return err
		}
		stream, _, err := save(d, make([]byte, 1<<20), nil)
		if err != nil {
			return err
		}
		for _, fault := range []struct {
			name, value, off string
			try              func(d *raw.Device, stream []byte) (string, error)
		}{
			{"fault_write_at", "100", "-1", refuses},
			{"fault_stop", "1", "0", func(d *raw.Device, stream []byte) (string, error) {
				err := load(d, stream, len(stream))
				if err := set("fault_stop", "0"); err != nil {
					return "", err
				}
				_, then := d.SetState(raw.Stop)
				return fmt.Sprintf("stop: %s, then: %s", said(err), said(then)), nil
			}},
			{"short_read", "7", "0", func(d *raw.Device, _ []byte) (string, error) {
				fd, err := d.SetState(raw.StopCopy)
				if err != nil {
					return "", err
				}
				defer unix.Close(fd)
				n, err := unix.Read(fd, make([]byte, 100))
				return fmt.Sprintf("reads of %d", n), err
			}},
			{"stall_ms", "200", "0", stalls},
			{"precopy_end", "0", "own", ends},
			{"precopy_end", "enomsg", "own", ends},
			{"precopy_end", "own", "own", ends},
		} {
			if err := errors.Join(d.Reset(), set(fault.name, fault.value)); err != nil {
				return err
			}
			text, err := fault.try(d, stream)
			if err != nil {
				return fmt.Errorf("%s: %w", fault.name, err)
			}
			fmt.Printf("%s=%s: %s\n", fault.name, fault.value, text)
			if err := set(fault.name, fault.off); err != nil {
				return err
			}
		}
		return nil
	})
}

func said(err error) string {
	if err == nil {
		return "ok"
	}
	return errno(err)
}

func refuses(d *raw.Device, stream []byte) (string, error) {
	fd, err := d.SetState(raw.Resuming)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	for i := range stream {
		if _, err := unix.Write(fd, stream[i:i+1]); err != nil {
			_, again := unix.Write(fd, stream[i:i+1])
			_, stop := d.SetState(raw.Stop)
			return fmt.Sprintf("write at %d: %s, again: %s, stop: %s", i, errno(err), said(again), said(stop)), nil
		}
	}
	return "not refused", nil
}

func stalls(d *raw.Device, _ []byte) (string, error) {
	fd, err := d.SetState(raw.StopCopy)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	b := make([]byte, 8)
	started := time.Now()
	if _, err := unix.Read(fd, b); err != nil {
		return "", err
	}
	took := "less than"
	if time.Since(started) >= 200*time.Millisecond {
		took = "longer than"
	}
	// A signal ends the wait. It is the whole process's: some thread gets it, so many are sent.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGUSR1)
	defer signal.Stop(signals)
	tid := make(chan int, 1)
	result := make(chan error, 1)
	go func() {
		tid <- unix.Gettid()
		_, err := unix.Read(fd, b)
		result <- err
	}()
	id := <-tid
	for {
		select {
		case err := <-result:
			return fmt.Sprintf("took %s 200 ms, interrupted: %s", took, said(err)), nil
		case <-time.After(20 * time.Millisecond):
			if err := unix.Tgkill(unix.Getpid(), id, unix.SIGUSR1); err != nil {
				return "", err
			}
		}
	}
}

func ends(d *raw.Device, _ []byte) (string, error) {
	fd, err := d.SetState(raw.PreCopy)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	b := make([]byte, 1<<20)
	for {
		n, err := unix.Read(fd, b)
		switch {
		case err != nil:
			return errno(err), nil
		case n == 0:
			return "0", nil
		}
	}
}

// outlive keeps a data fd beyond its device, its parent's driver and, it tries, its module.
func outlive(module, namespace string) error {
	t, err := firstType(namespace)
	if err != nil {
		return err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(filepath.Dir(t.Dir)))
	if err != nil {
		return err
	}
	fd := -1
	err = fresh(t, func(d *raw.Device) error {
		fd, err = d.SetState(raw.Resuming)
		if err != nil {
			return err
		}
		_, err = unix.Write(fd, make([]byte, 8))
		return err
	})
	if err != nil {
		return err
	}
	// The device is closed and removed. Now its parent goes.
	if err := os.WriteFile(parent+"/driver/unbind", []byte(filepath.Base(parent)), 0); err != nil {
		return err
	}
	_, write := unix.Write(fd, make([]byte, 8))
	_, read := unix.Read(fd, make([]byte, 8))
	_, _, info := raw.PrecopyInfo(fd)
	busy := raw.Unload(module)
	unix.Close(fd)
	fmt.Printf("write: %s, read: %s, info: %s, unloading: %s, then: %s\n", said(write), said(read), said(info), said(busy), said(unload(module)))
	return nil
}

// keep says what a new opener finds of a device that the last one left in STOP.
func keep(namespace string) error {
	t, err := firstType(namespace)
	if err != nil {
		return err
	}
	uuid := raw.UUID(1)
	if err := t.Create(uuid); err != nil {
		return err
	}
	defer raw.Remove(uuid)
	d, err := raw.Open(uuid)
	if err != nil {
		return err
	}
	err = work(d, 1)
	if _, e := d.SetState(raw.Stop); e != nil {
		err = errors.Join(err, e)
	}
	d.Close()
	if err != nil {
		return err
	}
	if d, err = raw.Open(uuid); err != nil {
		return err
	}
	defer func() { d.Close() }() // whichever it is by then
	now := func() (string, error) {
		state, err := d.State()
		if err != nil {
			return "", err
		}
		counter, err := d.Read64(regCounter)
		text := "new"
		if counter > 0 {
			text = "kept"
		}
		if state == raw.Stop {
			text = "STOP " + text
		}
		return text, err
	}
	opened, err := now()
	if err != nil {
		return err
	}
	// What mtty falls over in: RESUMING, closed, opened again, STOP.
	if _, err := d.SetState(raw.Resuming); err != nil {
		return err
	}
	d.Close()
	if d, err = raw.Open(uuid); err != nil {
		return err
	}
	_, stop := d.SetState(raw.Stop)
	if state, err := d.State(); err != nil || state == raw.Resuming && !errors.Is(stop, unix.EINVAL) {
		return fmt.Errorf("RESUMING without a transfer: %v, %v", stop, err)
	}
	if err := d.Reset(); err != nil {
		return err
	}
	reset, err := now()
	fmt.Printf("opened again: %s, reset: %s\n", opened, reset)
	return err
}

// large moves one state between two devices of whatever size they have, and times it.
func large(namespace string) error {
	t, err := firstType(namespace)
	if err != nil {
		return err
	}
	return fresh(t, func(from *raw.Device) error {
		const second = 2
		if err := t.Create(raw.UUID(second)); err != nil {
			return err
		}
		defer raw.Remove(raw.UUID(second))
		to, err := raw.Open(raw.UUID(second))
		if err != nil {
			return err
		}
		defer to.Close()
		size, err := from.RegionSize(raw.BAR2)
		if err != nil {
			return err
		}
		if err := errors.Join(work(from, 1), from.WriteRegion(raw.BAR2, int64(size)-8, []byte("the end."))); err != nil {
			return err
		}
		in, err := to.SetState(raw.Resuming)
		if err != nil {
			return fmt.Errorf("RESUMING: %w", err)
		}
		defer unix.Close(in)
		out, err := from.SetState(raw.StopCopy)
		if err != nil {
			return fmt.Errorf("STOP_COPY: %w", err)
		}
		defer unix.Close(out)
		buf, total, started := make([]byte, 1<<20), 0, time.Now()
		for {
			n, err := unix.Read(out, buf)
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			for b := buf[:n]; len(b) > 0; {
				wrote, err := unix.Write(in, b)
				if err != nil {
					return err
				}
				b = b[wrote:]
			}
			total += n
		}
		if _, err := to.SetState(raw.Running); err != nil {
			return err
		}
		took := time.Since(started)
		end, err := to.ReadRegion(raw.BAR2, int64(size)-8, 8)
		if err != nil {
			return err
		}
		a, errA := from.Read64(regDigest)
		b, errB := to.Read64(regDigest)
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		if string(end) != "the end." || a != b {
			return errors.New("the state did not arrive")
		}
		fmt.Printf("%d bytes in %d ms\n", total, took.Milliseconds())
		return nil
	})
}

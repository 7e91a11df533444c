// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"kindred/lab/driver/internal/raw"
	"kindred/lab/internal/truth"
)

// source is a recorded stream with what its device looked like.
type source struct {
	truth.Stream
	stream  []byte
	stopped [32]byte // what a guest sees of the device at the moment of the move
	resumed [32]byte // and once it has done what was waiting in its queues
	config  []byte
}

// makeTruth records a stream of every build and type, then gives each to each. Only one
// build is loaded at a time: most have the same namespace, and on a real host one
// excludes the other.
func makeTruth(plan truth.Plan) (*truth.Table, error) {
	table := &truth.Table{}
	var sources []*source
	for _, b := range plan.Builds {
		err := loaded(plan, b, func(types []raw.Type) error {
			for _, t := range types {
				s, err := record(b, t)
				if err != nil {
					return fmt.Errorf("recording %s: %w", t.Name, err)
				}
				sources = append(sources, s)
				table.Streams = append(table.Streams, s.Stream)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, b := range plan.Builds {
		err := loaded(plan, b, func(types []raw.Type) error {
			for _, t := range types {
				for _, s := range sources {
					p, err := transfer(s, b, t)
					if err != nil {
						return fmt.Errorf("%s to %s: %w", s.Name(), truth.Name(b.Name, t.Name), err)
					}
					table.Pairs = append(table.Pairs, p)
				}
				for _, s := range sources {
					if s.Name() == truth.Name(b.Name, t.Name) {
						c, err := cut(s, t)
						if err != nil {
							return fmt.Errorf("cutting %s: %w", s.Name(), err)
						}
						table.Cut = append(table.Cut, c)
					}
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(table.Pairs, func(a, b truth.Pair) int { return truth.Compare(table.Streams, a, b) })
	return table, nil
}

func truthOf(file string) error {
	var plan truth.Plan
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &plan); err != nil {
		return err
	}
	table, err := makeTruth(plan)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(table)
}

// loaded loads a build, finds its types, and unloads it.
func loaded(plan truth.Plan, b truth.Build, do func([]raw.Type) error) error {
	file := plan.Modules + "/" + b.Module + ".ko"
	if err := raw.Load(file, b.Params+" scratch_kib=4"); err != nil {
		return err
	}
	var types []raw.Type
	for _, name := range b.Types {
		found, err := raw.Types(b.Namespace)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(found, func(t raw.Type) bool { return t.Name == name })
		if i < 0 {
			return fmt.Errorf("build %s has no type %s", b.Name, name)
		}
		types = append(types, found[i])
	}
	if err := do(types); err != nil {
		return fmt.Errorf("build %s: %w", b.Name, err)
	}
	return unload(b.Module)
}

// unload waits for files whose release the kernel has put off.
func unload(module string) (err error) {
	for range 200 {
		if err = raw.Unload(module); !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return err
}

// fresh gives a device that nobody had before: some drivers remember.
func fresh(t raw.Type, do func(d *raw.Device) error) (err error) {
	uuid := raw.UUID(1)
	if err := t.Create(uuid); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, raw.Remove(uuid)) }()
	d, err := raw.Open(uuid)
	if err != nil {
		return err
	}
	defer d.Close()
	return do(d)
}

func record(b truth.Build, t raw.Type) (*source, error) {
	s := &source{Stream: truth.Stream{Build: b.Name, Type: t.Name, ID: b.Namespace + "-" + t.Name, Dialect: b.Dialect}}
	err := fresh(t, func(d *raw.Device) error {
		if err := work(d, 0x1234); err != nil {
			return err
		}
		var err error
		if s.config, err = d.ReadRegion(raw.Config, 0, 256); err != nil {
			return err
		}
		flags, err := d.Flags()
		if errors.Is(err, unix.ENOTTY) {
			s.None = "ENOTTY"
			return nil
		}
		if err != nil {
			return err
		}
		if flags&raw.FlagP2P != 0 {
			if _, err := d.SetState(raw.RunningP2P); err != nil {
				return err
			}
			// Work that waits and must not be lost on the way.
			if err := errors.Join(post(d, 0, opFeed, 0, 99), post(d, 0, opMix, 0, 0)); err != nil {
				return err
			}
		}
		if s.Said, err = d.DataSize(); err != nil {
			return err
		}
		// Work after pre-copy was read: only the final state has it.
		late := func() error { return d.Write64(regFeed, 77) }
		if s.stream, s.Initial, err = save(d, make([]byte, 1<<20), late); err != nil {
			return err
		}
		if s.stopped, err = visible(d); err != nil {
			return err
		}
		s.Size = len(s.stream)
		if _, err := d.SetState(raw.Running); err != nil {
			return err
		}
		s.resumed, err = visible(d)
		return err
	})
	return s, err
}

// transfer gives a stream to a fresh device of a type, and says what came of it.
func transfer(s *source, b truth.Build, t raw.Type) (truth.Pair, error) {
	p := truth.Pair{From: s.Name(), To: truth.Name(b.Name, t.Name)}
	if s.None != "" {
		p.Outcome = truth.NoStream
		return p, nil
	}
	const chunk = 64
	var at int
	err := fresh(t, func(d *raw.Device) (err error) {
		at, err = attempt(d, s, &p, func(int) int { return chunk })
		return err
	})
	if err != nil || p.Outcome != truth.Refused || p.Where == truth.AtStop || p.Where == truth.AtStart {
		return p, err
	}
	// Again, to learn the very byte.
	err = fresh(t, func(d *raw.Device) error {
		_, err := attempt(d, s, &p, func(done int) int {
			if done >= at && done < at+chunk {
				return 1
			}
			return chunk
		})
		return err
	})
	return p, err
}

// attempt writes the stream in pieces, all of it even after a refusal, and stops and
// starts the device: what a careless program would do. It returns where the piece
// began that was refused.
func attempt(d *raw.Device, s *source, p *truth.Pair, piece func(done int) int) (at int, err error) {
	*p = truth.Pair{From: p.From, To: p.To, Outcome: truth.Accepted}
	fd, err := d.SetState(raw.Resuming)
	if err != nil {
		p.Outcome, p.Where, p.Errno = truth.Refused, truth.AtStart, errno(err)
		return 0, nil
	}
	defer unix.Close(fd)
	refused := false
	for done := 0; done < len(s.stream); {
		n := min(piece(done), len(s.stream)-done)
		wrote, err := unix.Write(fd, s.stream[done:done+n])
		switch {
		case err != nil && !refused:
			refused, at = true, done
			p.Outcome, p.Errno, p.Byte = truth.Refused, errno(err), done+n-1
			p.Where = truth.InState
			if uint64(p.Byte) < s.Initial {
				p.Where = truth.InHeader
			}
		case err != nil && p.Then == "":
			p.Then = errno(err)
		}
		if err != nil {
			wrote = n
		}
		done += wrote
	}
	if refused && p.Then == "" {
		p.Then = "taken"
	}
	_, err = d.SetState(raw.Stop)
	if !refused && err != nil {
		p.Outcome, p.Where, p.Errno = truth.Refused, truth.AtStop, errno(err)
		return 0, nil
	}
	if refused {
		p.Stop = "ok"
		if err != nil {
			p.Stop = errno(err)
		}
		return at, nil
	}
	stopped, err := visible(d)
	if err != nil {
		return 0, err
	}
	config, err := d.ReadRegion(raw.Config, 0, 256)
	if err != nil {
		return 0, err
	}
	if _, err := d.SetState(raw.Running); err != nil {
		return 0, err
	}
	resumed, err := visible(d)
	if err != nil {
		return 0, err
	}
	p.State = truth.Different
	if stopped == s.stopped && resumed == s.resumed {
		p.State = truth.Equal
	}
	p.Config = truth.Different
	if identity(config) == identity(s.config) {
		p.Config = truth.Equal
	}
	return 0, nil
}

// identity is what a VM manager compares of config space: all that cannot be written.
func identity(config []byte) string {
	b := slices.Clone(config)
	clear(b[0x04:0x06]) // command
	clear(b[0x10:0x28]) // addresses
	return string(b)
}

// cut gives a build the beginning of its own stream.
func cut(s *source, t raw.Type) (truth.Cut, error) {
	c := truth.Cut{Of: s.Name()}
	if s.None != "" {
		c.Stop = truth.NoStream
		return c, nil
	}
	err := fresh(t, func(d *raw.Device) error {
		c.Stop = "ok"
		if err := load(d, s.stream[:len(s.stream)/truth.CutTo], len(s.stream)); err != nil {
			c.Stop = errno(err)
			return nil
		}
		seen, err := visible(d)
		if err != nil {
			return err
		}
		c.State = truth.Different
		if seen == s.stopped {
			c.State = truth.Equal
		}
		return nil
	})
	return c, err
}

func errno(err error) string {
	var e unix.Errno
	if errors.As(err, &e) {
		if e == unix.EOPNOTSUPP {
			return "EOPNOTSUPP" // its other name comes first in the list
		}
		return unix.ErrnoName(e)
	}
	return err.Error()
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"kindred/inventory"
	"kindred/prove"
)

type streamRecordOptions struct {
	typ, parent string
	out         string
	catalogs    catalogFlags
	scratch     string
}

func newStreamRecord() *cobra.Command {
	opts := new(streamRecordOptions)
	cmd := &cobra.Command{
		Use:   "record [DEVICE | --type TYPE [--parent PARENT]] --out FILE",
		Short: "Record a device's state into a file",
		Long: `Record the state of an idle device that Kindred made, or of a canary: a
throw-away device of a type, made, exercised as the driver's catalog says,
recorded and removed. What a guest would see is noted beside the state, and the
recording is tried on the parent it came from, so that a replay elsewhere makes
a proof. It is signed with this host's key: whoever replays it must trust that
(kindred proof key show). Canaries are made only where /etc/kindred/policy.yaml
allows them.

A device goes on as it was afterwards; most drivers give every opener a device
without history, so the state of a device is mostly that of a fresh one.`,
		Example: `  kindred stream record --type mtty-2 --out mtty-2.stream
  kindred stream record --type kdx-V4_4 --parent 0000:00:10.0 --out gen8.stream
  kindred stream record 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001 --out device.stream`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeDevice(new([]string)),
		RunE:              func(cmd *cobra.Command, args []string) error { return runStreamRecord(cmd, opts, args) },
	}
	fs := cmd.Flags()
	fs.StringVar(&opts.typ, "type", "", "record a canary of the `TYPE`, by its full name")
	fs.StringVar(&opts.parent, "parent", "", "make the canary on `PARENT` (the first that offers the type)")
	fs.StringVar(&opts.out, "out", "", "write the stream to `FILE`")
	fs.StringVar(&opts.scratch, "scratch", "/var/tmp", "`DIR` for recordings while in use")
	opts.catalogs.add(fs)
	return cmd
}

func runStreamRecord(cmd *cobra.Command, opts *streamRecordOptions, args []string) error {
	switch {
	case (len(args) == 1) == (opts.typ != ""):
		return usage(cmd, errors.New("either a device or --type is needed"))
	case len(args) == 1 && opts.parent != "":
		return usage(cmd, errors.New("--parent goes with --type"))
	case opts.out == "":
		return usage(cmd, errors.New("--out is needed: the file to write"))
	}
	if err := replaceable(opts.out); err != nil {
		return usage(cmd, fmt.Errorf("--out %s: %w", opts.out, err))
	}
	s, err := openSession(cmd, &opts.catalogs, 2, opts.scratch)
	if err != nil {
		return err
	}
	defer s.end()
	inv, err := s.live.Inventory(s.ctx)
	if err != nil {
		return s.interrupted(err)
	}
	r, err := s.record(opts, inv, args)
	if err != nil {
		return s.interrupted(err)
	}
	defer r.Close()
	key, err := s.store.Key()
	if err != nil {
		return err
	}
	if err := writeStream(s.ctx, opts.out, func(w io.Writer) error { return r.Write(w, key) }); err != nil {
		return s.interrupted(err)
	}
	s.progress.end()
	cmd.Printf("%s of %s in %s\n", sizeText(r.Size()), clean(r.Header().Device().Type.Full()), clean(opts.out))
	if c := r.Notes().Control; c != nil {
		cmd.Printf("into its own host: %s\n", clean(c.String()))
	}
	return nil
}

// record records what is meant, and tries the recording on its own parent where
// canaries are allowed.
func (s *session) record(opts *streamRecordOptions, inv *inventory.Inventory, args []string) (*prove.Recording, error) {
	var r *prove.Recording
	var side *prove.Side
	if len(args) == 1 {
		var err error
		if inv.Device(args[0]) == nil {
			return nil, &exitError{exitNoSuch, fmt.Errorf("device %s: no such device on this host; kindred device list has them", args[0])}
		}
		if r, err = s.prover.RecordDevice(s.ctx, s.live, args[0]); err != nil {
			return nil, err
		}
		device := r.Header().Device()
		if side = (&prove.Side{Host: s.live, Parent: device.Parent, Type: device.Type}); !s.live.Allows(side.Parent, side.Type) {
			return r, nil
		}
	} else {
		sides, err := s.offering(inv, opts.typ, opts.parent)
		if err != nil {
			return nil, err
		}
		side = sides[0]
		if r, err = s.prover.Record(s.ctx, side); err != nil {
			return nil, err
		}
	}
	switch err := s.prover.Control(s.ctx, r, side); {
	case errors.Is(err, prove.ErrUnsafe):
		return r, nil // a device was recorded, and is no reason to make a canary
	case err != nil:
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// untilEnd writes until a context ends.
type untilEnd struct {
	ctx context.Context
	to  io.Writer
}

func (u untilEnd) Write(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.to.Write(p)
}

// writeStream writes the file whole or not at all. Until it is whole it has no
// name: of a process that is killed nothing is left, as far as the file system
// can that.
func writeStream(ctx context.Context, name string, write func(io.Writer) error) error {
	f, err := pending(name)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer f.Cleanup()
	if err := write(untilEnd{ctx, f}); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// pendingFile is a file that takes its name when it is whole.
type pendingFile interface {
	io.Writer
	CloseAtomicallyReplace() error
	Cleanup() error
}

// pending begins a file that only its owner can read.
func pending(name string) (pendingFile, error) {
	f, err := nameless(name)
	if errors.Is(err, errors.ErrUnsupported) {
		return renameio.NewPendingFile(name, renameio.WithPermissions(0o600))
	}
	return f, err
}

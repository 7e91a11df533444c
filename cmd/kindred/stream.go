// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"kindred/compat"
	"kindred/fleet"
	"kindred/inventory"
	"kindred/prove"
	"kindred/stream"
)

func newStream() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stream",
		Short: "Record device states and replay them on other drivers",
		Long: `A recorded stream is the state of a device in a file, with the device's type,
attributes and driver build: it can be judged against any host before it is
loaded, and replayed into a fresh device there. A vendor who records once for
each release replays on every later build, and needs no old host any more.`,
		Example: `  kindred stream record --type mtty-2 --out mtty-2.stream
  kindred stream show mtty-2.stream
  kindred stream check mtty-2.stream --on fleet/
  kindred stream replay mtty-2.stream --type mtty-2`,
		Args: cobra.ArbitraryArgs,
		RunE: needsSubcommand,
	}
	cmd.AddCommand(newStreamRecord(), newStreamShow(), newStreamCheck(), newStreamReplay())
	return cmd
}

// openStream opens a recorded stream and reads its header.
func openStream(name string) (*os.File, *stream.Reader, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, &exitError{exitInput, fmt.Errorf("stream: %w", err)}
	}
	r, err := stream.NewReader(file)
	if err != nil {
		file.Close()
		return nil, nil, &exitError{exitInput, fmt.Errorf("stream %s: %w", name, err)}
	}
	return file, r, nil
}

func newStreamShow() *cobra.Command {
	output := new(outputFlag)
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Show what a recorded stream is of, and verify it",
		Example: `  kindred stream show mtty-2.stream
  kindred stream show mtty-2.stream -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runStreamShow(cmd, output, args[0]) },
	}
	output.add(cmd)
	return cmd
}

// streamAnswer is what stream show says.
type streamAnswer struct {
	File      string             `json:"file"`
	Made      string             `json:"made"`
	By        string             `json:"by"`
	Host      string             `json:"host"`
	Parent    string             `json:"parent"`
	Device    string             `json:"device"`
	Type      inventory.TypeName `json:"type"`
	Label     inventory.Value    `json:"label,omitzero"`
	Simulated bool               `json:"simulated"`
	Build     *compat.Build      `json:"build"`
	Bytes     int64              `json:"bytes"` // of the state
	Notes     *prove.Notes       `json:"notes,omitempty"`
}

func runStreamShow(cmd *cobra.Command, output *outputFlag, name string) error {
	if err := output.check(cmd); err != nil {
		return err
	}
	file, r, err := openStream(name)
	if err != nil {
		return err
	}
	defer file.Close()
	size, err := io.Copy(io.Discard, r)
	if err != nil {
		return &exitError{exitInput, fmt.Errorf("stream %s: %w", name, err)}
	}
	known, err := knownWith(nil)
	if err != nil {
		return err
	}
	h := r.Header()
	s := compat.NewEngine(known, nil).Source(h.Inventory, h.Device())
	answer := &streamAnswer{
		File: name, Made: h.Made.Format("2006-01-02 15:04:05 MST"), By: h.By, Host: s.Host(), Parent: s.Parent(), Device: s.ID,
		Type: s.Type(), Label: s.Label(), Simulated: h.Simulated(), Build: s.Build(), Bytes: size,
	}
	if answer.Notes, err = prove.ParseNotes(r.Trailer()); err != nil && !errors.Is(err, prove.ErrNoNotes) {
		return &exitError{exitInput, fmt.Errorf("stream %s: %w", name, err)}
	}
	return output.print(cmd, answer, func() { printStream(cmd, answer) })
}

func printStream(cmd *cobra.Command, a *streamAnswer) {
	cmd.Printf("%s of %s, recorded %s by kindred %s\n", sizeText(a.Bytes), clean(a.Type.Full()), a.Made, clean(a.By))
	if a.Simulated {
		cmd.Println("The device was simulated.")
	}
	t := newTable("WHAT", "VALUE")
	t.add("host", a.Host)
	t.add("parent", a.Parent)
	t.add("device", a.Device)
	t.add("label", a.Label.String())
	for _, p := range a.Build.Parts {
		t.add(p.Name, p.Value.String())
	}
	if n := a.Notes; n != nil {
		grade := compat.FreshState
		if n.Worked {
			grade = compat.WorkingState
		}
		t.add("grade", grade.String())
		control := "not tried"
		if n.Control != nil {
			control = n.Control.String()
		}
		t.add("into its own host", control)
	}
	cmd.Print("\n" + t.String())
	cmd.Println("\nAll frames and the digest are as they were written.")
}

type streamCheckOptions struct {
	on       []string
	catalogs catalogFlags
	proofs   proofFlags
	output   outputFlag
	explain  bool
}

func newStreamCheck() *cobra.Command {
	opts := new(streamCheckOptions)
	cmd := &cobra.Command{
		Use:   "check FILE --on INVENTORIES",
		Short: "Judge a recorded stream against hosts, without loading it",
		Long: `Judge the device that a recorded stream is of against each parent of some hosts,
as kindred check does for a device that exists.

Exit code: 0 a parent is compatible, 3 at best unknown, 4 none is.`,
		Example: `  kindred stream check mtty-2.stream --on host-b.json
  kindred stream check mtty-2.stream --on fleet/ --explain`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.on = append(opts.on, args[1:]...)
			return runStreamCheck(cmd, opts, args[0])
		},
	}
	cmd.Flags().StringSliceVar(&opts.on, "on", nil, "inventory `FILES` of the hosts, or directories of them")
	cmd.Flags().BoolVar(&opts.explain, "explain", false, "show every finding")
	opts.catalogs.add(cmd.Flags())
	opts.proofs.add(cmd.Flags())
	opts.output.add(cmd)
	return cmd
}

func runStreamCheck(cmd *cobra.Command, opts *streamCheckOptions, name string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	if len(opts.on) == 0 {
		return usage(cmd, errors.New("--on is needed: the inventories of the hosts"))
	}
	file, r, err := openStream(name)
	if err != nil {
		return err
	}
	defer file.Close()
	engine, err := openEngine(cmd, &opts.catalogs, &opts.proofs)
	if err != nil {
		return err
	}
	targets, err := readFleet(engine, opts.on)
	if err != nil {
		return err
	}
	// Its own host is a target as any other: perhaps with another build now.
	recorded := *r.Header().Inventory
	recorded.Host.Name = name
	origin, err := fleet.New(engine, []*inventory.Inventory{&recorded})
	if err != nil {
		return &exitError{exitInput, fmt.Errorf("stream %s: %w", name, err)}
	}
	s, err := source(origin, r.Header().Device().ID)
	if err != nil {
		return err
	}
	answer := targets.Check(s)
	if err := opts.output.print(cmd, answer, func() { printCheck(cmd, answer, opts.explain) }); err != nil {
		return err
	}
	return checkExit(answer)
}

type streamReplayOptions struct {
	typ, parent string
	catalogs    catalogFlags
	output      outputFlag
	tries       int
	scratch     string
}

func newStreamReplay() *cobra.Command {
	opts := new(streamReplayOptions)
	cmd := &cobra.Command{
		Use:   "replay FILE... [--type TYPE] [--parent PARENT]",
		Short: "Load recorded streams into fresh devices of this host, and keep the proofs",
		Long: `Load recorded streams into canaries, throw-away devices, on a parent of this
host: each takes the state, runs, is compared with what the recording says a
guest saw, and is removed. The parent is tried with its own state too. What came
of it is kept as a proof; kindred prove --help says how it is made and where
canaries are allowed. A stream is replayed when a key signed it that is trusted
here, as with files of proofs: kindred proof --help says which those are.

Exit code: 0 accepted, 3 inconclusive, 4 rejected.`,
		Example: `  kindred stream replay mtty-2.stream --type mtty-2
  kindred stream replay releases/*.stream --parent 0000:00:10.0 -o json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runStreamReplay(cmd, opts, args) },
	}
	fs := cmd.Flags()
	fs.StringVar(&opts.typ, "type", "", "the `TYPE` to create, by its full name (each stream's own)")
	fs.StringVar(&opts.parent, "parent", "", "the `PARENT` to create it on (the first that offers the type)")
	fs.IntVar(&opts.tries, "tries", 2, "how often the stream is loaded, `N` from 2")
	fs.StringVar(&opts.scratch, "scratch", "/var/tmp", "`DIR` for recordings while in use")
	opts.catalogs.add(fs)
	opts.output.add(cmd)
	return cmd
}

func runStreamReplay(cmd *cobra.Command, opts *streamReplayOptions, names []string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	if opts.tries < 2 || opts.tries > 1000 {
		return usage(cmd, fmt.Errorf("--tries %d: a stream is loaded from 2 to 1000 times", opts.tries))
	}
	for _, name := range names { // all are verified before any is loaded
		r, err := openRecording(name)
		if err != nil {
			return err
		}
		r.Close()
	}
	s, err := openSession(cmd, &opts.catalogs, opts.tries, opts.scratch)
	if err != nil {
		return err
	}
	defer s.end()
	inv, err := s.live.Inventory(s.ctx)
	if err != nil {
		return s.interrupted(err)
	}
	made := []proved{}
	for _, name := range names {
		m, err := s.replay(opts, inv, name)
		if err != nil {
			return s.interrupted(err)
		}
		made = append(made, m)
	}
	s.progress.end()
	if err := opts.output.print(cmd, made, func() { printProofs(cmd, made) }); err != nil {
		return err
	}
	return proveExit(made, nil)
}

func openRecording(name string) (*prove.Recording, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, &exitError{exitInput, fmt.Errorf("stream: %w", err)}
	}
	keys, err := prove.DefaultStore().Trusted()
	if err != nil {
		file.Close()
		return nil, &exitError{exitInput, err}
	}
	r, err := prove.OpenRecording(file, keys)
	if errors.Is(err, prove.ErrNotTrusted) {
		err = fmt.Errorf("%w: put the recorder's public key (kindred proof key show, there) into %s", err, prove.DefaultStore().Site)
	}
	if err != nil {
		file.Close()
		return nil, &exitError{exitInput, fmt.Errorf("stream %s: %w", name, err)}
	}
	return r, nil
}

// replay replays one stream and keeps the proof.
func (s *session) replay(opts *streamReplayOptions, inv *inventory.Inventory, name string) (proved, error) {
	r, err := openRecording(name)
	if err != nil {
		return proved{}, err
	}
	defer r.Close()
	sides, err := s.offering(inv, cmp.Or(opts.typ, r.Header().Device().Type.Full()), opts.parent)
	if err != nil {
		return proved{}, fmt.Errorf("stream %s: %w", name, err)
	}
	p, err := s.prover.Replay(s.ctx, r, sides[0])
	if err != nil {
		return proved{}, fmt.Errorf("stream %s: %w", name, err)
	}
	return s.keep(p)
}

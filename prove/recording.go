// SPDX-License-Identifier: Apache-2.0

package prove

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/host/vfio"
	"kindred/inventory"
	"kindred/stream"
)

// Notes are what a recording says besides the state, as its trailer: enough to
// do with the state's next device what was done with its first.
type Notes struct {
	Visible  *Visible        `json:"visible"`
	Exercise []compat.Access `json:"exercise,omitempty"`
	// Worked is true when exercising showed in what was observed.
	Worked bool `json:"worked"`
	// Saved is what a guest saw when the state was taken, GoneOn after the
	// device ran again and was exercised again.
	Saved  []Seen `json:"saved,omitempty"`
	GoneOn []Seen `json:"gone_on,omitempty"`
	// Initial is how many bytes came before the device had to stop.
	Initial int64 `json:"initial"`
	// Control is whether the side took this state itself; nil for not tried.
	Control *Attempt `json:"control,omitempty"`
	// Voucher is the recorder's word for all this; nil until it is written.
	Voucher *Voucher `json:"voucher,omitempty"`
}

// ErrNoNotes is returned for a stream that no canary gave.
var ErrNoNotes = errors.New("the stream does not say what its device looked like: it is not a canary's")

// ParseNotes reads the notes of a recorded stream. A stream that no canary gave
// has none (ErrNoNotes).
func ParseNotes(trailer json.RawMessage) (*Notes, error) {
	if len(trailer) == 0 {
		return nil, ErrNoNotes
	}
	n := new(Notes)
	if err := json.Unmarshal(trailer, n); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNoNotes, err)
	}
	if n.Visible == nil {
		return nil, ErrNoNotes
	}
	// Whoever wrote the file chose what root is asked to read and write here.
	all := slices.Concat(n.Exercise, accessesOf(n.Saved), accessesOf(n.GoneOn))
	if len(all) > 3*compat.MaxAccesses {
		return nil, fmt.Errorf("the notes of the stream have %d accesses, more than %d", len(all), 3*compat.MaxAccesses)
	}
	for i := range all {
		if err := all[i].Check(); err != nil {
			return nil, fmt.Errorf("the notes of the stream: %w", err)
		}
	}
	return n, nil
}

// grade is how much of a migration the recording exercises.
func (n *Notes) grade() compat.Grade {
	if n.Worked {
		return compat.WorkingState
	}
	return compat.FreshState
}

// Recording is a canary's state that can be replayed any number of times. It
// is in a file, and only as long as it is in use.
type Recording struct {
	header *stream.Header
	notes  *Notes
	size   int64 // of the payload
	file   io.ReaderAt
	length int64  // of the file
	sum    string // of the payload; empty: this process made it, in a file that nobody else has
	close  func() error
}

// Header says what the state is of.
func (r *Recording) Header() *stream.Header { return r.header }

// Notes say what was done with its device.
func (r *Recording) Notes() *Notes { return r.notes }

// Grade is how much of a migration the recording exercises.
func (r *Recording) Grade() compat.Grade { return r.notes.grade() }

// Size is how many bytes the state has.
func (r *Recording) Size() int64 { return r.size }

// Close forgets the recording.
func (r *Recording) Close() error { return r.close() }

func (r *Recording) open() (*stream.Reader, error) {
	return stream.NewReader(io.NewSectionReader(r.file, 0, r.length))
}

// payload is the state, from its beginning.
func (r *Recording) payload() (io.Reader, error) {
	from, err := r.open()
	if err != nil || r.sum == "" {
		return from, err
	}
	return &summed{from, sha256.New(), r.sum}, nil
}

// Write writes the recording as a stream, with the key's voucher.
func (r *Recording) Write(w io.Writer, key *proofs.PrivateKey) error {
	from, err := r.open()
	if err != nil {
		return err
	}
	_, sum, err := payloadOf(from)
	if err != nil {
		return err
	}
	text, err := vouched(r.header, r.notes, sum)
	if err != nil {
		return err
	}
	public, notes := key.Public(), *r.notes
	notes.Voucher = &Voucher{public.Key, public.Name, sum, key.SignText(text)}
	trailer, err := json.Marshal(&notes)
	if err != nil {
		return err
	}
	to, err := stream.NewWriter(w, r.header)
	if err != nil {
		return err
	}
	if from, err = r.open(); err != nil {
		return err
	}
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return to.Close(trailer)
}

// OpenRecording verifies a whole recorded stream and makes a recording of it,
// if one of the keys vouches for it (ErrNotTrusted).
func OpenRecording(file *os.File, keys []proofs.NamedKey) (*Recording, error) {
	length, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	r := &Recording{file: file, length: length, close: file.Close}
	from, err := r.open()
	if err != nil {
		return nil, err
	}
	if r.size, r.sum, err = payloadOf(from); err != nil {
		return nil, err
	}
	r.header = from.Header()
	if r.notes, err = ParseNotes(from.Trailer()); err != nil {
		return nil, err
	}
	return r, trusted(r.header, r.notes, r.sum, keys)
}

// Record makes a canary, exercises it and records its state.
func (p *Prover) Record(ctx context.Context, s *Side) (*Recording, error) {
	policy := p.Engine.Policy(s.Type)
	if policy.Canaries == compat.CanariesUnsafe {
		return nil, fmt.Errorf("%s: %w", s, ErrUnsafe)
	}
	var r *Recording
	err := withCanary(ctx, s, func(id string, d vfio.Device) error {
		inv, err := s.Host.Inventory(ctx)
		if err != nil {
			return err
		}
		extract, err := inv.Extract(id)
		if err != nil {
			return err
		}
		r, err = p.record(ctx, s, d, &policy, extract)
		return err
	})
	if err != nil {
		if r != nil { // it could not be removed
			err = errors.Join(err, r.Close())
		}
		if _, told := errors.AsType[*NotAllowedError](err); told {
			return nil, err
		}
		return nil, fmt.Errorf("record %s: %w", s, err)
	}
	return r, nil
}

// Why a device is not recorded.
var (
	ErrNotOurs = errors.New("not a device that Kindred made, so it is not opened")
	ErrInUse   = errors.New("somebody has it open, or that could not be found out")
)

// RecordDevice records the state of an idle device that Kindred made, as it is:
// it is not exercised. The device goes on as before.
func (p *Prover) RecordDevice(ctx context.Context, h Host, id string) (_ *Recording, err error) {
	fail := func(err error) (*Recording, error) { return nil, fmt.Errorf("record %s: %w", id, err) }
	inv, err := h.Inventory(ctx)
	if err != nil {
		return fail(err)
	}
	extract, err := inv.Extract(id)
	switch {
	case err != nil:
		return nil, err
	case !extract.Devices[0].Ours:
		return fail(ErrNotOurs)
	case extract.Devices[0].InUse != inventory.No:
		return fail(ErrInUse)
	}
	d, err := h.Open(ctx, id)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	device := &extract.Devices[0]
	policy := p.Engine.Policy(device.Type)
	policy.Exercise = nil
	r, err := p.record(ctx, &Side{h, device.Parent, device.Type}, d, &policy, extract)
	if err != nil {
		return fail(err)
	}
	return r, nil
}

// record writes an open device's state into a new recording.
func (p *Prover) record(ctx context.Context, s *Side, d vfio.Device, policy *compat.ProofPolicy, extract *inventory.Inventory) (_ *Recording, err error) {
	file, err := p.scratch()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	r := &Recording{file: file, close: file.Close, header: &stream.Header{Made: p.Now().UTC(), By: p.Version, Inventory: extract}}
	w, err := stream.NewWriter(file, r.header)
	if err != nil {
		return nil, err
	}
	if r.notes, r.size, err = p.take(ctx, s, d, policy, w); err != nil {
		return nil, err
	}
	trailer, err := json.Marshal(r.notes)
	if err != nil {
		return nil, err
	}
	if err := w.Close(trailer); err != nil {
		return nil, err
	}
	r.length, err = file.Seek(0, io.SeekEnd)
	return r, err
}

// take exercises a device, writes its state to w, and notes what a guest sees
// before and after.
func (p *Prover) take(ctx context.Context, s *Side, d vfio.Device, policy *compat.ProofPolicy, w io.Writer) (*Notes, int64, error) {
	n := &Notes{Exercise: policy.Exercise}
	var err error
	if n.Visible, err = look(d); err != nil {
		return nil, 0, err
	}
	fresh, err := observe(d, policy.Observe)
	if err != nil {
		return nil, 0, err
	}
	if err := exercise(d, n.Exercise); err != nil {
		return nil, 0, err
	}
	if n.Saved, err = observe(d, policy.Observe); err != nil {
		return nil, 0, err
	}
	n.Worked = len(n.Exercise) > 0 && changed(fresh, n.Saved) != ""
	saved, err := vfio.Save(ctx, d, w, vfio.SaveOptions{Progress: p.progress("record "+s.String(), 0)})
	if err != nil {
		return nil, 0, err
	}
	n.Initial = int64(min(saved.Initial, uint64(saved.Bytes)))
	if err := runAndExercise(d, n.Exercise); err != nil {
		return nil, 0, err
	}
	n.GoneOn, err = observe(d, policy.Observe)
	return n, saved.Bytes, err
}

func runAndExercise(d vfio.Device, list []compat.Access) error {
	if _, err := d.SetState(vfio.StateRunning); err != nil {
		return fmt.Errorf("make the device run on: %w", err)
	}
	return exercise(d, list)
}

// scratch is a file without a name: whatever ends the process, it is gone.
func (p *Prover) scratch() (*os.File, error) {
	dir := cmp.Or(p.Scratch, os.TempDir())
	file, err := nameless(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		file, err = unnamed(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("make a file for the recording (--scratch says where): %w", err)
	}
	return file, nil
}

// unnamed is for file systems whose files have a name first: a process that is
// killed in between leaves an empty file.
func unnamed(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, "kindred-recording-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Kind says on whose side a transfer failed.
type Kind string

const (
	// KindRefused: the driver did not take the state. Of all kinds this alone may
	// mean that source and target do not fit, and Step says how surely: an errno
	// is as ambiguous as the drivers made it.
	KindRefused Kind = "refused"
	// KindNotSaved: the driver did not give its state.
	KindNotSaved Kind = "not-saved"
	// KindTransport: the reader or the writer failed; the devices are not to blame.
	KindTransport Kind = "transport"
	// KindEnded: the context ended. What failed at that moment is not looked at.
	KindEnded Kind = "ended"
)

// Step is what was being done.
type Step string

const (
	StepAsk      Step = "ask"             // for state or features
	StepPreCopy  Step = "enter-pre-copy"  // PRE_COPY, or PRE_COPY_P2P
	StepInfo     Step = "pre-copy-info"   // what is left in PRE_COPY
	StepStopCopy Step = "enter-stop-copy" // STOP_COPY
	StepRead     Step = "read"            // from the device
	StepSend     Step = "send"            // to the writer
	StepStop     Step = "stop"            // the whole state was read

	StepReset    Step = "reset"          // before anything else
	StepResuming Step = "enter-resuming" // RESUMING
	StepReceive  Step = "receive"        // from the reader
	StepWrite    Step = "write"          // to the device
	StepCommit   Step = "commit"         // RESUMING to STOP, with all written
)

// Error is why a Save or a Load failed.
type Error struct {
	Kind Kind
	Step Step
	// At counts the bytes of the stream that had passed before: the offset of the
	// write that was refused, as the caller's reader cut it, and not of the byte
	// that the driver did not like.
	At int64
	// State is the device's, read right after the failure and before anything was
	// done about it; StateError also if it could not be read.
	State State
	// Err is the reason; errors.Is and errors.As see it.
	Err error
	// Left is why the device could not be brought where the doc of Save and Load
	// says that it is after an error. Nil: it is there.
	Left error
}

var kindNames = map[Kind]string{
	KindRefused:   "the driver refused",
	KindNotSaved:  "the source could not save",
	KindTransport: "the transport failed",
	KindEnded:     "it was ended",
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s (step %s, %d bytes into the stream, device then in %s): %v", kindNames[e.Kind], e.Step, e.At, e.State, e.Err)
	if e.Left != nil {
		text += fmt.Sprintf("; the device is not usable, close it: %v", e.Left)
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// Errno is the kernel's reason, or 0 if it gave none.
func (e *Error) Errno() syscall.Errno {
	var errno syscall.Errno
	if (e.Kind == KindRefused || e.Kind == KindNotSaved) && errors.As(e.Err, &errno) {
		return errno
	}
	return 0
}

// failure makes the error of a step. An ended context goes before any other
// reason: the step may have failed for it, and a refusal must be certain.
func failure(ctx context.Context, d Device, kind Kind, step Step, at int64, err error) *Error {
	e := &Error{Kind: kind, Step: step, At: at, Err: err}
	if ctx.Err() != nil {
		e.Kind, e.Err = KindEnded, context.Cause(ctx)
		if !errors.Is(err, e.Err) {
			e.Err = fmt.Errorf("%w (%w)", e.Err, err)
		}
	}
	if state, err := d.State(); err == nil {
		e.State = state
	}
	return e
}

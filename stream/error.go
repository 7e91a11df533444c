// SPDX-License-Identifier: Apache-2.0

package stream

import "fmt"

// Kind is what is wrong with a stream. Its text is stable.
type Kind string

const (
	NotStream Kind = "not-a-stream" // it begins as something else
	TooNew    Kind = "too-new"      // a later version wrote it
	Cut       Kind = "cut"          // it ends before its end
	Corrupt   Kind = "corrupt"      // it is not what was written
)

// Error says what is wrong with a stream, and where.
type Error struct {
	Kind    Kind
	Offset  int64  // bytes from the start to the frame concerned
	Problem string // one line
	Err     error  // the cause, may be nil; never io.EOF
}

func (e *Error) Error() string {
	problem := e.Problem
	if e.Err != nil {
		problem += ": " + e.Err.Error()
	}
	if e.Kind == NotStream {
		return "not a recorded stream: " + problem
	}
	return fmt.Sprintf("the stream is %s at byte %d: %s", words[e.Kind], e.Offset, problem)
}

var words = map[Kind]string{NotStream: "none", TooNew: "too new", Cut: "cut short", Corrupt: "corrupt"}

func (e *Error) Unwrap() error { return e.Err }

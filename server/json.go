// SPDX-License-Identifier: Apache-2.0

package server

import (
	"io"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// appender is an answer that encodes itself, faster than by reflection.
type appender interface {
	AppendJSON(to []byte) ([]byte, error)
}

// scratch is memory for texts that come and go, used again; one that grew beyond
// most of them is let go.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

const mostScratch = 4 << 20

func reuse(memory *[]byte, text []byte) {
	if cap(text) <= mostScratch {
		*memory = text
		scratch.Put(memory)
	}
}

// formats are how answers are written and requests read.
func formats() map[string]huma.Format {
	f := huma.DefaultJSONFormat
	f.Marshal = func(w io.Writer, v any) error {
		a, ok := v.(appender)
		if !ok {
			return huma.DefaultJSONFormat.Marshal(w, v)
		}
		memory := scratch.Get().(*[]byte)
		text, err := a.AppendJSON((*memory)[:0])
		if err == nil {
			_, err = w.Write(append(text, '\n'))
		}
		reuse(memory, text)
		return err
	}
	return map[string]huma.Format{"application/json": f, "json": f}
}

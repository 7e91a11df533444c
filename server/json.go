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

// scratch is memory for texts that come and go, used again. A request's is held as
// long as the request, and there are many, of a few KiB; an answer may be longer by a
// hundred times. So each has its own: what is once as long as an answer stays so.
type scratch struct{ pool sync.Pool }

var requestTexts, answerTexts scratch

// mostScratch is how long a text may be for its memory to be used again.
const mostScratch = 4 << 20

func (s *scratch) get() *[]byte {
	if memory, ok := s.pool.Get().(*[]byte); ok {
		return memory
	}
	return new([]byte)
}

// put takes back memory with the text that it was used for, which may have moved.
func (s *scratch) put(memory *[]byte, text []byte) {
	if cap(text) <= mostScratch {
		*memory = text[:0]
		s.pool.Put(memory)
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
		memory := answerTexts.get()
		text, err := a.AppendJSON(*memory)
		if err == nil {
			text = append(text, '\n')
			_, err = w.Write(text)
		}
		answerTexts.put(memory, text)
		return err
	}
	return map[string]huma.Format{"application/json": f, "json": f}
}

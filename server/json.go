// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"io"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"kindred/api"
	"kindred/inventory"
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
	f.Unmarshal = func(data []byte, v any) error {
		if r, ok := v.(*api.Report); ok {
			r.Own = roomFor(data)
		}
		return huma.DefaultJSONFormat.Unmarshal(data, v)
	}
	return map[string]huma.Format{"application/json": f, "json": f}
}

// roomFor is an empty own part whose lists have room for what a report seems to tell,
// so that they need not grow item by item: that was a tenth of all garbage that a
// server made. Where it guesses wrong they grow.
func roomFor(report []byte) *inventory.Own {
	const mostDevices, mostTypes = 64, 1024
	_, types, _ := bytes.Cut(report, []byte(`"creatable":"`))
	return &inventory.Own{
		Available: make([]int, 0, min(max(bytes.IndexByte(types, '"'), 0), mostTypes)),
		Devices:   make([]inventory.Device, 0, min(bytes.Count(report, []byte(`"in_use":`)), mostDevices)),
	}
}

// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"kindred/api"
)

// What an agent tells of its host may come compressed, by gzip (RFC 1952), as its
// Content-Encoding says: a quarter is left of it. A connection keeps room for the
// longest thing that came, and a server has thousands of them; and what comes
// compressed is stored as it came.
var (
	gzipMagic = []byte{0x1f, 0x8b}
	readers   = sync.Pool{New: func() any { return new(gzip.Reader) }}

	errTooLong = errors.New("it is too long")
)

// gunzip appends to a buffer what was compressed. What is longer than most bytes is
// errTooLong.
func gunzip(data []byte, most int64, to []byte) ([]byte, error) {
	z := readers.Get().(*gzip.Reader)
	defer readers.Put(z)
	if err := z.Reset(bytes.NewReader(data)); err != nil {
		return to, err
	}
	text := bytes.NewBuffer(to)
	n, err := text.ReadFrom(io.LimitReader(z, most+1))
	if err == nil && n > most {
		err = errTooLong
	}
	return text.Bytes(), err
}

// sentAs is where a request's context has its body as it came, compressed.
type sentAs struct{}

// stored is a report as it is stored: as it came, if that was compressed.
func stored(ctx context.Context, r *api.Report) []byte {
	if data, ok := ctx.Value(sentAs{}).([]byte); ok {
		return data
	}
	return pack(r)
}

// body is a request whose body was read already.
type body struct {
	request
	text io.Reader
}

type request huma.Context

func (b *body) BodyReader() io.Reader { return b.text }

// bodyTime is how long a body may take to come.
const bodyTime = 5 * time.Second

// acceptGzip lets an operation's body come compressed. What it is must not be
// longer than the operation allows, before and after.
func acceptGzip(ctx huma.Context, next func(huma.Context)) {
	switch encoding := ctx.Header("Content-Encoding"); encoding {
	case "", "identity":
		next(ctx)
		return
	case api.Gzip:
	default:
		refuseIn(ctx, api.NewProblem(api.BadRequest, "a body in the encoding %q is not understood: %s or none", encoding, api.Gzip))
		return
	}
	most := ctx.Operation().MaxBodyBytes
	_ = ctx.SetReadDeadline(time.Now().Add(bodyTime)) // what cannot have one has none
	data, err := readAll(io.LimitReader(ctx.BodyReader(), most+1), ctx.Header("Content-Length"), most)
	if err != nil {
		refuseIn(ctx, api.NewProblem(api.BadRequest, "the body ended early: %v", err))
		return
	}
	memory := requestTexts.get()
	text, err := gunzip(data, most, *memory)
	defer requestTexts.put(memory, text)
	switch {
	case int64(len(data)) > most, errors.Is(err, errTooLong):
		refuseIn(ctx, api.NewProblem(api.TooBig, "the body is longer than %d bytes", most))
		return
	case err != nil:
		refuseIn(ctx, api.NewProblem(api.BadRequest, "the body is not what its encoding, %s, says: %v", api.Gzip, err))
		return
	}
	next(&body{huma.WithValue(ctx, sentAs{}, data), bytes.NewReader(text)})
}

// readAll reads a body of that length, which net/http sees to, or of one that is not
// known.
func readAll(from io.Reader, length string, most int64) ([]byte, error) {
	n, err := strconv.ParseInt(length, 10, 64)
	if err != nil || n < 0 || n > most {
		return io.ReadAll(from)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(from, data); err != nil {
		return nil, err
	}
	return data, nil
}

func refuseIn(ctx huma.Context, p *api.Problem) {
	ctx.SetHeader("Content-Type", api.ProblemType)
	ctx.SetStatus(p.Status)
	_, _ = ctx.BodyWriter().Write(encode(p)) // who does not listen needs no answer
}

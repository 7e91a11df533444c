// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// maxInFlight bounds the requests of one connection that are worked on at once.
const maxInFlight = 64

// Handler does what one request asks. The context ends when the request is
// cancelled or its connection is gone.
type Handler func(ctx context.Context, req Request, body []byte) (Response, []byte)

// Serve answers the requests arriving on conn until it ends, each in its own
// goroutine, and returns when all of them have finished. The error is nil when
// the other side closed the connection between two frames.
func Serve(ctx context.Context, conn io.ReadWriter, handle Handler) error {
	ctx, cancelAll := context.WithCancel(ctx)
	s := &session{conn: conn, cancels: map[uint64]context.CancelFunc{}}
	defer s.work.Wait()
	defer cancelAll()
	for {
		var req Request
		body, err := Read(conn, &req)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if req.Op == OpCancel {
			s.cancel(req.ID)
			continue
		}
		reqCtx, cancel := context.WithCancel(ctx)
		if err := s.begin(req.ID, cancel); err != nil {
			cancel()
			if err := s.reply(Response{ID: req.ID, Error: err.Error()}, nil); err != nil {
				return err
			}
			continue
		}
		s.work.Go(func() {
			defer cancel()
			resp, out := handle(reqCtx, req, body)
			resp.ID = req.ID
			s.end(req.ID)
			// A failed write shows up in Read as well, which ends the loop.
			_ = s.reply(resp, out)
		})
	}
}

type session struct {
	conn    io.ReadWriter
	work    sync.WaitGroup
	writing sync.Mutex

	mu      sync.Mutex
	cancels map[uint64]context.CancelFunc
}

func (s *session) begin(id uint64, cancel context.CancelFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cancels) >= maxInFlight {
		return fmt.Errorf("%d requests are already being worked on: wait for one to end", maxInFlight)
	}
	if _, dup := s.cancels[id]; dup {
		return fmt.Errorf("request id %d is in use", id)
	}
	s.cancels[id] = cancel
	return nil
}

func (s *session) cancel(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.cancels[id]; cancel != nil {
		cancel()
	}
}

func (s *session) end(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cancels, id)
}

func (s *session) reply(resp Response, body []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if len(body) > MaxBody {
		resp = Response{ID: resp.ID, Error: fmt.Sprintf("the answer has %d bytes, at most %d go in one frame", len(body), MaxBody)}
		body = nil
	}
	return Write(s.conn, resp, body)
}

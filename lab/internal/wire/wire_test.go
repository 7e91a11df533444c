// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	var buf bytes.Buffer
	sent := []Request{
		{ID: 1, Op: OpRun, Argv: []string{"a", "b c"}, Env: []string{"K=v"}},
		{ID: 1<<64 - 1, Op: OpPut, Path: "/x", Mode: 0o755, Offset: 1 << 40, Last: true},
	}
	bodies := [][]byte{nil, bytes.Repeat([]byte{0, 1, 2}, 1000)}
	for i := range sent {
		if err := Write(&buf, sent[i], bodies[i]); err != nil {
			t.Fatal(err)
		}
	}
	for i := range sent {
		var got Request
		body, err := Read(&buf, &got)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sent[i], got); diff != "" || !bytes.Equal(body, bodies[i]) {
			t.Errorf("frame %d: body of %d bytes, header (-want +got):\n%s", i, len(body), diff)
		}
	}
	if _, err := Read(&buf, &Request{}); err != io.EOF {
		t.Errorf("after the last frame: %v, want io.EOF", err)
	}
}

func TestReadBounds(t *testing.T) {
	frame := func(hlen, blen uint32, rest string) []byte {
		b := binary.BigEndian.AppendUint32(nil, hlen)
		b = binary.BigEndian.AppendUint32(b, blen)
		return append(b, rest...)
	}
	cases := map[string]struct {
		data []byte
		cut  bool
	}{
		"header too long":   {frame(MaxHeader+1, 0, ""), false},
		"body too long":     {frame(2, MaxBody+1, "{}"), false},
		"garbage":           {[]byte("GET / HTTP/1.0\r\n\r\n"), false},
		"no JSON":           {frame(2, 0, "[]"), false},
		"cut in lengths":    {[]byte{0, 0, 0}, true},
		"cut in header":     {frame(10, 0, "{"), true},
		"cut before body":   {frame(2, 5, "{}"), true},
		"cut in a big body": {frame(2, MaxBody, "{}abc"), true},
	}
	for name, c := range cases {
		_, err := Read(bytes.NewReader(c.data), &Request{})
		if err == nil || err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) != c.cut {
			t.Errorf("%s: error %v, unexpected end wanted: %v", name, err, c.cut)
		}
	}
}

func TestWriteBounds(t *testing.T) {
	var buf bytes.Buffer
	if err := Write(&buf, Request{Path: strings.Repeat("x", MaxHeader)}, nil); err == nil {
		t.Error("a header too long was sent")
	}
	if err := Write(&buf, Request{}, make([]byte, MaxBody+1)); err == nil {
		t.Error("a body too long was sent")
	}
	if buf.Len() > 0 {
		t.Errorf("%d bytes of refused frames were sent", buf.Len())
	}
}

func FuzzRead(f *testing.F) {
	var good bytes.Buffer
	if err := Write(&good, Request{ID: 3, Op: OpGet, Path: "/etc/hostname"}, []byte("body")); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte{0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff, '{', '}'})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		var req Request
		body, err := Read(r, &req)
		if err != nil {
			return
		}
		// What was read can be sent and read again, and is the same.
		var buf bytes.Buffer
		if err := Write(&buf, req, body); err != nil {
			t.Skip("JSON may grow when written again")
		}
		var again Request
		body2, err := Read(&buf, &again)
		if err != nil || !bytes.Equal(body, body2) || !cmp.Equal(req, again) {
			t.Errorf("read %+v, again %+v, %v", req, again, err)
		}
	})
}

// pipe serves requests with handle and returns the client's end.
func pipe(t *testing.T, handle Handler) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- Serve(t.Context(), server, handle); server.Close() }()
	t.Cleanup(func() {
		client.Close()
		<-done
	})
	return client
}

func TestServeCancelsAndAnswersOutOfOrder(t *testing.T) {
	conn := pipe(t, func(ctx context.Context, req Request, body []byte) (Response, []byte) {
		if req.Op == OpRun {
			<-ctx.Done()
			return Response{Error: ctx.Err().Error()}, nil
		}
		return Response{}, body
	})
	for _, req := range []Request{{ID: 1, Op: OpRun}, {ID: 2, Op: OpGet}} {
		if err := Write(conn, req, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	var resp Response
	body, err := Read(conn, &resp)
	if err != nil || resp.ID != 2 || string(body) != "x" {
		t.Fatalf("first answer %+v %q %v, want that to request 2", resp, body, err)
	}
	if err := Write(conn, Request{ID: 1, Op: OpCancel}, nil); err != nil {
		t.Fatal(err)
	}
	resp = Response{}
	if _, err := Read(conn, &resp); err != nil || resp.ID != 1 || resp.Error == "" {
		t.Fatalf("answer %+v %v, want the end of request 1", resp, err)
	}
}

func TestServeBoundsRequests(t *testing.T) {
	conn := pipe(t, func(ctx context.Context, _ Request, _ []byte) (Response, []byte) {
		<-ctx.Done()
		return Response{}, nil
	})
	for id := range uint64(maxInFlight) {
		if err := Write(conn, Request{ID: id + 1, Op: OpRun}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []uint64{1, maxInFlight + 1} { // in use; one too many
		if err := Write(conn, Request{ID: id, Op: OpRun}, nil); err != nil {
			t.Fatal(err)
		}
		var resp Response
		if _, err := Read(conn, &resp); err != nil || resp.ID != id || resp.Error == "" {
			t.Errorf("request %d: %+v %v, want a refusal", id, resp, err)
		}
	}
}

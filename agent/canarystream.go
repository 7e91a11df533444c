// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"kindred/api"
	"kindred/prove"
	"kindred/stream"
	"kindred/trust"
)

// The way between two agents: TLS between their own certificates; from the
// source the order's token and the stream, to its end; from the target one byte
// when it has verified the whole.

const (
	handshake = 10 * time.Second // to show who one is
	stalled   = time.Minute      // without a byte
	taken     = byte(1)          // the stream arrived

	// strangers are at the door at once, at most: for one more the first has to go.
	strangers = 8
)

// maxStream is the longest stream that is received unless told otherwise.
const maxStream = 64 << 30

// send sends the recording to the target, and waits until it was verified there.
func (t *task) send(ctx context.Context, r *prove.Recording) (digest string, err error) {
	failed := func(err error) error {
		return fmt.Errorf("send to %s at %s: %w", t.order.Peer.Host, t.order.Address, err)
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: handshake}, Config: trust.AgentClientTLS(t.Canaries.Credentials, t.peer(), time.Now)}
	open, cancel := context.WithTimeout(ctx, 2*handshake)
	conn, err := d.DialContext(open, "tcp", t.order.Address)
	cancel()
	if err != nil {
		return "", failed(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	to := &watched{conn.(*tls.Conn), stalled}
	if _, err := io.WriteString(to, t.order.Token); err != nil {
		return "", failed(err)
	}
	if digest, err = r.Send(to); err != nil {
		return "", failed(err)
	}
	if err := to.CloseWrite(); err != nil {
		return "", failed(err)
	}
	var answer [1]byte
	if _, err := io.ReadFull(to, answer[:]); err != nil || answer[0] != taken {
		return "", failed(cmp.Or(err, errors.New("it did not say that it has the stream")))
	}
	return digest, nil
}

// watched is a connection on which something has to happen from time to time.
type watched struct {
	*tls.Conn
	most time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	if err := w.SetReadDeadline(time.Now().Add(w.most)); err != nil {
		return 0, err
	}
	return w.Conn.Read(p)
}

func (w *watched) Write(p []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(w.most)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

// receive listens for the source, says where, and takes its stream. The listener
// is there for that one connection, and no longer.
func (t *task) receive(ctx context.Context, p *prove.Prover) (*prove.Recording, string, error) {
	l, err := net.Listen("tcp", t.Canaries.Listen)
	if err != nil {
		return nil, "", &gaveUp{api.NoListener, fmt.Errorf("listen for a canary's state: %w", err)}
	}
	door := &door{task: t, listener: l, arrived: make(chan *watched, 1)}
	defer door.close()
	door.all.Go(func() { door.open(ctx) })
	if err := t.say(ctx, &api.CanaryWord{Phase: api.CanaryListening, Address: cmp.Or(t.Canaries.Reach, l.Addr().String())}); err != nil {
		return nil, "", err
	}
	var conn *watched
	select {
	case conn = <-door.arrived:
	case <-ctx.Done():
		return nil, "", context.Cause(ctx)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	r, digest, err := p.Receive(&atMost{conn, cmp.Or(t.Canaries.MaxBytes, maxStream)})
	if err != nil {
		if errors.Is(err, errTooLong) {
			return nil, "", &gaveUp{api.TooBig, err}
		}
		return nil, "", fmt.Errorf("receive from %s: %w", t.order.Peer.Host, err)
	}
	if why := t.other(r.Header()); why != "" {
		return nil, "", errors.Join(giveUp(api.BadRequest, "%s", why), r.Close())
	}
	if _, err := conn.Write([]byte{taken}); err != nil {
		return nil, "", errors.Join(fmt.Errorf("receive from %s: %w", t.order.Peer.Host, err), r.Close())
	}
	return r, digest, nil
}

// other says in what a stream is not the one that was ordered; empty: it is.
func (t *task) other(h *stream.Header) string {
	d, peer := h.Device(), t.order.Peer
	if h.Inventory.Host.Name != peer.Host || d.Parent != peer.Parent || d.Type != peer.Type {
		return fmt.Sprintf("%s sent the state of %s on %s: %s, and %s on %s: %s was ordered", peer.Host, d.Type.Full(), h.Inventory.Host.Name, d.Parent, peer.Type.Full(), peer.Host, peer.Parent)
	}
	return ""
}

// errTooLong is returned for a stream that is longer than is received.
var errTooLong = errors.New("the stream is longer than this host receives")

// atMost reads no more than some bytes.
type atMost struct {
	from io.Reader
	left int64
}

func (a *atMost) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, errTooLong
	}
	n, err := a.from.Read(p[:min(int64(len(p)), a.left)])
	a.left -= int64(n)
	return n, err
}

// door lets the one in who was announced. Others who knock are sent away, and keep
// nobody out by being many or slow.
type door struct {
	*task
	listener net.Listener
	arrived  chan *watched
	all      sync.WaitGroup

	mu     sync.Mutex
	closed bool
	inside []net.Conn // who has not said yet who it is, the first to come first
}

// open accepts until the one has arrived.
func (d *door) open(ctx context.Context) {
	defer context.AfterFunc(ctx, d.shut)()
	config := trust.AgentServerTLS(d.Canaries.Credentials, d.peer(), time.Now)
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			return
		}
		if !d.enter(conn) {
			conn.Close()
			return
		}
		d.all.Go(func() { d.greet(ctx, conn, config) })
	}
}

// enter notes who came in; it reports false when the door is shut.
func (d *door) enter(conn net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	if len(d.inside) == strangers {
		d.inside[0].Close()
		d.inside = slices.Delete(d.inside, 0, 1)
	}
	d.inside = append(d.inside, conn)
	return true
}

// greet finds out who it is. The one with the certificate and the token is let
// in, and the door is shut behind it.
func (d *door) greet(ctx context.Context, conn net.Conn, config *tls.Config) {
	secure := tls.Server(conn, config)
	limit, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	err := secure.HandshakeContext(limit)
	if err == nil {
		err = d.token(secure)
	}
	if !d.leave(conn, err == nil) {
		d.Log.Warn("somebody else came for a canary's state", "order", d.order.Canary, "from", conn.RemoteAddr(), "err", err)
		secure.Close()
		return
	}
	d.arrived <- &watched{secure, stalled}
}

// leave notes that it is known who it is. The first who is the right one goes on,
// and the door is shut.
func (d *door) leave(conn net.Conn, right bool) (first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside = slices.DeleteFunc(d.inside, func(o net.Conn) bool { return o == conn })
	if first = right && !d.closed; first {
		d.lock()
	}
	return first
}

var errToken = errors.New("it does not have the order's token")

func (d *door) token(conn *tls.Conn) error {
	if err := conn.SetReadDeadline(time.Now().Add(handshake)); err != nil {
		return err
	}
	got := make([]byte, len(d.order.Token))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got, []byte(d.order.Token)) != 1 {
		return errToken
	}
	return nil
}

// shut lets nobody in any more, and sends away who has not said who it is.
func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lock()
}

func (d *door) lock() {
	d.closed = true
	d.listener.Close() // closed already, or now
	for _, conn := range d.inside {
		conn.Close()
	}
}

// close shuts the door and waits until nobody is in it.
func (d *door) close() {
	d.shut()
	d.all.Wait()
	select {
	case conn := <-d.arrived: // too late
		conn.Close()
	default:
	}
}

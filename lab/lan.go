// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
)

// LAN is an Ethernet between guests, inside this program: every frame goes to every
// other guest, as on one cable. A guest can be cut off, and joined again.
type LAN struct {
	names []string

	mu    sync.Mutex
	plugs map[string]*plug
	cut   map[string]bool
}

// plug is one guest's end.
type plug struct {
	conn net.Conn
	out  chan []byte
}

// NewLAN makes a network of hosts of these names: the first is 10.0.3.1, the next
// 10.0.3.2. They know each other by name.
func NewLAN(names ...string) *LAN {
	return &LAN{names: names, plugs: make(map[string]*plug), cut: make(map[string]bool)}
}

func (l *LAN) address(name string) string {
	i := slices.Index(l.names, name)
	if i < 0 {
		return ""
	}
	return fmt.Sprintf("10.0.3.%d", i+1)
}

func (l *LAN) mac(name string) string {
	return fmt.Sprintf("52:54:00:4b:64:%02x", slices.Index(l.names, name)+1)
}

// Cut takes a guest off the cable, as if it were pulled out: nothing goes to it or
// comes from it, and nobody is told.
func (l *LAN) Cut(name string) { l.set(name, true) }

// Join puts it back.
func (l *LAN) Join(name string) { l.set(name, false) }

func (l *LAN) set(name string, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut[name] = cut
}

const (
	frameSize = 68 << 10 // QEMU's own bound is 68 KiB and some: offloads are on
	backlog   = 1024     // frames that wait for a guest; more are lost, as on a switch
)

// plug is the descriptor for QEMU: a stream of frames, each after its length.
func (l *LAN) plug(name string) (*os.File, error) {
	conn, file, err := socketPair()
	if err != nil {
		return nil, err
	}
	p := &plug{conn: conn, out: make(chan []byte, backlog)}
	l.mu.Lock()
	l.plugs[name] = p
	l.mu.Unlock()
	go p.send()
	go l.receive(name, p)
	return file, nil
}

// receive hands on what a guest sends, until its QEMU is gone.
func (l *LAN) receive(name string, p *plug) {
	defer func() {
		l.mu.Lock()
		if l.plugs[name] == p {
			delete(l.plugs, name)
		}
		close(p.out) // nobody else knows it any more
		l.mu.Unlock()
	}()
	r := bufio.NewReaderSize(p.conn, 2*frameSize)
	for {
		var length [4]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(length[:])
		if n > 2*frameSize {
			return // no frame: what follows cannot be made out
		}
		frame := make([]byte, 4+n)
		copy(frame, length[:])
		if _, err := io.ReadFull(r, frame[4:]); err != nil {
			return
		}
		l.deliver(name, frame)
	}
}

func (l *LAN) deliver(from string, frame []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut[from] {
		return
	}
	for name, p := range l.plugs {
		if name == from || l.cut[name] {
			continue
		}
		select {
		case p.out <- frame:
		default:
		}
	}
}

// send writes to the guest until its end is closed.
func (p *plug) send() {
	defer p.conn.Close()
	for frame := range p.out {
		if _, err := p.conn.Write(frame); err != nil {
			break // the reader sees the same end
		}
	}
	for range p.out {
	}
}

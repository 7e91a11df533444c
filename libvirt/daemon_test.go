// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	rpc "github.com/digitalocean/go-libvirt"
)

// daemon speaks libvirt's protocol (src/remote/remote_protocol.x, src/rpc/
// virnetprotocol.x) as far as this package does, with domains that a test makes.
type daemon struct {
	uri string

	mu      sync.Mutex
	domains []*kept
	deaf    bool          // it answers no more
	move    chan *refusal // how a migration ends; nil: it succeeds
	moving  bool
	asked   map[string]string // of a migration: its parameters
	flags   rpc.DomainMigrateFlags
	stats   map[string]uint64 // of a job
	aborted bool

	listener net.Listener
	conns    []net.Conn
}

// kept is a domain there.
type kept struct {
	name, uuid    string
	state         rpc.DomainState
	reason        int32
	xml, inactive string // inactive empty: it is not defined for good
}

type refusal struct {
	code rpc.ErrorNumber
	text string
}

// program and the numbers of its procedures.
const (
	program = 0x20008086

	procOpen, procDefine, procXML, procByName, procByUUID, procAuth = 1, 11, 14, 23, 24, 66
	procPersistent, procAbort, procState, procList, procStats       = 151, 164, 212, 273, 298
	procMigrate, procListen, procEvent                              = 305, 316, 318
)

func newDaemon(t *testing.T, domains ...*kept) *daemon {
	t.Helper()
	name := filepath.Join(t.TempDir(), "sock")
	d := &daemon{domains: domains, uri: "qemu+unix:///system?socket=" + name, move: make(chan *refusal, 1)}
	var err error
	if d.listener, err = net.Listen("unix", name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.hangUp)
	go func() {
		for {
			conn, err := d.listener.Accept()
			if err != nil {
				return
			}
			d.mu.Lock()
			d.conns = append(d.conns, conn)
			d.mu.Unlock()
			go d.serve(conn)
		}
	}()
	return d
}

// hangUp ends every connection, and with the test also the listener.
func (d *daemon) hangUp() {
	d.listener.Close()
	d.cut()
}

func (d *daemon) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	cut(d.conns)
}

func cut(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

// tell sends an event of a domain to everybody.
func (d *daemon) tell(k *kept, event, detail uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	body, head := new(xdr), new(xdr)
	body.numbers(7)
	body.domain(k)
	body.numbers(event, detail)
	head.numbers(uint32(28+body.Len()), program, 1, procEvent, 2, 0, 0)
	for _, c := range d.conns {
		c.Write(append(head.Bytes(), body.Bytes()...)) // who hung up hears nothing
	}
}

func (d *daemon) serve(conn net.Conn) {
	var write sync.Mutex
	for {
		var head struct {
			Length, Program, Version, Procedure, Type, Serial, Status uint32
		}
		if binary.Read(conn, binary.BigEndian, &head) != nil || head.Program != program || head.Length < 28 || head.Length > 4<<20 {
			return
		}
		body := make([]byte, head.Length-28)
		if _, err := io.ReadFull(conn, body); err != nil {
			return
		}
		go func() {
			out := new(xdr)
			refused := d.answer(head.Procedure, &xdr{*bytes.NewBuffer(body)}, out)
			d.mu.Lock()
			deaf := d.deaf
			d.mu.Unlock()
			if deaf {
				return
			}
			status := uint32(0)
			if refused != nil {
				status, out = 1, new(xdr)
				out.numbers(uint32(refused.code), 10, 1)
				out.text(refused.text)
				out.numbers(2, 0, 0, 0, 0, 0, 0, 0)
			}
			write.Lock()
			defer write.Unlock()
			reply := new(xdr)
			reply.numbers(uint32(28+out.Len()), head.Program, head.Version, head.Procedure, 1, head.Serial, status)
			conn.Write(append(reply.Bytes(), out.Bytes()...)) // who hung up needs no answer
		}()
	}
}

func (d *daemon) find(is func(*kept) bool) (*kept, *refusal) {
	for _, k := range d.domains {
		if is(k) {
			return k, nil
		}
	}
	return nil, &refusal{rpc.ErrNoDomain, "Domain not found\n"}
}

// named takes a domain from a call.
func (d *daemon) named(in *xdr) (*kept, *refusal) {
	name := in.string()
	in.Next(20)
	return d.find(func(k *kept) bool { return k.name == name })
}

func (d *daemon) answer(proc uint32, in, out *xdr) *refusal {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch proc {
	case procAuth:
		out.numbers(1, 0)
	case procOpen:
	case procList:
		out.numbers(uint32(len(d.domains)))
		for _, k := range d.domains {
			out.domain(k)
		}
		out.numbers(uint32(len(d.domains)))
	case procByName, procByUUID:
		name := ""
		if proc == procByName {
			name = in.string()
		} else {
			name = hex.EncodeToString(in.Next(16))
		}
		k, refused := d.find(func(k *kept) bool { return name == k.name || name == strings.ReplaceAll(k.uuid, "-", "") })
		if refused == nil {
			out.domain(k)
		}
		return refused
	case procState:
		k, refused := d.named(in)
		if refused == nil {
			out.numbers(uint32(k.state), uint32(k.reason))
		}
		return refused
	case procXML:
		k, refused := d.named(in)
		if refused == nil && in.number()&uint32(rpc.DomainXMLInactive) != 0 && k.inactive != "" {
			out.text(k.inactive)
		} else if refused == nil {
			out.text(k.xml)
		}
		return refused
	case procPersistent:
		k, refused := d.named(in)
		if refused == nil && k.inactive != "" {
			out.numbers(1)
		} else if refused == nil {
			out.numbers(0)
		}
		return refused
	case procDefine:
		text := in.string()
		k, refused := d.find(func(k *kept) bool { return strings.Contains(text, k.uuid) })
		if refused == nil {
			k.inactive = text
			out.domain(k)
		}
		return refused
	case procStats:
		if _, refused := d.named(in); refused != nil {
			return refused
		}
		completed := in.number() != 0
		switch {
		case d.moving:
			out.numbers(uint32(rpc.DomainJobUnbounded))
		case completed:
			out.numbers(uint32(rpc.DomainJobCompleted))
		default: // libvirt says so of a domain without a job
			out.numbers(uint32(rpc.DomainJobNone), 0)
			return nil
		}
		out.numbers(uint32(len(d.stats)))
		for name, n := range d.stats {
			out.text(name)
			out.numbers(4, uint32(n>>32), uint32(n))
		}
	case procListen:
		out.numbers(7)
	case procAbort:
		d.aborted = true
		d.move <- &refusal{rpc.ErrOperationAborted, "operation aborted: canceled by client"}
	case procMigrate:
		return d.migrate(in, out)
	default:
		return &refusal{rpc.ErrNoSupport, "unknown"}
	}
	return nil
}

// migrate waits until the test says how it ends.
func (d *daemon) migrate(in, out *xdr) *refusal {
	k, refused := d.named(in)
	if refused != nil {
		return refused
	}
	d.asked = make(map[string]string)
	if in.number() == 1 {
		d.asked["to"] = in.string()
	}
	for range in.number() {
		name := in.string()
		in.number() // a string
		d.asked[name] = in.string()
	}
	in.string() // the cookie
	d.flags, d.moving = rpc.DomainMigrateFlags(in.number()), true
	d.mu.Unlock()
	refused = <-d.move
	d.mu.Lock()
	d.moving = false
	if refused == nil {
		k.state = rpc.DomainShutoff
		out.numbers(0)
	}
	return refused
}

// xdr is RFC 4506, as far as it is needed.
type xdr struct{ bytes.Buffer }

func (x *xdr) numbers(list ...uint32) {
	for _, n := range list {
		x.Write(binary.BigEndian.AppendUint32(nil, n))
	}
}

func (x *xdr) text(s string) {
	x.numbers(uint32(len(s)))
	x.WriteString(s)
	x.Write(make([]byte, -len(s)&3))
}

func (x *xdr) domain(k *kept) {
	x.text(k.name)
	id, err := hex.DecodeString(strings.ReplaceAll(k.uuid, "-", ""))
	if err != nil {
		panic(err)
	}
	x.Write(id)
	x.numbers(1)
}

func (x *xdr) number() uint32 { return binary.BigEndian.Uint32(x.Next(4)) }

func (x *xdr) string() string {
	n := int(x.number())
	s := string(x.Next(n))
	x.Next(-n & 3)
	return s
}

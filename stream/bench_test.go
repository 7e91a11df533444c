// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"hash/crc32"
	"hash/crc64"
	"io"
	"math"
	"math/big"
	"net"
	"runtime"
	"runtime/metrics"
	"syscall"
	"testing"
	"time"

	"kindred/host/mdev"
	"kindred/host/vfio"
	"kindred/sim"

	"github.com/cespare/xxhash/v2"
)

// BenchmarkSum measures what 1 MiB costs with the sum that was chosen, and with
// what the standard library has.
func BenchmarkSum(b *testing.B) {
	const size = 1 << 20
	frame, to := payload(size), make([]byte, size)
	castagnoli, ecma := crc32.MakeTable(crc32.Castagnoli), crc64.MakeTable(crc64.ECMA)
	for _, c := range []struct {
		name string
		sum  func()
	}{
		{"XXH64", func() { xxhash.Sum64(frame) }},
		{"CRC-32C", func() { crc32.Checksum(frame, castagnoli) }},
		{"CRC-64", func() { crc64.Checksum(frame, ecma) }},
		{"SHA-256", func() { sha256.Sum256(frame) }},
		{"copy", func() { copy(to, frame) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				c.sum()
			}
		})
	}
}

// BenchmarkTLS moves 1 GiB over a TLS connection on the loopback, bare and as a
// stream, in turns, each on a connection of its own. Other work on the machine
// disturbs both, so the quickest of each counts: "of-bare" is the rate of the
// stream in the bare copy's, "cpu-of-bare" the same of processor time.
// "peak-MiB" is what memory grew by while the stream went through, both sides
// in one process.
func BenchmarkTLS(b *testing.B) {
	const size = 1 << 30
	config := serverConfig(b)
	src := newPattern(0)
	bare, recorded := never, never
	var peak uint64
	for b.Loop() {
		src.left = size
		bare = bare.least(transfer(b, config, func(w io.Writer) error {
			_, err := io.Copy(w, src)
			return err
		}, func(r io.Reader) (n int64, err error) {
			out := new(sink)
			_, err = io.Copy(out, r)
			return out.n, err
		}))
		src.left = size
		stop := watch()
		recorded = recorded.least(transfer(b, config, func(w io.Writer) error {
			s, err := NewWriter(w, about())
			if err != nil {
				return err
			}
			if _, err := io.Copy(s, src); err != nil {
				return err
			}
			return s.Close(nil)
		}, func(r io.Reader) (n int64, err error) {
			s, err := NewReader(r)
			if err != nil {
				return 0, err
			}
			out := new(sink)
			_, err = io.Copy(out, s)
			return out.n, err
		}))
		peak = max(peak, stop())
	}
	b.ReportMetric(float64(bare.wall)/float64(recorded.wall), "of-bare")
	b.ReportMetric(float64(bare.cpu)/float64(recorded.cpu), "cpu-of-bare")
	b.ReportMetric(size/recorded.wall.Seconds()/1e6, "MB/s")
	b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
}

// BenchmarkDeviceTLS is the same with a device at each end: the state of a
// simulated one is saved into a stream, and loaded into another from it.
func BenchmarkDeviceTLS(b *testing.B) {
	const size = 1 << 30
	config := serverConfig(b)
	src := newPattern(0)
	source, target := device(b, size), device(b, size)
	bare, moved := never, never
	var peak uint64
	for b.Loop() {
		src.left = size
		bare = bare.least(transfer(b, config, func(w io.Writer) error {
			_, err := io.Copy(w, src)
			return err
		}, func(r io.Reader) (n int64, err error) {
			out := new(sink)
			_, err = io.Copy(out, r)
			return out.n, err
		}))
		stop := watch()
		moved = moved.least(transfer(b, config, func(w io.Writer) error {
			s, err := NewWriter(w, about())
			if err != nil {
				return err
			}
			if _, err := vfio.Save(b.Context(), source, s, vfio.SaveOptions{}); err != nil {
				return err
			}
			if err := s.Close(nil); err != nil {
				return err
			}
			_, err = source.SetState(vfio.StateRunning)
			return err
		}, func(r io.Reader) (int64, error) {
			s, err := NewReader(r)
			if err != nil {
				return 0, err
			}
			loaded, err := vfio.Load(b.Context(), target, s, vfio.LoadOptions{})
			if err != nil {
				return 0, err
			}
			_, err = target.SetState(vfio.StateRunning)
			return loaded.Bytes, err
		}))
		peak = max(peak, stop())
	}
	b.ReportMetric(float64(bare.wall)/float64(moved.wall), "of-bare")
	b.ReportMetric(float64(bare.cpu)/float64(moved.cpu), "cpu-of-bare")
	b.ReportMetric(size/moved.wall.Seconds()/1e6, "MB/s")
	b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
}

// device is a simulated device with so much memory, open.
func device(b *testing.B, memory uint64) vfio.Device {
	driver, err := sim.Build("gen8")
	if err != nil {
		b.Fatal(err)
	}
	driver.Types[0].Memory = memory
	m, err := sim.New(sim.Setup{Name: "bench", Parents: []sim.Parent{{Name: "sim0", Driver: driver}}})
	if err != nil {
		b.Fatal(err)
	}
	id := sim.UUID("bench", 1)
	if err := mdev.Create(m, "sim0", "ksim-V4", id); err != nil {
		b.Fatal(err)
	}
	d, err := m.Open(id)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	return d
}

// cost is what a transfer took, of the clock and of the processors.
type cost struct{ wall, cpu time.Duration }

var never = cost{math.MaxInt64, math.MaxInt64}

func (c cost) least(d cost) cost { return cost{min(c.wall, d.wall), min(c.cpu, d.cpu)} }

// used is the processor time of this process so far.
func used(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// transfer is what size bytes cost from the first to the verdict.
func transfer(b *testing.B, config *tls.Config, send func(io.Writer) error, receive func(io.Reader) (int64, error)) cost {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	sent := make(chan error, 1)
	go func() {
		conn, err := tls.DialWithDialer(new(net.Dialer), "tcp", listener.Addr().String(), &tls.Config{RootCAs: config.RootCAs, ServerName: "loopback"})
		if err == nil {
			if err = send(conn); err == nil {
				err = conn.CloseWrite()
			}
			defer conn.Close()
		}
		sent <- err
	}()
	conn, err := listener.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*tls.Conn).Handshake(); err != nil {
		b.Fatal(err)
	}
	start, before := time.Now(), used(b)
	n, err := receive(conn)
	took := cost{time.Since(start), used(b) - before}
	if err != nil || n < 1<<30 {
		b.Fatal(n, err)
	}
	if err := <-sent; err != nil {
		b.Fatal(err)
	}
	return took
}

// watch samples the memory that Go holds, until it is stopped; it gives the
// most above what was held before.
func watch() func() uint64 {
	runtime.GC()
	idle := held()
	quit, done := make(chan struct{}), make(chan uint64)
	go func() {
		most := idle
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-tick.C:
				most = max(most, held())
			case <-quit:
				tick.Stop()
				done <- most - idle
				return
			}
		}
	}()
	return func() uint64 { close(quit); return <-done }
}

func held() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() + s[1].Value.Uint64() + s[2].Value.Uint64()
}

func serverConfig(b *testing.B) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"loopback"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		b.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: roots}
}

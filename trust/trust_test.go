// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// records is a store in memory.
type records struct {
	mu       sync.Mutex
	data     map[string][]byte
	revision map[string]int64
	last     int64
	broken   error
}

func newRecords() *records { return &records{data: map[string][]byte{}, revision: map[string]int64{}} }

func (r *records) Get(_ context.Context, key string) ([]byte, int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken != nil {
		return nil, 0, r.broken
	}
	if r.revision[key] == 0 {
		return nil, 0, fs.ErrNotExist
	}
	return r.data[key], r.revision[key], nil
}

func (r *records) Put(_ context.Context, key string, data []byte, revision int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.revision[key] != revision {
		return ErrChanged
	}
	r.last++
	r.data[key], r.revision[key] = data, r.last
	return nil
}

func newDesk(t *testing.T, cluster string) *Desk {
	t.Helper()
	key, err := ParseSealKey(NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	d := &Desk{Records: newRecords(), Key: key}
	if _, err := d.Begin(t.Context(), cluster, start); err != nil {
		t.Fatal(err)
	}
	return d
}

func token(t *testing.T, d *Desk, host string, now time.Time) string {
	t.Helper()
	tok, err := d.CreateToken(t.Context(), host, "admin:test", TokenLife, now)
	if err != nil {
		t.Fatal(err)
	}
	return tok.String()
}

func join(t *testing.T, d *Desk, text string, now time.Time) *Credentials {
	t.Helper()
	csr, c, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	i, err := d.Join(t.Context(), text, csr, now)
	if err == nil {
		err = c.Take(i)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestJoin: a token is for one host, one key and a short time.
func TestJoin(t *testing.T) {
	d := newDesk(t, "here")
	text := token(t, d, "web1", start)
	csr, c, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	first, err := d.Join(t.Context(), text, csr, start)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Take(first); err != nil {
		t.Fatal(err)
	}
	if who, err := c.Identity(); err != nil || who.String() != "host:web1" {
		t.Errorf("it is %v, %v", who, err)
	}
	if _, err := d.Join(t.Context(), text, csr, start.Add(time.Minute)); err != nil {
		t.Errorf("the answer was lost, and the same key is refused: %v", err)
	}

	other, _, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Join(t.Context(), text, other, start.Add(time.Minute)); !errors.Is(err, ErrTokenUsed) {
		t.Errorf("used with another key: %v", err)
	}
	if _, err := d.Join(t.Context(), text, csr, start.Add(TokenLife)); !errors.Is(err, ErrTokenExpired) {
		t.Errorf("expired: %v", err)
	}
	stale := token(t, d, "web2", start)
	if _, err := d.Join(t.Context(), stale, other, start.Add(TokenLife)); !errors.Is(err, ErrTokenExpired) {
		t.Errorf("expired and not used: %v", err)
	}
	foreign := token(t, newDesk(t, "there"), "web3", start)
	if _, err := d.Join(t.Context(), foreign, other, start); !errors.Is(err, ErrTokenUnknown) {
		t.Errorf("another cluster's: %v", err)
	}

	// The same secret with another host's name.
	forged, err := ParseToken(token(t, d, "web4", start))
	if err != nil {
		t.Fatal(err)
	}
	forged.Host = "web1"
	if _, err := d.Join(t.Context(), forged.String(), other, start); err == nil || !strings.Contains(err.Error(), "for the host web4, and not for web1") {
		t.Errorf("a token made out to another host: %v", err)
	}
	for _, damaged := range []string{"", "kindred-join-1.", text[:len(text)-8], strings.Replace(text, "1.", "1.!", 1)} {
		if _, err := d.Join(t.Context(), damaged, csr, start); err == nil {
			t.Errorf("the damaged token %q was taken", damaged)
		}
	}
	if _, err := d.CreateToken(t.Context(), "../web", "", TokenLife, start); err == nil {
		t.Error("a host that is called ../web got a token")
	}
	if _, err := d.CreateToken(t.Context(), "web", "", 25*time.Hour, start); err == nil {
		t.Error("a token lives for more than a day")
	}
}

// TestJoinRace: of many that use one token at once, one gets a certificate.
func TestJoinRace(t *testing.T) {
	d := newDesk(t, "here")
	text := token(t, d, "web1", start)
	var wg sync.WaitGroup
	got := make(chan error, 16)
	for range cap(got) {
		wg.Go(func() {
			csr, _, err := NewRequest()
			if err == nil {
				_, err = d.Join(t.Context(), text, csr, start)
			}
			got <- err
		})
	}
	wg.Wait()
	close(got)
	won := 0
	for err := range got {
		if err == nil {
			won++
		} else if !errors.Is(err, ErrTokenUsed) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d certificates for one token", won)
	}
}

// TestRequests: nothing of a signing request counts but its key.
func TestRequests(t *testing.T) {
	d := newDesk(t, "here")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	asked, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "admin:root"}, DNSNames: []string{"kindred.example"},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	greedy := inPEM(asked)
	i, err := d.Join(t.Context(), token(t, d, "web1", start), greedy, start)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(i.Certificate))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != "host:web1" || len(cert.DNSNames) != 0 || cert.IsCA || len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("the certificate is for %s, %v, %v", cert.Subject, cert.DNSNames, cert.ExtKeyUsage)
	}

	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaRequest, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, weak)
	if err != nil {
		t.Fatal(err)
	}
	unsigned := bytes.Clone(asked)
	unsigned[len(unsigned)-1] ^= 1
	for name, csr := range map[string]string{"RSA": inPEM(rsaRequest), "a changed signature": inPEM(unsigned), "nothing": "", "a certificate": i.Certificate} {
		if _, err := d.Join(t.Context(), token(t, d, "web2", start), csr, start); err == nil {
			t.Errorf("%s was signed", name)
		}
	}
}

func inPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// TestSeal: what is stored says nothing without the key file.
func TestSeal(t *testing.T) {
	d := newDesk(t, "here")
	a, err := d.Authority(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := a.Seal(d.Key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(a.members[0].key)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, der[40:60]) {
		t.Error("the sealed authority has its key in it")
	}
	again, err := Unseal(d.Key, sealed)
	if err != nil || again.Cluster != "here" || Fingerprint(again.signer(start).cert) != Fingerprint(a.signer(start).cert) {
		t.Errorf("unsealed %v, %v", again, err)
	}
	other, err := ParseSealKey(NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Unseal(other, sealed); !errors.Is(err, ErrOtherKey) {
		t.Errorf("with another key: %v", err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		var before, after sealedBox
		if json.Unmarshal(sealed, &before) == nil && json.Unmarshal(changed, &after) == nil && reflect.DeepEqual(before, after) {
			continue // the last letter of base64 has bits that say nothing
		}
		if _, err := Unseal(d.Key, changed); err == nil {
			t.Errorf("changed at byte %d (%q), and unsealed", i, sealed[i])
		}
	}
}

func TestSealKeyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "d", "seal.key")
	if _, _, err := OpenSealKey(file, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
	first, made, err := OpenSealKey(file, true)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	again, made, err := OpenSealKey(file, true)
	if err != nil || made || again.id != first.id {
		t.Errorf("made again: %t, %v", made, err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenSealKey(file, true); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by a group: %v", err)
	}
}

// TestRenew: who it is comes from the connection; after two thirds it is time.
func TestRenew(t *testing.T) {
	d := newDesk(t, "here")
	c := join(t, d, token(t, d, "web1", start), start)
	if at := c.RenewAt(); at.Before(start.Add(Life*6/10)) || at.After(start.Add(Life*7/10)) {
		t.Errorf("renewed at %v of %v", at.Sub(start), Life)
	}
	who, err := c.Identity()
	if err != nil {
		t.Fatal(err)
	}
	csr, next, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	i, err := d.Renew(t.Context(), who, csr, c.RenewAt())
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Take(i); err != nil || !next.Expires().After(c.Expires()) {
		t.Errorf("renewed until %v, before %v: %v", next.Expires(), c.Expires(), err)
	}
	if err := c.Take(i); err == nil {
		t.Error("a certificate for another key was taken")
	}
	if err := d.Revoke(t.Context(), who.String(), Revocation{At: c.RenewAt(), Reason: "sold"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Renew(t.Context(), who, csr, c.RenewAt()); err == nil || !strings.Contains(err.Error(), "revoked at") || !strings.Contains(err.Error(), "sold") {
		t.Errorf("a revoked one was renewed: %v", err)
	}
	if _, err := d.Renew(t.Context(), Identity{Role: Server, Name: "a"}, csr, start); err == nil {
		t.Error("a server's was renewed")
	}
}

// TestRevoke: one certificate, all of an identity, and what comes after.
func TestRevoke(t *testing.T) {
	d := newDesk(t, "here")
	identity := func(c *Credentials) Identity {
		who, err := c.Identity()
		if err != nil {
			t.Fatal(err)
		}
		return who
	}
	one := identity(join(t, d, token(t, d, "web1", start), start))
	two := identity(join(t, d, token(t, d, "web1", start), start))
	if err := d.Revoke(t.Context(), one.Serial, Revocation{At: start}); err != nil {
		t.Fatal(err)
	}
	if _, ok := errors.AsType[*RevokedError](d.Check(t.Context(), one)); !ok || d.Check(t.Context(), two) != nil {
		t.Errorf("one: %v, two: %v", d.Check(t.Context(), one), d.Check(t.Context(), two))
	}
	if err := d.Revoke(t.Context(), "host:web1", Revocation{At: start.Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if d.Check(t.Context(), two) == nil {
		t.Error("all of the host were revoked, and two counts")
	}
	later := start.Add(time.Hour)
	if err := d.Check(t.Context(), identity(join(t, d, token(t, d, "web1", later), later))); err != nil {
		t.Errorf("it joined again later: %v", err)
	}
	d.Records.(*records).broken = errors.New("the store is away")
	if d.Check(t.Context(), identity(join0(t, later))) == nil {
		t.Error("it could not be found out, and counts")
	}
}

func join0(t *testing.T, now time.Time) *Credentials {
	d := newDesk(t, "here")
	return join(t, d, token(t, d, "web9", now), now)
}

// server answers one connection after the other with who asks.
func server(t *testing.T, s *Serving) (address string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", ServerTLS(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				c := conn.(*tls.Conn)
				if c.Handshake() != nil {
					return
				}
				state := c.ConnectionState()
				who, ok := Peer(&state)
				if !ok {
					_, _ = io.WriteString(c, "nobody")
					return
				}
				_, _ = io.WriteString(c, who.String())
			}()
		}
	}()
	return l.Addr().String()
}

func ask(t *testing.T, address string, config *tls.Config) (string, error) {
	t.Helper()
	if config.ServerName == "" {
		config.ServerName = "127.0.0.1"
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", address, config)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	data, err := io.ReadAll(conn)
	return string(data), err
}

func serving(t *testing.T, d *Desk, clock func() time.Time) *Serving {
	return &Serving{
		Name: "s1", Reach: []string{"127.0.0.1", "kindred.example"}, Now: clock,
		Authority: func() (*Authority, error) { return d.Authority(t.Context()) },
		Check:     func(who Identity) error { return d.Check(t.Context(), who) },
	}
}

// TestConnections: both sides want to see the other's certificate of the same
// cluster, in time, not revoked and of the right role.
func TestConnections(t *testing.T) {
	d, foreign := newDesk(t, "here"), newDesk(t, "there")
	now := start
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	at := server(t, serving(t, d, clock))
	mine := join(t, d, token(t, d, "web1", start), start)
	csr, admin, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := d.SignAdmin(t.Context(), "eve", csr, start)
	if err == nil {
		err = admin.Take(signed)
	}
	if err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]*Credentials{"host:web1": mine, "admin:eve": admin} {
		if got, err := ask(t, at, ClientTLS(c, clock)); err != nil || got != want {
			t.Errorf("%s is %q, %v", want, got, err)
		}
	}

	// Whom the token names is trusted, and nobody else; a client without
	// certificate is nobody.
	tok, err := ParseToken(token(t, d, "web2", start))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ask(t, at, JoinTLS(tok, "127.0.0.1", clock)); err != nil || got != "nobody" {
		t.Errorf("joining: %q, %v", got, err)
	}
	if _, err := ask(t, at, JoinTLS(tok, "other.example", clock)); !errors.Is(err, ErrForeignServer) {
		t.Errorf("called by another name: %v", err)
	}
	wrong, err := ParseToken(token(t, foreign, "web2", start))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, at, JoinTLS(wrong, "127.0.0.1", clock)); !errors.Is(err, ErrForeignServer) {
		t.Errorf("another cluster's token: %v", err)
	}

	theirs := join(t, foreign, token(t, foreign, "web1", start), start)
	if got, err := ask(t, at, ClientTLS(theirs, clock)); err == nil {
		t.Errorf("the client trusted another cluster's server, and is %q", got)
	}
	mixed := &Credentials{theirs.key, theirs.certificate, mine.authorities}
	if got, err := ask(t, at, ClientTLS(mixed, clock)); err == nil {
		t.Errorf("another cluster's certificate was taken: %q", got)
	}

	// A host's certificate serves nobody, also if the client trusts its authority.
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{
		Certificate: [][]byte{mine.certificate.Raw, mine.authorities[0].Raw}, PrivateKey: mine.key,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			c.Close()
		}
	}()
	for name, config := range map[string]*tls.Config{"admin": ClientTLS(admin, clock), "token": JoinTLS(tok, "127.0.0.1", clock)} {
		if _, err := ask(t, l.Addr().String(), config); err == nil {
			t.Errorf("%s took a host for a server", name)
		}
	}

	old := ClientTLS(mine, clock)
	old.MaxVersion, old.MinVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, err := ask(t, at, old); err == nil {
		t.Error("TLS 1.2 was taken")
	}
	who, err := mine.Identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Revoke(t.Context(), who.Serial, Revocation{At: start}); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(t, at, ClientTLS(mine, clock)); err == nil {
		t.Errorf("revoked, and is %q", got)
	}
	mu.Lock()
	now = start.Add(Life + time.Second)
	mu.Unlock()
	if got, err := ask(t, at, ClientTLS(admin, clock)); err == nil {
		t.Errorf("expired, and is %q", got)
	}
}

// TestRotation walks through a rotation day by day: a host that renews in time
// can connect at every moment, and the old authority is gone at the end.
func TestRotation(t *testing.T) {
	d := newDesk(t, "here")
	now := start
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	at := server(t, serving(t, d, clock))
	c := join(t, d, token(t, d, "web1", start), start)
	first, err := d.Authority(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := first.Fingerprints(start)[0]
	begun := start.Add(10 * 24 * time.Hour)
	rotated := false
	for day := range 100 {
		mu.Lock()
		now = start.Add(time.Duration(day) * 24 * time.Hour)
		mu.Unlock()
		if now.Equal(begun) {
			if _, err := d.Rotate(t.Context(), now); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Rotate(t.Context(), now); !errors.Is(err, ErrRotating) {
				t.Errorf("rotated twice: %v", err)
			}
		}
		if !now.Before(c.RenewAt()) {
			who, err := c.Identity()
			if err != nil {
				t.Fatal(err)
			}
			csr, next, err := NewRequest()
			if err != nil {
				t.Fatal(err)
			}
			i, err := d.Renew(t.Context(), who, csr, now)
			if err == nil {
				err = next.Take(i)
			}
			if err != nil {
				t.Fatal(err)
			}
			c = next
		}
		if got, err := ask(t, at, ClientTLS(c, clock)); err != nil || got != "host:web1" {
			t.Fatalf("day %d: %q, %v", day, got, err)
		}
		// Whoever joins on any day finds an authority of the token.
		tok, err := ParseToken(token(t, d, "web2", now))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ask(t, at, JoinTLS(tok, "127.0.0.1", clock)); err != nil {
			t.Fatalf("day %d: joining: %v", day, err)
		}
		a, err := d.Authority(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		trusted := a.Fingerprints(now)
		rotated = rotated || len(trusted) == 1 && trusted[0] != old
		if len(trusted) > 2 || rotated && trusted[0] == old {
			t.Fatalf("day %d: %q are trusted", day, trusted)
		}
	}
	if !rotated {
		t.Error("the old authority is still trusted after 100 days")
	}
	if _, err := d.Rotate(t.Context(), now); err != nil {
		t.Errorf("rotating again: %v", err)
	}
}

// TestCredentials: a file that its owner alone reads, replaced as a whole.
func TestCredentials(t *testing.T) {
	d := newDesk(t, "here")
	c := join(t, d, token(t, d, "web1", start), start)
	file := filepath.Join(t.TempDir(), "a", "agent.pem")
	if err := c.Write(file); err != nil {
		t.Fatal(err)
	}
	again, err := ReadCredentials(file)
	if err != nil || !again.key.Equal(c.key) || !again.certificate.Equal(c.certificate) || len(again.authorities) != 1 {
		t.Fatalf("%+v, %v", again, err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for n := range bytes.Count(data, []byte("-----BEGIN")) {
		blocks := bytes.SplitAfterN(data, []byte("-----END"), n+1)
		if _, err := ParseCredentials(bytes.Join(blocks[:n], nil)); err == nil {
			t.Errorf("the first %d blocks were taken for all", n)
		}
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadCredentials(file); err == nil {
		t.Error("a private key that all can read was taken")
	}
}

func TestNames(t *testing.T) {
	for _, good := range []string{"a", "web1", "web-1.example.org", "x_y", "3"} {
		if err := CheckName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "-a", "a-", "a/b", "a b", "a..b", "a:b", "ä", strings.Repeat("a", 254), "a\n"} {
		if CheckName(bad) == nil {
			t.Errorf("%q is a name", bad)
		}
	}
}

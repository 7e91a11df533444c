// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// expected is the certificate that credentials are of.
func expected(t *testing.T, c *Credentials) Expected {
	t.Helper()
	who, err := c.Identity()
	if err != nil {
		t.Fatal(err)
	}
	return Expected{Host: who.Name, Serial: who.Serial}
}

// meet lets one side connect to another, send a byte and get it back.
func meet(t *testing.T, serve, dial *tls.Config) error {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", serve)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.CopyN(c, c, 1) // the other side sees how it went
	}()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", l.Addr().String(), dial)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte{7}); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// TestAgents: two agents meet that expect one another's certificate, and no
// others do, whichever side is the wrong one.
func TestAgents(t *testing.T) {
	clock := func() time.Time { return start.Add(time.Hour) }
	desk := newDesk(t, "here")
	a, b, other := join(t, desk, token(t, desk, "a", start), start), join(t, desk, token(t, desk, "b", start), start), join(t, desk, token(t, desk, "other", start), start)
	again := join(t, desk, token(t, desk, "a", start), start) // the same host, another certificate
	elsewhere := newDesk(t, "elsewhere")
	foreign := join(t, elsewhere, token(t, elsewhere, "a", start), start)
	if err := meet(t, AgentServerTLS(b, expected(t, a), clock), AgentClientTLS(a, expected(t, b), clock)); err != nil {
		t.Fatal(err)
	}
	nobody := AgentClientTLS(a, expected(t, b), clock)
	nobody.GetClientCertificate = nil
	plain := AgentClientTLS(a, expected(t, b), clock)
	plain.NextProtos = nil
	asAdmin := func() *Credentials {
		csr, c, err := NewRequest()
		if err != nil {
			t.Fatal(err)
		}
		i, err := desk.SignAdmin(t.Context(), "a", csr, start)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Take(i); err != nil {
			t.Fatal(err)
		}
		return c
	}()
	late := func() time.Time { return start.Add(2 * Life) }
	for _, c := range []struct {
		name        string
		serve, dial *tls.Config
	}{
		{"another host's agent", AgentServerTLS(b, expected(t, a), clock), AgentClientTLS(other, expected(t, b), clock)},
		{"another certificate of the host", AgentServerTLS(b, expected(t, a), clock), AgentClientTLS(again, expected(t, b), clock)},
		{"of another cluster", AgentServerTLS(b, expected(t, foreign), clock), AgentClientTLS(foreign, expected(t, b), clock)},
		{"nobody", AgentServerTLS(b, expected(t, a), clock), nobody},
		{"an administrator of that name", AgentServerTLS(b, Expected{"a", expected(t, asAdmin).Serial}, clock), AgentClientTLS(asAdmin, expected(t, b), clock)},
		{"another protocol", AgentServerTLS(b, expected(t, a), clock), plain},
		{"no serial is known", AgentServerTLS(b, Expected{Host: "a"}, clock), AgentClientTLS(a, expected(t, b), clock)},
		{"expired", AgentServerTLS(b, expected(t, a), late), AgentClientTLS(a, expected(t, b), late)},
		{"the target is another host", AgentServerTLS(other, expected(t, a), clock), AgentClientTLS(a, expected(t, b), clock)},
		{"the target has another certificate", AgentServerTLS(again, expected(t, b), clock), AgentClientTLS(b, expected(t, a), clock)},
		{"the target is of another cluster", AgentServerTLS(foreign, expected(t, a), clock), AgentClientTLS(a, expected(t, foreign), clock)},
	} {
		if err := meet(t, c.serve, c.dial); err == nil {
			t.Errorf("%s: they met", c.name)
		}
	}
	// A server's certificate is no agent's.
	s := serving(t, desk, clock)
	s.Reach = []string{"127.0.0.1"}
	err := meet(t, ServerTLS(s), AgentClientTLS(a, Expected{"s", "1"}, clock))
	if err == nil || !strings.Contains(err.Error(), "the other end") && !strings.Contains(err.Error(), x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}.Error()) && !strings.Contains(err.Error(), "no application protocol") {
		t.Errorf("a server: %v", err)
	}
}

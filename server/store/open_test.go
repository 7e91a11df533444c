// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestRefusals: an operator is told what is wrong with an endpoint.
func TestRefusals(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	there, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	nobody := "http://" + there.LocalAddr().String() // the address is taken, and nobody listens
	picky := httptest.NewUnstartedServer(nil)
	picky.EnableHTTP2 = true // it speaks first, as etcd does
	picky.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	picky.StartTLS()
	defer picky.Close()
	pool := x509.NewCertPool()
	pool.AddCert(picky.Certificate())
	for _, c := range []struct {
		endpoint string
		tls      *tls.Config
		want     string
	}{
		{nobody, nil, "connection refused"},
		{"etcd-1:2379", nil, "no address such as"},
		{picky.URL, nil, "certificate signed by unknown authority"},
		{picky.URL, &tls.Config{RootCAs: pool}, "certificate required"},
		{picky.URL, &tls.Config{RootCAs: pool, Certificates: picky.TLS.Certificates}, ""},
	} {
		got := Existing{Endpoints: []string{c.endpoint}, TLS: c.tls}.refusals(t.Context(), time.Minute)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.endpoint, got, c.want)
		}
	}
}

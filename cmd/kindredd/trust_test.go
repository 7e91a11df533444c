// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kindred/api"
	"kindred/client"
	"kindred/trust"
)

// buffer is written by one and read by another.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.b.Write(p) }
func (b *buffer) String() string              { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

// serve runs the server until the test ends.
func serve(t *testing.T, dir string) (socket, https string) {
	t.Helper()
	socket = filepath.Join(dir, "s")
	log := new(buffer)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"serve", "--data-dir", filepath.Join(dir, "data"), "--socket", socket, "--listen", "127.0.0.1:0", "--reach", "127.0.0.1", "--seal-key", filepath.Join(dir, "seal.key"), "--catalogs", dir}, log, log)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != exitOK {
			t.Errorf("serve ended with %d: %s", code, log)
		}
	})
	for range 60 * 40 {
		if _, at, found := strings.Cut(log.String(), "listening on https://"); found && strings.Contains(at, "\n") {
			address, _, _ := strings.Cut(at, "\n")
			return "unix:" + socket, "https://" + address
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("the server does not listen: %s", log)
	return "", ""
}

// ours runs another of the program's commands.
func ours(t *testing.T, args ...string) (string, int) {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, &out, &errs)
	return out.String() + errs.String(), code
}

func with(t *testing.T, server string, c *trust.Credentials) *client.Client {
	t.Helper()
	one, err := client.New([]string{server}, trust.ClientTLS(c, time.Now))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(one.Close)
	return one
}

func joined(t *testing.T, server, token string) (*trust.Credentials, error) {
	t.Helper()
	tok, err := trust.ParseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	csr, c, err := trust.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	one, err := client.New([]string{server}, trust.JoinTLS(tok, "127.0.0.1", time.Now))
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	j, err := one.Join(t.Context(), &api.Join{Token: token, CSR: csr})
	if err != nil {
		return nil, err
	}
	return c, c.Take(&trust.Issued{Certificate: j.Certificate, Authorities: j.CA})
}

// TestTrust goes from the first start to a revoked agent, over real TLS.
func TestTrust(t *testing.T) {
	dir := t.TempDir()
	socket, https := serve(t, dir)
	if info, err := os.Stat(filepath.Join(dir, "seal.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the seal key: %v, %v", info, err)
	}
	token, code := ours(t, "token", "create", "--host", "web1", "--server", socket)
	if code != exitOK {
		t.Fatal(token)
	}
	agent, err := joined(t, https, token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := joined(t, https, token); !errors.Is(err, &api.Problem{Code: api.Unauthorized}) || !strings.Contains(err.Error(), "used already") {
		t.Errorf("the token was taken twice: %v", err)
	}

	mine := with(t, https, agent)
	forbidden, needed := &api.Problem{Code: api.Forbidden}, &api.Problem{Code: api.NeedReport}
	if _, err := mine.Alive(t.Context(), "web1", &api.Alive{Version: "x"}); !errors.Is(err, needed) {
		t.Errorf("its own host: %v", err)
	}
	if _, err := mine.Alive(t.Context(), "web2", &api.Alive{Version: "x"}); !errors.Is(err, forbidden) {
		t.Errorf("another host: %v", err)
	}
	for name, err := range map[string]error{
		"hosts":  second(mine.Hosts(t.Context())),
		"token":  second(mine.CreateToken(t.Context(), &api.TokenRequest{Host: "web3"})),
		"admin":  second(mine.CreateAdmin(t.Context(), &api.AdminRequest{Name: "web1"})),
		"revoke": mine.Revoke(t.Context(), &api.Revocation{What: "host:web2"}),
		"rotate": second(mine.RotateAuthority(t.Context())),
	} {
		if !errors.Is(err, forbidden) {
			t.Errorf("an agent may do this: %s: %v", name, err)
		}
	}

	csr, next, err := trust.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	j, err := mine.Rotate(t.Context(), &api.Rotation{CSR: csr})
	if err == nil {
		err = next.Take(&trust.Issued{Certificate: j.Certificate, Authorities: j.CA})
	}
	if err != nil || j.Name != "host:web1" {
		t.Fatalf("%+v, %v", j, err)
	}

	file := filepath.Join(dir, "eve.pem")
	if out, code := ours(t, "admin", "create", "eve", "--server", socket, "--file", file); code != exitOK {
		t.Fatal(out)
	}
	admin, err := trust.ReadCredentials(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := with(t, https, admin).Hosts(t.Context()); err != nil {
		t.Errorf("an administrator: %v", err)
	}

	if out, code := ours(t, "cert", "revoke", "host:web1", "--reason", "sold", "--server", socket); code != exitOK {
		t.Fatal(out)
	}
	if _, err := mine.Alive(t.Context(), "web1", &api.Alive{Version: "x"}); !errors.Is(err, &api.Problem{Code: api.Unauthorized}) {
		t.Errorf("revoked, on a connection that was open: %v", err)
	}
	if _, err := with(t, https, next).Alive(t.Context(), "web1", &api.Alive{Version: "x"}); err == nil || errors.Is(err, needed) {
		t.Errorf("revoked, and its renewed certificate: %v", err)
	}
	if out, code := ours(t, "authority", "rotate", "--server", socket); code != exitOK || !strings.Contains(out, "signs from") {
		t.Error(out)
	}
}

func second[T any](_ T, err error) error { return err }

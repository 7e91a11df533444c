// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"kindred/agent"
	"kindred/trust"
)

// TestRenew: after two thirds of its life a certificate is renewed, however
// often the server has to be asked, and kept before it is used.
func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, err := trust.ParseSealKey(trust.NewSealKey())
		if err != nil {
			t.Fatal(err)
		}
		desk := &trust.Desk{Records: newRecords(), Key: key}
		if _, err := desk.Begin(t.Context(), "here", time.Now()); err != nil {
			t.Fatal(err)
		}
		tok, err := desk.CreateToken(t.Context(), "web1", "", time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		csr, first, err := trust.NewRequest()
		if err != nil {
			t.Fatal(err)
		}
		issued, err := desk.Join(t.Context(), tok.String(), csr, time.Now())
		if err == nil {
			err = first.Take(issued)
		}
		if err != nil {
			t.Fatal(err)
		}
		who, err := first.Identity()
		if err != nil {
			t.Fatal(err)
		}
		file, asked, begun := filepath.Join(t.TempDir(), "agent.pem"), 0, time.Now()
		next, err := agent.Renew(t.Context(), first, func(ctx context.Context, csr string) (*trust.Issued, error) {
			if asked++; asked < 5 {
				return nil, errors.New("connection refused")
			}
			return desk.Renew(ctx, who, csr, time.Now())
		}, func(c *trust.Credentials) error { return c.Write(file) }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(begun); asked != 5 || waited < trust.Life/2 || waited > trust.Life*3/4 || !next.Expires().After(first.Expires()) {
			t.Errorf("asked %d times, after %v", asked, waited)
		}
		if kept, err := trust.ReadCredentials(file); err != nil || !kept.Expires().Equal(next.Expires()) {
			t.Errorf("kept %v, %v", kept, err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := agent.Renew(ended, next, nil, nil, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("ended: %v", err)
		}
	})
}

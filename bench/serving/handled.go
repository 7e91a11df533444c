// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serving

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Handled is how many answers to one kind of request a server counts by now, and
// how many of them took it no longer than so many seconds, of its own.
type Handled struct{ All, Within int64 }

// Handled asks the server's metrics. seconds is a bound of theirs, as they write it.
func (s *Server) Handled(ctx context.Context, request, seconds string) (Handled, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Plain+"/metrics", nil)
	if err != nil {
		return Handled{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return Handled{}, fmt.Errorf("ask for the server's metrics: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Handled{}, fmt.Errorf("ask for the server's metrics: %s", resp.Status)
	}
	return handled(resp.Body, request, seconds)
}

func handled(text io.Reader, request, seconds string) (h Handled, err error) {
	within := fmt.Sprintf(`kindred_request_seconds_bucket{request=%q,status="200",le=%q} `, request, seconds)
	all := fmt.Sprintf(`kindred_request_seconds_count{request=%q,status="200"} `, request)
	found := 0
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		for begin, to := range map[string]*int64{within: &h.Within, all: &h.All} {
			if n, ok := strings.CutPrefix(lines.Text(), begin); ok {
				found++
				if *to, err = strconv.ParseInt(n, 10, 64); err != nil {
					return h, fmt.Errorf("read the server's metrics: %w", err)
				}
			}
		}
	}
	if err := lines.Err(); err != nil || found == 2 {
		return h, err
	}
	return h, fmt.Errorf("the server's metrics do not say how many of %s took %s s", request, seconds)
}

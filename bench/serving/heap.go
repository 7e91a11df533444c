// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serving

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
)

// Heap is how much of the server's heap is alive, and how much of that was made
// by etcd or handed to it, as far as where it was made tells.
func (s *Server) Heap(ctx context.Context) (all, etcd int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Plain+"/debug/pprof/heap?gc=1&debug=1", nil)
	if err != nil {
		return 0, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the server's heap: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("ask for the server's heap: %s", resp.Status)
	}
	return heap(resp.Body)
}

// heap reads runtime/pprof's text of a heap: of some allocations, drawn by their
// size, how many are alive and where they were made, a line for each frame.
func heap(text io.Reader) (all, etcd int64, err error) {
	var rate, bytes float64
	counted := false
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		var count, size, made, madeSize float64
		switch {
		case strings.HasPrefix(line, "heap profile:"):
			if _, after, ok := strings.Cut(line, "@ heap/"); ok {
				_, err = fmt.Sscan(after, &rate)
			}
			if err != nil || rate <= 0 {
				return 0, 0, fmt.Errorf("read the server's heap: %q", line)
			}
			rate /= 2 // the runtime writes twice the mean
		case strings.HasPrefix(line, "#"):
			if !counted && strings.Contains(line, "\tgo.etcd.io/") {
				etcd, counted = etcd+int64(bytes), true
			}
		default:
			if n, _ := fmt.Sscanf(line, "%f: %f [%f: %f] @", &count, &size, &made, &madeSize); n < 4 {
				continue
			}
			bytes, counted = 0, false
			if count > 0 {
				bytes = size / (1 - math.Exp(-size/count/rate))
			}
			all += int64(bytes)
		}
	}
	return all, etcd, lines.Err()
}

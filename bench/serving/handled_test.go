// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serving

import (
	"strings"
	"testing"
)

func TestHandled(t *testing.T) {
	const text = `kindred_request_seconds_bucket{request="POST /v1/targets",status="200",le="0.005"} 7
kindred_request_seconds_bucket{request="POST /v1/targets",status="200",le="0.01"} 9
kindred_request_seconds_bucket{request="POST /v1/targets",status="404",le="0.01"} 99
kindred_request_seconds_count{request="POST /v1/targets",status="200"} 10
`
	got, err := handled(strings.NewReader(text), "POST /v1/targets", "0.01")
	if err != nil || got != (Handled{10, 9}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, ask := range [][2]string{{"POST /v1/joint", "0.01"}, {"POST /v1/targets", "0.02"}} {
		if got, err := handled(strings.NewReader(text), ask[0], ask[1]); err == nil {
			t.Errorf("%s: %+v", ask, got)
		}
	}
}

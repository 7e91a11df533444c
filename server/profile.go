// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/http"
	"net/http/pprof"
)

// profiles serves what this server spends its time and its memory on, to
// administrators, for go tool pprof.
func profiles() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := admin(r.Context()); err != nil {
			refuse(w, err)
			return
		}
		if r.PathValue("name") == "profile" {
			pprof.Profile(w, r)
			return
		}
		pprof.Index(w, r) // by the path, all but the processor's
	})
}

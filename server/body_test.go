// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"kindred/api"
	"kindred/server/store"
)

// TestGzipBody: what an agent sends compressed is taken and stored as it came,
// with what is not known here; what is none, or becomes too long, is refused.
func TestGzipBody(t *testing.T) {
	r := newRig(t, newMachine("a", 2), newMachine("b", 2))
	kept := r.open()
	s := r.start(kept)
	r.report(s, "a", "b") // the static part is known
	h := s.Handler()
	report := func(host, version string) []byte {
		rec, err := kept.Get(t.Context(), store.Key(store.Host, "a"))
		if err != nil {
			t.Fatal(err)
		}
		sent, err := decodeHost(rec)
		if err != nil {
			t.Fatal(err)
		}
		sent.Own.Host, sent.Version = host, version
		return append(bytes.TrimSuffix(encode(sent), []byte("}")), `,"newer":"yes"}`...)
	}
	put := func(host, encoding string, data []byte) (int, *api.Problem) {
		ask := httptest.NewRequest(http.MethodPut, strings.Replace(api.PathReport, "{name}", host, 1), bytes.NewReader(data))
		ask.Header.Set("Content-Type", "application/json")
		if encoding != "" {
			ask.Header.Set("Content-Encoding", encoding)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, ask.WithContext(WithIdentity(t.Context(), Identity{Name: api.AgentPrefix + host, Host: host})))
		p := new(api.Problem)
		if w.Code != http.StatusOK {
			if err := json.Unmarshal(w.Body.Bytes(), p); err != nil || w.Header().Get("Content-Type") != api.ProblemType {
				t.Errorf("%d %s %q: %v", w.Code, w.Header(), w.Body, err)
			}
		}
		return w.Code, p
	}

	zip := func(text []byte) []byte {
		var to bytes.Buffer
		z := gzip.NewWriter(&to)
		if _, err := z.Write(text); err != nil || z.Close() != nil {
			t.Fatal(err)
		}
		return to.Bytes()
	}

	zipped := zip(report("a", "v-gzip"))
	if code, p := put("a", api.Gzip, zipped); code != http.StatusOK {
		t.Fatalf("%d %v", code, p)
	}
	if rec, err := kept.Get(t.Context(), store.Key(store.Host, "a")); err != nil || !bytes.Equal(rec.Value, zipped) {
		t.Errorf("stored: %d bytes, %v; sent %d", len(rec.Value), err, len(zipped))
	}
	if code, p := put("b", "", report("b", "v-plain")); code != http.StatusOK {
		t.Fatalf("%d %v", code, p)
	}
	for host, version := range map[string]string{"a": "v-gzip", "b": "v-plain"} {
		if h := s.view.state(host); h.Version != version {
			t.Errorf("%s is known at %q", host, h.Version)
		}
	}

	long := zip(append(report("a", "v-long"), bytes.Repeat([]byte(" "), api.MaxStatic)...))
	for name, c := range map[string]struct {
		encoding string
		data     []byte
		code     api.Code
	}{
		"longer than it may be": {api.Gzip, long, api.TooBig},
		"long itself":           {api.Gzip, bytes.Repeat([]byte("x"), api.MaxStatic+1), api.TooBig},
		"no such encoding":      {"br", zipped, api.BadRequest},
		"not compressed":        {api.Gzip, report("a", "v-not"), api.BadRequest},
		"changed underway":      {api.Gzip, append(zipped[:len(zipped)-1:len(zipped)-1], ^zipped[len(zipped)-1]), api.BadRequest},
		"cut short":             {api.Gzip, zipped[:len(zipped)/2], api.BadRequest},
		"nothing":               {api.Gzip, nil, api.BadRequest},
	} {
		if code, p := put("a", c.encoding, c.data); code == http.StatusOK || p.Code != c.code {
			t.Errorf("%s: %d %v, want %s", name, code, p, c.code)
		}
	}
	if h := s.view.state("a"); h.Version != "v-gzip" {
		t.Errorf("a is known at %q", h.Version)
	}
}

// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kindred/api"
)

// serve answers every request with do, and counts them.
func serve(t *testing.T, do http.HandlerFunc) (address string, asked *[]string) {
	t.Helper()
	asked = new([]string)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.Header.Get(api.HeaderKey))
		do(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func refuse(code api.Code) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", api.ProblemType)
		w.WriteHeader(code.Status())
		json.NewEncoder(w).Encode(api.NewProblem(code, "as told"))
	}
}

func open(t *testing.T, addresses ...string) *Client {
	t.Helper()
	c, err := New(addresses, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestNext: the next server is asked when one is not there or has no store, with
// the same key; a refusal is an answer.
func TestNext(t *testing.T) {
	good, asked := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":"c"}`) })
	cut, cutAsked := serve(t, refuse(api.Unavailable))
	full, fullAsked := serve(t, refuse(api.NoRoom))

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
	gone := "http://" + there.LocalAddr().String() // taken, and nobody listens

	c := open(t, gone, cut, good)
	for range 2 {
		if claim, err := c.CreateClaim(t.Context(), "", &api.ClaimRequest{}); err != nil || claim.ID != "c" {
			t.Fatalf("%+v, %v", claim, err)
		}
	}
	if len(*asked) != 2 || len(*cutAsked) != 1 || (*asked)[0] != (*cutAsked)[0] || (*asked)[0] == "" || (*asked)[0] == (*asked)[1] {
		t.Errorf("keys: the one cut off %q, the good one %q", *cutAsked, *asked)
	}
	_, err = open(t, full, good).CreateClaim(t.Context(), "", &api.ClaimRequest{})
	if !errors.Is(err, &api.Problem{Code: api.NoRoom}) || len(*asked) != 2 || len(*fullAsked) != 1 {
		t.Errorf("a refusal: %v, and %d asked after it", err, len(*asked)-2)
	}
	_, err = open(t, gone, cut).Health(t.Context())
	if err == nil || !strings.Contains(err.Error(), "refused") || !errors.Is(err, &api.Problem{Code: api.Unavailable}) {
		t.Errorf("nobody answers: %v", err)
	}
	odd, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) })
	if _, err = open(t, odd).Health(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer of a Kindred server") {
		t.Errorf("something else answers: %v", err)
	}
}

// TestAddresses: what is no address is said at once.
func TestAddresses(t *testing.T) {
	for _, a := range []string{"", "fleet:7443", "ftp://fleet", "https://", "/run/kindred.sock"} {
		if _, err := New([]string{a}, nil); err == nil {
			t.Errorf("%q is taken for an address", a)
		}
	}
	name := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, `{"version":%q}`, r.URL.Path) })}
	go s.Serve(l)
	defer s.Close()
	if h, err := open(t, "unix:"+name).Health(t.Context()); err != nil || h.Version != api.PathHealth {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestNames: names with any character stay one part of the path.
func TestNames(t *testing.T) {
	var paths []string
	a, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.EscapedPath())
		fmt.Fprint(w, `{}`)
	})
	for _, name := range []string{"host-a", "a/b", "../x", "a{id}?b"} {
		if _, err := open(t, a).Host(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"/v1/hosts/host-a", "/v1/hosts/a%2Fb", "/v1/hosts/..%2Fx", "/v1/hosts/a%7Bid%7D%3Fb"}
	if !slices.Equal(paths, want) {
		t.Errorf("got %q, want %q", paths, want)
	}
}

// TestRead takes streams apart: comments, several lines of data, half an event.
func TestRead(t *testing.T) {
	var got []string
	n := 0
	text := ": quiet\n\nevent: a\nid: 7\ndata: 1\n\ndata: 2\ndata: 3\n\nevent: cut\ndata: 4\n"
	err := read(strings.NewReader(text), func() { n++ }, func(kind, data string) error {
		got = append(got, kind+"="+data)
		return nil
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) || fmt.Sprint(got) != "[a=1 =2\n3]" || n != 11 {
		t.Errorf("%q, %v, alive %d times", got, err, n)
	}
}

// silent is a connection to a server that says nothing more.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	from, to := io.Pipe()
	go func() {
		for range 3 {
			time.Sleep(silence - time.Second)
			io.WriteString(to, ": quiet\n\n")
		}
		<-r.Context().Done()
		to.CloseWithError(r.Context().Err())
	}()
	return &http.Response{StatusCode: http.StatusOK, Body: from, Request: r}, nil
}

// TestSilence: a stream lives as long as the server says something, and ends
// when it does not.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, "http://nobody")
		c.servers[0].http.Transport = silent{}
		begin := time.Now()
		err := c.Events(context.Background(), nil, 0, func(*api.Event) error { return nil })
		if d := time.Since(begin); !errors.Is(err, errSilent) || d != 3*(silence-time.Second)+silence {
			t.Errorf("%v after %s", err, d)
		}
	})
}

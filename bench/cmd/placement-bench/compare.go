// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"kindred/api"
	"kindred/bench/fleets"
	"kindred/bench/placement"
	"kindred/bench/serving"
	"kindred/fleet"
)

// questions are about the devices of one VM.
type questions struct {
	made   *fleets.Fleet
	server *serving.Server
	peer   *placement.Service
	http   *http.Client
	host   int // of the VM
	names  map[string]int
	answer bytes.Buffer // of the server, until the next question
}

// newQuestions takes a VM of two devices or more, where hosts differ: one that
// has many hosts to go to.
func newQuestions(made *fleets.Fleet, server *serving.Server, peer *placement.Service) (*questions, error) {
	q := &questions{made: made, server: server, peer: peer, http: new(http.Client), names: make(map[string]int)}
	for i := range made.Size.Hosts {
		q.names[fleets.Name(i)] = i
	}
	for i := 0; !made.Size.Plain; i++ {
		if i == made.Size.Hosts {
			return nil, errors.New("no host has two devices")
		}
		if len(made.Host(i).Devices) >= 2 {
			q.host = i
			break
		}
	}
	return q, nil
}

// ours is the question in our words.
func (q *questions) ours(n, limit int) (path string, body []byte, err error) {
	own := q.made.Host(q.host)
	var refs []string
	for _, d := range own.Devices[:n] {
		refs = append(refs, own.Host+"/"+d.ID)
	}
	if n == 1 {
		body, err = json.Marshal(api.TargetsRequest{Device: refs[0], Limit: limit})
		return api.PathTargets, body, err
	}
	body, err = json.Marshal(api.JointRequest{Devices: refs, Limit: limit})
	return api.PathJoint, body, err
}

// theirs is the question in Placement's words.
func (q *questions) theirs(n, limit int) (*placement.Question, error) {
	own := q.made.Host(q.host)
	out := &placement.Question{Limit: limit}
	for d := range n {
		out.Types = append(out.Types, own.Devices[d].Type)
		if q.made.Size.Plain {
			continue
		}
		makes, err := placement.Makes(q.made, q.host, d)
		if err != nil {
			return nil, err
		}
		out.Makes = append(out.Makes, makes)
	}
	return out, nil
}

// compare checks that both find the same hosts, and takes both's times in turns.
func (q *questions) compare(ctx context.Context, n, limit int) (*row, error) {
	ready, err := q.same(ctx, min(n, 2)) // more of them fill Placement's memory
	if err != nil {
		return nil, err
	}
	theirs, err := q.theirs(n, limit)
	if err != nil {
		return nil, err
	}
	path, body, err := q.ours(n, limit)
	if err != nil {
		return nil, err
	}
	out := &row{size: q.made.Size, devices: n, ready: ready}
	if len(theirs.Makes) > 0 {
		out.makes = len(theirs.Makes[0])
	}
	for spent := time.Duration(0); len(out.theirs) < 20 && spent < 5*time.Second; {
		begin := time.Now()
		if _, err := q.peer.Ask(ctx, theirs); err != nil {
			return nil, err
		}
		took := time.Since(begin)
		out.theirs, spent = append(out.theirs, took), spent+took
		for range 20 {
			begin := time.Now()
			if _, err := q.ask(ctx, path, body); err != nil {
				return nil, err
			}
			out.ours = append(out.ours, time.Since(begin))
		}
	}
	return out, nil
}

// same asks both for all candidates, and fails where they are not the same hosts.
func (q *questions) same(ctx context.Context, n int) (hosts int, err error) {
	theirs, err := q.theirs(n, 0)
	if err != nil {
		return 0, err
	}
	text, err := q.peer.Ask(ctx, theirs)
	if err != nil {
		return 0, err
	}
	a, _, err := placement.Hosts(text)
	if err != nil {
		return 0, err
	}
	delete(a, q.host) // Placement does not know where the VM is
	path, body, err := q.ours(n, 0)
	if err != nil {
		return 0, err
	}
	if text, err = q.ask(ctx, path, body); err != nil {
		return 0, err
	}
	var answer struct {
		Hosts []struct {
			Group fleet.Group `json:"group"`
			Host  string      `json:"host"`
		} `json:"hosts"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return 0, fmt.Errorf("read the server's answer: %w", err)
	}
	b := make(map[int]bool)
	for _, h := range answer.Hosts {
		if h.Group == fleet.Ready {
			b[q.names[h.Host]] = true
		}
	}
	if !maps.Equal(a, b) {
		return 0, fmt.Errorf("%d devices: Placement finds %d hosts, Kindred %d; only Placement: %v; only Kindred: %v", n, len(a), len(b), without(a, b), without(b, a))
	}
	if len(a) == 0 {
		return 0, errors.New("there is no host to go to: nothing is compared")
	}
	return len(a), nil
}

// without are some of the first that are not in the second.
func without(a, b map[int]bool) []string {
	var list []string
	for i := range a {
		if !b[i] {
			list = append(list, fleets.Name(i))
		}
	}
	slices.Sort(list)
	return list[:min(len(list), 5)]
}

func (q *questions) ask(ctx context.Context, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.server.Plain+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := q.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	defer resp.Body.Close()
	q.answer.Reset()
	if _, err := io.Copy(&q.answer, resp.Body); err != nil {
		return nil, fmt.Errorf("read the server's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server: %s: %.500s", resp.Status, &q.answer)
	}
	return q.answer.Bytes(), nil
}

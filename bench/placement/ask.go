// SPDX-License-Identifier: Apache-2.0

//go:build linux

package placement

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"kindred/bench/fleets"
	"kindred/fleet"
	"kindred/inventory"
)

// Question is where devices can go together, each as an instance of a type.
type Question struct {
	Types []inventory.TypeName
	Makes [][]int // for each, numbers of the makes of hosts that come into question; nil: every one
	Limit int     // how many candidates are listed; 0: all
}

// path is the question in Placement's words.
func (q *Question) path() string {
	values := make(url.Values)
	for i, t := range q.Types {
		group := strconv.Itoa(i + 1)
		values.Set("resources"+group, class(t)+":1")
		if q.Makes != nil {
			var list []string
			for _, n := range q.Makes[i] {
				list = append(list, trait(n))
			}
			values.Set("required"+group, "in:"+strings.Join(list, ","))
		}
	}
	if len(q.Types) > 1 {
		values.Set("group_policy", "none")
	}
	if q.Limit > 0 {
		values.Set("limit", strconv.Itoa(q.Limit))
	}
	return "/allocation_candidates?" + values.Encode()
}

// Ask asks and returns the answer as it is.
func (s *Service) Ask(ctx context.Context, q *Question) ([]byte, error) { return s.get(ctx, q.path()) }

func (s *Service) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.address+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Auth-Token", "admin")
	req.Header.Set("OpenStack-API-Version", "placement 1.39")
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask Placement: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read Placement's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask Placement: %s: %.500s", resp.Status, text)
	}
	return text, nil
}

// Hosts are the numbers of the hosts that an answer has candidates on, and how
// many candidates there are.
func Hosts(text []byte) (hosts map[int]bool, candidates int, err error) {
	var answer struct {
		Requests []struct {
			Allocations map[string]json.RawMessage `json:"allocations"`
		} `json:"allocation_requests"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, 0, fmt.Errorf("read Placement's answer: %w", err)
	}
	hosts = make(map[int]bool)
	for _, r := range answer.Requests {
		for id := range r.Allocations {
			number, _, _ := strings.Cut(id, "-")
			n, err := strconv.ParseInt(number, 16, 32)
			if err != nil {
				return nil, 0, fmt.Errorf("read Placement's answer: a provider %q that was not put in", id)
			}
			hosts[int(n)] = true
		}
	}
	return hosts, len(answer.Requests), nil
}

// Makes are the makes of hosts that a device can go to as an instance of its own
// type. Placement cannot say; Kindred is asked, about one idle host of each make.
func Makes(made *fleets.Fleet, host, device int) ([]int, error) {
	source := made.Inventory(host)
	hosts := []*inventory.Inventory{source}
	for n := range made.Statics {
		hosts = append(hosts, made.Idle(n, trait(n)))
	}
	f, err := fleet.New(made.Engine, hosts)
	if err != nil {
		return nil, err
	}
	s, err := f.Source(source.Host.Name + "/" + source.Devices[device].ID)
	if err != nil {
		return nil, err
	}
	list := []int{}
	for _, t := range f.Targets(s, fleet.Options{}).Hosts {
		if t.Group != fleet.Ready {
			continue
		}
		if t.Type != source.Devices[device].Type {
			return nil, fmt.Errorf("%s can go as %s: one class does not say that", source.Devices[device].ID, t.Type.Full())
		}
		n, err := strconv.Atoi(strings.TrimPrefix(t.Host, trait(0)[:len(trait(0))-1]))
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

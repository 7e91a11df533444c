// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kindred/api"
	"kindred/libvirt/domain"
	"kindred/vm"
	"kindred/vm/vmtest"
)

const (
	vmID    = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
	mdev    = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
	mdevVM  = "<domain><name>desk</name><uuid>" + vmID + "</uuid><devices><hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='" + mdev + "'/></source></hostdev></devices></domain>"
	vf      = "0000:41:02.1"
	vfVM    = "<domain><name>desk</name><uuid>" + vmID + "</uuid><devices><hostdev type='pci'><source><address domain='0' bus='0x41' slot='0x02' function='0x1'/></source></hostdev></devices></domain>"
	plainVM = "<domain><name>desk</name><uuid>" + vmID + "</uuid><devices><hostdev type='usb'/></devices></domain>"
)

// TestTake: what comes in, what was known of it, and what becomes of it.
func TestTake(t *testing.T) {
	refusal := func(code api.Code) error { return api.NewProblem(code, "as told") }
	for name, c := range map[string]struct {
		text  string
		fleet *vmtest.Fleet
		pass  bool

		want     string // what the domain has then; empty: it is refused, or left alone
		says     string // of a refusal
		said     string // to the server
		followed bool
		most     time.Duration // that libvirt waited
	}{
		"no device": {text: plainVM, fleet: &vmtest.Fleet{Down: func(string) error { return errors.New("asked") }}},
		"nothing of it is known": {
			text: mdevVM, fleet: &vmtest.Fleet{Takes: time.Second}, want: vmtest.OnTarget(mdev), said: "begin m1, hand-over m1", followed: true, most: 2 * time.Second},
		"a function":         {text: vfVM, fleet: new(vmtest.Fleet), says: "kindred vm migrate desk b"},
		"begun before":       {text: mdevVM, fleet: &vmtest.Fleet{Known: []*api.Migration{vmtest.Begun("x", api.Prepared, vmID, mdev, "b")}}, want: vmtest.OnTarget(mdev), said: "hand-over x", followed: true},
		"a function's owner": {text: vfVM, fleet: &vmtest.Fleet{Known: []*api.Migration{vmtest.Begun("x", api.Prepared, vmID, vf, "b")}}, want: "bus='0x99'", said: "hand-over x", followed: true},
		"or of its name":     {text: vfVM, fleet: &vmtest.Fleet{Known: []*api.Migration{vmtest.Begun("x", api.Prepared, "desk", vf, "b")}}, says: "begin on the source"},
		"by its name":        {text: mdevVM, fleet: &vmtest.Fleet{Known: []*api.Migration{vmtest.Begun("x", api.Prepared, "desk", mdev, "b")}}, want: vmtest.OnTarget(mdev), said: "hand-over x", followed: true},
		"for nobody":         {text: mdevVM, fleet: &vmtest.Fleet{Known: []*api.Migration{vmtest.Begun("x", api.Prepared, "", mdev, "b")}}, want: vmtest.OnTarget(mdev), said: "hand-over x", followed: true},
		"being prepared":     {text: mdevVM, fleet: &vmtest.Fleet{Takes: 3 * time.Second, Known: []*api.Migration{vmtest.Begun("x", api.Claimed, vmID, mdev, "b")}}, want: vmtest.OnTarget(mdev), said: "hand-over x", followed: true},
		"handed over":        {text: mdevVM, fleet: &vmtest.Fleet{Known: []*api.Migration{vmtest.Begun("x", api.HandedOver, vmID, mdev, "b")}}, want: vmtest.OnTarget(mdev), said: "hand-over x", followed: true},
		"in place already":   {text: strings.Replace(mdevVM, mdev, vmtest.OnTarget(mdev), 1), fleet: &vmtest.Fleet{Known: []*api.Migration{vmtest.Begun("x", api.HandedOver, vmID, mdev, "b")}}, want: vmtest.OnTarget(mdev), said: "hand-over x", followed: true},
		// The same address is another device on another host.
		"another one's function": {text: vfVM, fleet: &vmtest.Fleet{Known: []*api.Migration{vmtest.Begun("x", api.Prepared, "other", vf, "b")}}, says: "begin on the source"},
		"to another host":        {text: mdevVM, fleet: &vmtest.Fleet{Known: []*api.Migration{vmtest.Begun("x", api.Aborting, vmID, mdev, "c")}}, want: vmtest.OnTarget(mdev), said: "begin m2, hand-over m2", followed: true},
		"claimed before": {text: mdevVM, fleet: &vmtest.Fleet{Claimed: []api.Claim{{ID: "c1", State: api.Held, Target: "b", Owner: "desk", Devices: []api.ClaimDevice{{Source: mdev}}}}},
			want: vmtest.OnTarget(mdev), said: "begin m1, hand-over m1", followed: true},
		"given up a moment ago": {text: mdevVM, fleet: &vmtest.Fleet{Takes: 2 * time.Second, Known: []*api.Migration{vmtest.Begun("x", api.Aborting, vmID, mdev, "b")}},
			want: vmtest.OnTarget(mdev), said: "begin m2, hand-over m2", followed: true, most: 10 * time.Second},
		"not seen running yet": {text: mdevVM, fleet: &vmtest.Fleet{Refusals: []error{refusal(api.NotInUse), refusal(api.NotInUse), nil}},
			want: vmtest.OnTarget(mdev), said: "begin m1, hand-over m1", followed: true, most: 2 * time.Second},

		"no room":         {text: mdevVM, fleet: &vmtest.Fleet{Refusals: []error{refusal(api.NoRoom)}}, says: "as told"},
		"never in use":    {text: mdevVM, fleet: &vmtest.Fleet{Refusals: many(refusal(api.NotInUse))}, says: "as told", most: vm.Patience + time.Second},
		"it arrived":      {text: mdevVM, fleet: &vmtest.Fleet{Takes: time.Hour, Known: []*api.Migration{vmtest.Begun("x", api.Completing, vmID, mdev, "b")}}, says: "run on b already"},
		"cannot be made":  {text: mdevVM, fleet: &vmtest.Fleet{Takes: time.Second, Fails: "no bus"}, says: "no bus", said: "begin m1"},
		"not in time":     {text: mdevVM, fleet: &vmtest.Fleet{Takes: time.Hour}, says: "in time", said: "begin m1, abort m1", most: time.Minute},
		"nor another's":   {text: mdevVM, fleet: &vmtest.Fleet{Takes: time.Hour, Known: []*api.Migration{vmtest.Begun("x", api.Claimed, vmID, mdev, "b")}}, says: "in time", most: time.Minute},
		"no server":       {text: mdevVM, fleet: &vmtest.Fleet{Down: func(string) error { return vmtest.ErrDown }}, says: "connection refused", most: vm.Patience + 2*time.Second},
		"no store":        {text: mdevVM, fleet: &vmtest.Fleet{Down: func(string) error { return refusal(api.Unavailable) }}, says: "no server answers", most: vm.Patience + 2*time.Second},
		"passed":          {text: mdevVM, pass: true, fleet: &vmtest.Fleet{Down: func(string) error { return vmtest.ErrDown }}, most: vm.Patience + 2*time.Second},
		"but not refused": {text: mdevVM, pass: true, fleet: &vmtest.Fleet{Refusals: []error{refusal(api.NoRoom)}}, says: "as told"},
		"lost in the end": {text: mdevVM, fleet: &vmtest.Fleet{Down: func(what string) error {
			if what == "hand-over" || what == "abort" {
				return vmtest.ErrDown
			}
			return nil
		}}, says: "connection refused", said: "begin m1", followed: true, most: time.Minute},
		"no domain": {text: "<network/>", fleet: new(vmtest.Fleet), says: "instead of <domain>"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				for _, m := range c.fleet.Known {
					m.Changed, m.Deadline = time.Now(), time.Now().Add(time.Hour)
				}
				var followed []*Move
				h := &Hook{Host: "b", Fleet: c.fleet, Unreachable: Refuse, Moves: &Moves{dir}, Warn: func(err error) { t.Log(err) }}
				h.Follow = func(m *Move) error { followed = append(followed, m); return nil }
				if c.pass {
					h.Unreachable = Pass
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				begin := time.Now()
				out, err := h.Take(ctx, []byte(c.text))
				if waited := time.Since(begin); waited > max(c.most, time.Minute/10) {
					t.Errorf("libvirt waited %s", waited)
				}
				if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %q", err, c.says)
				}
				if said := strings.Join(c.fleet.Said, ", "); said != c.said {
					t.Errorf("it said %q, want %q", said, c.said)
				}
				if (c.want == "") != (out == nil) || !strings.Contains(string(out), c.want) {
					t.Errorf("it is %q now, want %q", out, c.want)
				}
				if doc, err := domain.Parse(out); c.want != "" && (err != nil || len(doc.Hostdevs) != 1) {
					t.Errorf("%+v, %v", doc, err)
				}
				left, err := h.Moves.List()
				if err != nil || (len(followed) == 1) != c.followed || len(left) != len(followed) {
					t.Errorf("%d followers, and on the disk %d; %v", len(followed), len(left), err)
				}
				for _, m := range left {
					if fmt.Sprint(*m) != fmt.Sprint(*followed[0]) || m.Domain != vmID || m.Name != "desk" || len(m.Devices) != 1 {
						t.Errorf("on the disk is %+v", m)
					}
				}
			})
		})
	}
}

func many(err error) (list []error) {
	for range 1000 {
		list = append(list, err)
	}
	return list
}

// TestClaimed: a claim that was made for the VM is used as it is.
func TestClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		claim := func(id string, state api.ClaimState, target, owner string) api.Claim {
			return api.Claim{ID: id, State: state, Target: target, Owner: owner, Devices: []api.ClaimDevice{{Source: vf}}}
		}
		f := &vmtest.Fleet{Claimed: []api.Claim{claim("ended", api.Ended, "b", "desk"), claim("other", api.Held, "b", "chair"), claim("elsewhere", api.Held, "c", "desk"), claim("it", api.Held, "b", vmID)}}
		p := &vm.Preparation{Fleet: f, Target: "b", Guest: &vm.Guest{Name: "desk", UUID: vmID, Devices: []vm.Device{{ID: vf}}}}
		m, ours, err := p.Prepare(t.Context())
		if err != nil || !ours || m.Claim != "it" {
			t.Errorf("%+v, %v, %v", m, ours, err)
		}
	})
}

// TestMoves: a move has one follower at a time, and none when it is over.
func TestMoves(t *testing.T) {
	s := &Moves{t.TempDir() + "/new"}
	if list, err := s.List(); len(list) > 0 || err != nil {
		t.Fatalf("%v, %v", list, err)
	}
	for _, bad := range []string{"", "../x", "a/b", "A"} {
		if err := s.Write(&Move{Migration: bad}); err == nil {
			t.Errorf("%q is taken for a name", bad)
		}
	}
	m := &Move{Migration: "x1", Name: "desk"}
	if err := s.Write(m); err != nil {
		t.Fatal(err)
	}
	held, release, err := s.Hold("x1")
	if err != nil || held.Name != "desk" {
		t.Fatalf("%+v, %v", held, err)
	}
	if _, _, err := s.Hold("x1"); !errors.Is(err, ErrFollowed) {
		t.Errorf("a second one: %v", err)
	}
	release()
	_, again, err := s.Hold("x1")
	if err != nil {
		t.Fatalf("after the first: %v", err)
	}
	again()
	if err := errors.Join(s.Remove(m), s.Remove(m)); err != nil {
		t.Error(err)
	}
	if list, err := s.List(); len(list) > 0 || err != nil {
		t.Fatalf("%v, %v", list, err)
	}
}

// TestConfig: what operators may say.
func TestConfig(t *testing.T) {
	c, err := ParseConfig([]byte("deadline: 90s\nunreachable: pass\nservers: [\"https://fleet:7443\"]\n"))
	if err != nil || c.Deadline != 90*time.Second || c.Unreachable != Pass || len(c.Servers) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := ReadConfig(t.TempDir() + "/none"); err != nil || c.Deadline != time.Minute || c.Unreachable != Refuse {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{"deadline: soon", "deadline: 60", "deadline: 2h", "deadline: 0s", "unreachable: maybe", "patience: 3s"} {
		if c, err := ParseConfig([]byte(bad)); err == nil {
			t.Errorf("%q is %+v", bad, c)
		}
	}
}

// TestCrossed: functions that are called on the target as others are on the source.
func TestCrossed(t *testing.T) {
	const other = "0000:41:02.2"
	both := strings.Replace(vfVM, "</devices>", "<hostdev type='pci'><source><address domain='0' bus='0x41' slot='0x02' function='0x2'/></source></hostdev></devices>", 1)
	for state, says := range map[api.MigrationState]string{api.Prepared: "", api.HandedOver: "cannot be told"} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			m := vmtest.Begun("x", state, vmID, vf, "b")
			m.Devices = []api.MigrationDevice{{Source: vf, Target: other}, {Source: other, Target: vf}}
			var move *Move
			h := &Hook{Host: "b", Fleet: &vmtest.Fleet{Known: []*api.Migration{m}}, Moves: &Moves{dir}, Warn: func(err error) { t.Log(err) }}
			h.Follow = func(m *Move) error { move = m; return nil }
			out, err := h.Take(t.Context(), []byte(both))
			if (err != nil) != (says != "") || err != nil && !strings.Contains(err.Error(), says) {
				t.Fatalf("%s: %v, want %q", state, err, says)
			}
			if err != nil {
				return
			}
			doc, err := domain.Parse(out)
			if err != nil || doc.Hostdevs[0].Device != other || doc.Hostdevs[1].Device != vf {
				t.Errorf("they are %+v, %v", doc, err)
			}
			// Whether a definition has them could not be told: it is left as it is.
			libvirt := &stage{begin: time.Now(), acts: []act{{phase: Arrived}}}
			f := &Follower{Domains: libvirt}
			if err := f.redefine(t.Context(), move); err == nil || libvirt.tries > 0 {
				t.Errorf("the definition was changed %d times, %v", libvirt.tries, err)
			}
		})
	}
}

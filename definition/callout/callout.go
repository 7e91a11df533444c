// SPDX-License-Identifier: Apache-2.0

// Package callout runs mdevctl's scripts: callouts, which can refuse what is
// about to be done to a device and know its attributes, and notifiers, which
// are told what was done.
//
// They are executable files in the directories callouts and notifiers of
// /usr/lib/mdevctl/scripts.d and of /etc/mdevctl.d/scripts.d, which mdevctl
// calls deprecated since 1.3.0 and has alone before that. Both are used, in
// this order, each by the names of its files. Each script is started with
//
//	-t TYPE -e EVENT -a ACTION -s STATE -u UUID -p PARENT
//
// and, for pre, post and live, the definition as JSON on its standard input.
// Exit code 2 means "not my type": the next callout is asked. Of the others
// the first one is the device's callout; one that answers get/capabilities
// (mdevctl 1.3.0) goes before all that do not. Every notifier runs.
//
// It promises:
//
//   - A script that hangs is ended, with all that it started, after [Deadline],
//     or after [GetDeadline] when it is only asked something; then it is not
//     asked again, also not for other devices: udev ends what its rules run
//     after three minutes. A pre callout that hangs has failed, and so it has
//     for those.
//   - A script that prints without end is ended; at most 1 MiB is kept. A pre
//     callout that does has failed, too.
//   - What scripts print on standard error is shown, and whose it is.
package callout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"kindred/definition"
)

// How long one script may run.
const (
	Deadline    = 60 * time.Second
	GetDeadline = 10 * time.Second // of get: it changes nothing
)

// directories are searched in this order, below the root.
var directories = [...]string{"usr/lib/mdevctl/scripts.d", "etc/mdevctl.d/scripts.d"}

// Action is what is done to a device.
type Action string

const (
	Start        Action = "start"
	Stop         Action = "stop"
	Define       Action = "define"
	Undefine     Action = "undefine"
	Modify       Action = "modify"
	attributes   Action = "attributes"
	capabilities Action = "capabilities"
)

// event is when a script runs.
type event string

const (
	pre    event = "pre"
	post   event = "post"
	notify event = "notify"
	get    event = "get"
	live   event = "live"
)

// state is how the action went, as far as it went.
type state string

const (
	stateNone    state = "none"
	stateSuccess state = "success"
	stateFailure state = "failure"
)

// Scripts are the scripts of one machine. The methods may be used at the same
// time.
type Scripts struct {
	callouts  []string // by directory, then by name
	notifiers []string
	limit     func(ctx context.Context, path string, e event) (context.Context, context.CancelFunc)
	show      func(text string)

	mu       sync.Mutex
	versions map[kind]func() (*script, error) // the versioned callout, or nil
	refused  map[string]bool                  // scripts that could not be started
	hung     map[hang]bool
}

// hang is a script that did not end. One that hangs when it is only asked
// something may still do what it is told.
type hang struct {
	path string
	get  bool
}

// kind is what a callout is chosen by.
type kind struct{ parent, typ string }

// Find lists the scripts below root. show is told what scripts print on
// standard error and what is wrong with them, one message at a time.
func Find(root string, show func(text string)) *Scripts {
	s := &Scripts{
		limit: limit, versions: make(map[kind]func() (*script, error)), refused: make(map[string]bool), hung: make(map[hang]bool),
	}
	s.show = func(text string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		show(text)
	}
	for _, dir := range directories {
		s.callouts = append(s.callouts, s.list(filepath.Join(root, dir, "callouts"))...)
		s.notifiers = append(s.notifiers, s.list(filepath.Join(root, dir, "notifiers"))...)
	}
	return s
}

// list is the files of a directory, by name. What is no file or may not be
// executed is passed over, as the kernel would refuse to start it.
func (s *Scripts) list(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.show(fmt.Sprintf("scripts cannot be listed: %v", err))
	}
	var files []string
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		files = append(files, name)
	}
	return files
}

// None reports whether there is no callout, so that nothing could be learned
// from one.
func (s *Scripts) None() bool { return len(s.callouts) == 0 }

// Device is what scripts are told of a device.
type Device struct {
	UUID, Parent, Type string
	Config             []byte // the definition on one line
}

// For is what scripts are told of a device with that definition.
func For(d *definition.Definition) Device {
	return Device{d.UUID, d.Parent, d.Type, d.Compact()}
}

// ErrRefused is returned when a callout does not allow an action.
var ErrRefused = errors.New("a callout does not allow it")

// Do does an action between the scripts it belongs to: first the pre callout,
// then do, then the post callout, and notifiers in any case. A pre callout
// that fails keeps do from being called, unless force is set; the others
// change nothing. The error is the pre callout's or do's.
func (s *Scripts) Do(ctx context.Context, action Action, dev Device, force bool, do func(*Call) error) error {
	c := &Call{scripts: s, dev: dev, state: stateNone}
	defer func() { s.notify(context.WithoutCancel(ctx), action, c) }()
	c.chosen, _ = s.versioned(ctx, dev)
	if _, err := c.run(ctx, pre, action); err != nil {
		if !force || ctx.Err() != nil {
			return err
		}
		s.show(fmt.Sprintf("%s is forced: %v", action, err))
	}
	err := do(c)
	c.state = stateSuccess
	if err != nil {
		c.state = stateFailure
	}
	if _, err := c.run(context.WithoutCancel(ctx), post, action); err != nil {
		s.show(fmt.Sprintf("after %s: %v", action, err))
	}
	return err
}

// Live asks the device's callout to change the running device. Only a
// versioned one that says it can is asked.
func (s *Scripts) Live(ctx context.Context, dev Device) error {
	c := &Call{scripts: s, dev: dev, state: stateNone}
	var err error
	if c.chosen, err = s.versioned(ctx, dev); err != nil {
		return err
	}
	if c.chosen == nil {
		return fmt.Errorf("no callout can modify a running device of type %s", dev.Type)
	}
	if !c.chosen.supports(live, Modify) {
		return fmt.Errorf("the callout %s cannot modify a running device", c.chosen.path)
	}
	defer func() { s.notify(context.WithoutCancel(ctx), Modify, c) }()
	_, err = c.run(ctx, live, Modify)
	return err
}

// Attributes asks the device's callout for the attributes of the running
// device. Without a callout there are none.
func (s *Scripts) Attributes(ctx context.Context, dev Device) ([]definition.Attribute, error) {
	c := &Call{scripts: s, dev: dev, state: stateNone}
	// With one script there is none that a versioned one would go before: it
	// is asked without asking first whether it is one.
	if len(s.callouts) > 1 {
		var err error
		if c.chosen, err = s.versioned(ctx, dev); err != nil {
			return nil, err
		}
	}
	return c.Attributes(ctx)
}

func (s *Scripts) notify(ctx context.Context, action Action, c *Call) {
	for _, path := range s.notifiers {
		out, err := s.start(ctx, path, notify, action, c, nil)
		s.printed(path, out)
		if err != nil {
			s.unstarted(path, err)
		}
	}
}

// silent reports whether a script is known to hang, and notes it when it does
// now.
func (s *Scripts) silent(path string, e event, now bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := hang{path, e == get}
	if now {
		s.hung[h] = true
	}
	return s.hung[h]
}

// unstarted says once that a script cannot be used.
func (s *Scripts) unstarted(path string, err error) {
	s.mu.Lock()
	said := s.refused[path]
	s.refused[path] = true
	s.mu.Unlock()
	if !said {
		s.show(fmt.Sprintf("the script %s: %v", path, err))
	}
}

// printed shows what a script printed on standard error.
func (s *Scripts) printed(path string, out result) {
	if len(out.stderr) > 0 {
		s.show(filepath.Base(path) + ": " + string(out.stderr))
	}
}

// script is a callout that was chosen for a device.
type script struct {
	path    string
	actions []Action
	events  []event
}

// unversioned is what a callout supports that did not say so.
func unversioned(path string) *script {
	return &script{path, []Action{Start, Stop, Define, Undefine, Modify, attributes}, []event{pre, post, notify, get}}
}

func (s *script) supports(e event, a Action) bool {
	return slices.Contains(s.events, e) && slices.Contains(s.actions, a)
}

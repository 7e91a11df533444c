// SPDX-License-Identifier: Apache-2.0

//go:build linux

package contention

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// asked is one operation on one target: to take room for some devices, or to
// give back what was taken.
type asked struct {
	target string
	give   bool
	wants  [2]int // devices of one unit, of two
	has    used   // what is given back
	place  int    // among all operations on the target, see [order]
}

// used are the units in use of each of a target's two parents.
type used [2]int

// answered is what came of it: where the room is, or that there was none.
type answered struct {
	full     bool
	place    used
	revision int64 // of the store, at which it was taken or given
}

// after is what is in use after an operation that takes or gives.
func (u used) after(in asked, out answered) used {
	if in.give {
		return used{u[0] - in.has[0], u[1] - in.has[1]}
	}
	return used{u[0] + out.place[0], u[1] + out.place[1]}
}

func (u used) sound() bool { return min(u[0], u[1]) >= 0 && max(u[0], u[1]) <= units }

// room is a target at one moment.
type room struct {
	used
	place int // of the last operation
}

// pool is what a target's room has to look like to everybody: units of two
// parents, taken and given one operation after the other, in the order that was
// found. There are too many ways to order some ten thousand operations of which
// dozens are under way at a time, to search for one that does.
var pool = porcupine.Model{
	Init: func() any { return room{} },
	Step: func(state, in, out any) (bool, any) {
		now, i, o := state.(room), in.(asked), out.(answered)
		next := room{now.used, i.place}
		if o.full {
			return next.place == now.place+1 && !fits(now.used, i.wants), next
		}
		next.used = now.used.after(i, o)
		return next.place == now.place+1 && next.sound(), next
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v: %+v", in, out) },
}

// order finds the order in which the operations on one target can have happened,
// one after the other. What took or gave room did so in the store's order. An
// answer that there was none belongs behind everything that had ended when it was
// asked for, before everything that began when it was given, and to a moment at
// which there was none: the first such moment leaves the most to those that come
// after. The error is an answer that was true at none.
func order(history []porcupine.Operation) ([]porcupine.Operation, error) {
	var changes, refusals []porcupine.Operation
	for _, op := range history {
		if op.Output.(answered).full {
			refusals = append(refusals, op)
		} else {
			changes = append(changes, op)
		}
	}
	slices.SortFunc(changes, func(a, b porcupine.Operation) int {
		return cmp.Compare(a.Output.(answered).revision, b.Output.(answered).revision)
	})
	slices.SortFunc(refusals, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	states := []used{{}} // after so many changes
	for _, op := range changes {
		states = append(states, states[len(states)-1].after(op.Input.(asked), op.Output.(answered)))
	}
	at := make([][]porcupine.Operation, len(states)) // refusals after so many changes
	for n, op := range refusals {
		from, to := 0, len(changes)
		for i, c := range changes {
			if c.Return < op.Call {
				from = i + 1
			}
			if c.Call > op.Return {
				to = min(to, i)
			}
		}
		for i := len(at) - 1; i > from; i-- {
			if slices.ContainsFunc(at[i], func(o porcupine.Operation) bool { return o.Return < op.Call }) {
				from = i
			}
		}
		for ; from <= to && fits(states[from], op.Input.(asked).wants); from++ {
		}
		if from > to {
			return nil, fmt.Errorf("refusal %d, %+v of client %d from %v to %v: there was room all the time", n, op.Input, op.ClientId, time.Duration(op.Call), time.Duration(op.Return))
		}
		at[from] = append(at[from], op)
	}
	var all []porcupine.Operation
	for i := range states {
		if i > 0 {
			all = append(all, changes[i-1])
		}
		all = append(all, at[i]...)
	}
	for i := range all {
		in := all[i].Input.(asked)
		in.place = i + 1
		all[i].Input = in
	}
	return all, nil
}

// linearizable says what of a history cannot be had by asking one after the other.
func linearizable(history []porcupine.Operation) error {
	by := make(map[string][]porcupine.Operation)
	for _, op := range history {
		target := op.Input.(asked).target
		by[target] = append(by[target], op)
	}
	for target, ops := range by {
		ordered, err := order(ops)
		if err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
		if got := porcupine.CheckOperationsTimeout(pool, ordered, 2*time.Minute); got != porcupine.Ok {
			return fmt.Errorf("%s: %d operations are linearizable: %s", target, len(ops), got)
		}
	}
	return nil
}

// fits reports whether there is a place for so many small and large devices.
func fits(now used, wants [2]int) bool {
	large := (units-now[0])/2 + (units-now[1])/2
	return wants[1] <= large && wants[0]+2*wants[1] <= 2*units-now[0]-now[1]
}

// TestModel: the model can say no.
func TestModel(t *testing.T) {
	one := func(in asked, out answered, from, to int64) porcupine.Operation {
		in.target = "t"
		return porcupine.Operation{Input: in, Output: out, Call: from, Return: to}
	}
	both, full := asked{wants: [2]int{1, 1}}, answered{full: true}
	take := func(large int) asked { return asked{wants: [2]int{0, large}} }
	give := asked{give: true, has: used{4, 0}}
	at := func(revision int64, a, b int) answered { return answered{place: used{a, b}, revision: revision} }
	for _, c := range []struct {
		name string
		ops  []porcupine.Operation
		want bool
	}{
		{"no more than there is", []porcupine.Operation{one(both, at(1, 3, 0), 1, 2), one(both, at(2, 3, 0), 3, 4)}, false},
		{"on the other parent", []porcupine.Operation{one(both, at(1, 3, 0), 1, 2), one(both, at(2, 0, 3), 3, 4)}, true},
		{"there was room", []porcupine.Operation{one(both, at(1, 3, 0), 1, 2), one(both, full, 3, 4)}, false},
		{"two halves are no whole", []porcupine.Operation{one(take(2), at(1, 4, 0), 1, 2), one(take(2), at(2, 0, 4), 3, 4), one(take(1), full, 5, 6)}, true},
		{"given back", []porcupine.Operation{one(take(2), at(1, 4, 0), 1, 2), one(give, answered{revision: 2}, 3, 4), one(take(4), full, 5, 6)}, false},
		{"at the same time", []porcupine.Operation{one(take(2), at(1, 4, 0), 1, 2), one(give, answered{revision: 2}, 3, 6), one(take(4), full, 4, 5)}, true},
		{"not in the store's order", []porcupine.Operation{one(take(1), at(2, 2, 0), 1, 2), one(take(1), at(1, 2, 0), 3, 4)}, false},
	} {
		if err := linearizable(c.ops); (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

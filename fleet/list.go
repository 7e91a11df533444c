// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"math"
	"slices"
)

// list is a sorted list that never changes: each change makes another one,
// which shares with it all but the piece concerned. Whoever reads the old one
// reads on undisturbed.
type list[T any] struct {
	pieces []*piece[T] // none is empty
	size   int
	order  func(a, b T) int
}

type piece[T any] struct{ items []T }

// A piece that grows beyond pieceMax is cut in two, in a short list earlier: a
// change copies one piece, and a word for each of the others.
const (
	pieceMin = 32
	pieceMax = 64
)

func pieceMost(size int) int {
	return min(max(int(math.Sqrt(float64(size))), pieceMin), pieceMax)
}

func newList[T any](order func(a, b T) int, sorted []T) list[T] {
	l := list[T]{order: order, size: len(sorted)}
	for part := range slices.Chunk(sorted, pieceMost(len(sorted))*3/4) {
		l.pieces = append(l.pieces, &piece[T]{slices.Clip(part)})
	}
	return l
}

// find returns the piece and place of the first item that is not before x.
func (l *list[T]) find(x T) (p, i int) {
	p, _ = slices.BinarySearchFunc(l.pieces, x, func(c *piece[T], x T) int { return l.order(c.items[len(c.items)-1], x) })
	if p == len(l.pieces) {
		return p, 0
	}
	i, _ = slices.BinarySearchFunc(l.pieces[p].items, x, l.order)
	return p, i
}

// get returns the item equal to x.
func (l *list[T]) get(x T) (item T, ok bool) {
	p, i := l.find(x)
	if p == len(l.pieces) || l.order(l.pieces[p].items[i], x) != 0 {
		return item, false
	}
	return l.pieces[p].items[i], true
}

// opened is a list of the same items that is nobody else's, so that put and drop
// may change it.
func (l list[T]) opened() list[T] {
	l.pieces = slices.Clone(l.pieces)
	return l
}

// with is the list with x in it, in the place of an equal item if there is one.
func (l list[T]) with(x T) list[T] {
	l = l.opened()
	l.put(x)
	return l
}

// without is the list without the item equal to x.
func (l list[T]) without(x T) list[T] {
	l = l.opened()
	l.drop(x)
	return l
}

// moved is the list without one item and with another.
func (l list[T]) moved(from, to T) list[T] {
	l = l.opened()
	l.drop(from)
	l.put(to)
	return l
}

// put and drop change a list that was opened. Pieces may be others' too: they are
// replaced, not changed.
func (l *list[T]) put(x T) {
	if len(l.pieces) == 0 {
		l.pieces, l.size = []*piece[T]{{[]T{x}}}, 1
		return
	}
	p, i := l.find(x)
	if p == len(l.pieces) {
		p--
		i = len(l.pieces[p].items)
	}
	old := l.pieces[p].items
	if i < len(old) && l.order(old[i], x) == 0 {
		items := slices.Clone(old)
		items[i] = x
		l.pieces[p] = &piece[T]{items}
		return
	}
	l.size++
	items := make([]T, 0, len(old)+1)
	items = append(append(append(items, old[:i]...), x), old[i:]...)
	if len(items) <= pieceMost(l.size) {
		l.pieces[p] = &piece[T]{items}
		return
	}
	half := len(items) / 2
	l.pieces[p] = &piece[T]{slices.Clip(items[:half])}
	l.pieces = slices.Insert(l.pieces, p+1, &piece[T]{items[half:]})
}

func (l *list[T]) drop(x T) {
	p, i := l.find(x)
	if p == len(l.pieces) || l.order(l.pieces[p].items[i], x) != 0 {
		return
	}
	l.size--
	old := l.pieces[p].items
	if len(old) == 1 {
		l.pieces = slices.Delete(l.pieces, p, p+1)
		return
	}
	items := make([]T, 0, len(old)-1)
	l.pieces[p] = &piece[T]{append(append(items, old[:i]...), old[i+1:]...)}
}

// cursor walks a list in order.
type cursor[T any] struct {
	list *list[T]
	p, i int
}

// from is a cursor at the first item that is not before x, start one at the
// first of all.
func (l *list[T]) from(x T) cursor[T] {
	p, i := l.find(x)
	return cursor[T]{l, p, i}
}

func (l *list[T]) start() cursor[T] { return cursor[T]{list: l} }

func (c *cursor[T]) next() (item T, ok bool) {
	if c.p == len(c.list.pieces) {
		return item, false
	}
	items := c.list.pieces[c.p].items
	item = items[c.i]
	if c.i++; c.i == len(items) {
		c.p, c.i = c.p+1, 0
	}
	return item, true
}

// before returns the last item before x.
func (l *list[T]) before(x T) (item T, ok bool) {
	p, i := l.find(x)
	switch {
	case i > 0:
		return l.pieces[p].items[i-1], true
	case p > 0:
		items := l.pieces[p-1].items
		return items[len(items)-1], true
	}
	return item, false
}

// all yields every item in order.
func (l *list[T]) all(yield func(T) bool) {
	for _, p := range l.pieces {
		for _, item := range p.items {
			if !yield(item) {
				return
			}
		}
	}
}

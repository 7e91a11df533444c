// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"slices"

	"kindred/compat"
	"kindred/inventory"
)

// Matrix is which hosts can send to which, type by type: compatibility alone,
// for a new instance of the type as its parent offers it.
type Matrix struct {
	Hosts []string     `json:"hosts"`
	Types []MatrixType `json:"types"` // by full name
}

// MatrixType is the matrix of one type.
type MatrixType struct {
	Type  inventory.TypeName `json:"type"`
	Label inventory.Value    `json:"label,omitzero"`
	Cells []Cell             `json:"cells"` // from and to by name; hosts that do not offer it are left out as from
}

// Cell is the answer for one direction.
type Cell struct {
	From    string         `json:"from"`
	To      string         `json:"to"`
	Outcome compat.Outcome `json:"outcome"`
	Code    compat.Code    `json:"code"` // of the worst finding
	Text    string         `json:"text"`
}

// Cells is how many a matrix has at most.
func (f *Fleet) Cells() (n int) {
	offering := make(map[inventory.TypeName]int) // hosts
	for _, c := range f.cells {
		if c == nil {
			continue
		}
		seen := make(map[inventory.TypeName]bool)
		for i := range c.layout.offers {
			if name := c.layout.offers[i].typ.TypeName; !seen[name] {
				seen[name] = true
				offering[name] += c.members.size
			}
		}
	}
	for _, hosts := range offering {
		n += hosts * (f.hosts.size - 1)
	}
	return n
}

// Matrix answers for every type and every ordered pair of hosts. Pairs of
// layouts are judged once.
func (f *Fleet) Matrix() *Matrix {
	m := &Matrix{Hosts: []string{}, Types: []MatrixType{}}
	index := make(map[inventory.TypeName]int)
	for h := range f.hosts.all {
		m.Hosts = append(m.Hosts, h.name)
		for _, o := range h.layout.offers {
			name := o.typ.TypeName
			if _, ok := index[name]; !ok {
				index[name] = len(m.Types)
				m.Types = append(m.Types, MatrixType{Type: name, Label: o.typ.Label})
			}
		}
	}
	for i := range m.Types {
		t := &m.Types[i]
		judged := make(map[[2]*layout]*Cell) // nil where the sender does not offer it
		for from := range f.hosts.all {
			if f.ended() {
				break
			}
			for to := range f.hosts.all {
				if from == to {
					continue
				}
				pair := [2]*layout{from.layout, to.layout}
				c, ok := judged[pair]
				if !ok {
					c = f.cell(t.Type, from.layout, to.layout)
					judged[pair] = c
				}
				if c != nil {
					t.Cells = append(t.Cells, Cell{from.name, to.name, c.Outcome, c.Code, c.Text})
				}
			}
		}
	}
	slices.SortFunc(m.Types, func(a, b MatrixType) int { return a.Type.Compare(b.Type) })
	return m
}

// cell is the best answer over the parents of hosts of two layouts, nil where
// the first does not offer the type.
func (f *Fleet) cell(name inventory.TypeName, from, to *layout) *Cell {
	var best *Cell
	judged := false
	for i := range from.offers {
		if from.offers[i].typ.TypeName != name {
			continue
		}
		s := f.engine.Instance(from.offers[i].offer.what)
		if !judged {
			v := compat.NotOffered(s, to.static)
			best = &Cell{Outcome: v.Outcome, Code: v.Findings[0].Code, Text: v.Findings[0].Code.Meaning()}
		}
		for j := range to.offers {
			v := f.engine.Check(s, to.offers[j].offer.what)
			if different(&v) {
				continue
			}
			if worst := v.Worst(); !judged || v.Outcome < best.Outcome {
				best.Outcome, best.Code, best.Text = v.Outcome, worst.Code, worst.Text()
				judged = true
			}
		}
	}
	return best
}

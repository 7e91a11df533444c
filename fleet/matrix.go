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

// Matrix answers for every type and every ordered pair of hosts.
func (f *Fleet) Matrix() *Matrix {
	m := &Matrix{Hosts: []string{}, Types: []MatrixType{}}
	index := make(map[inventory.TypeName]int)
	for i := range f.hosts {
		m.Hosts = append(m.Hosts, f.hosts[i].inv.Host.Name)
		for _, o := range f.hosts[i].offers {
			name := o.Type().TypeName
			if _, ok := index[name]; !ok {
				index[name] = len(m.Types)
				m.Types = append(m.Types, MatrixType{Type: name, Label: o.Type().Label})
			}
		}
	}
	for i := range m.Types {
		t := &m.Types[i]
		for a := range f.hosts {
			for b := range f.hosts {
				if a != b {
					if c, ok := f.cell(t.Type, &f.hosts[a], &f.hosts[b]); ok {
						t.Cells = append(t.Cells, c)
					}
				}
			}
		}
	}
	slices.SortFunc(m.Types, func(a, b MatrixType) int { return a.Type.Compare(b.Type) })
	return m
}

// cell is the best answer over the parents of both hosts.
func (f *Fleet) cell(name inventory.TypeName, from, to *host) (Cell, bool) {
	best := Cell{From: from.inv.Host.Name, To: to.inv.Host.Name}
	offered, judged := false, false
	for _, home := range from.offers {
		if home.Type().TypeName != name {
			continue
		}
		offered = true
		s := f.engine.Instance(home)
		if !judged {
			v := compat.NotOffered(s, to.inv)
			best.Outcome, best.Code, best.Text = v.Outcome, v.Findings[0].Code, v.Findings[0].Code.Meaning()
		}
		for _, o := range to.offers {
			v := f.engine.Check(s, o)
			if different(&v) {
				continue
			}
			worst := v.Worst()
			if !judged || v.Outcome < best.Outcome {
				best.Outcome, best.Code, best.Text = v.Outcome, worst.Code, worst.Text()
				judged = true
			}
		}
	}
	return best, offered
}

// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestCodes: each code that is declared says what it means, with a status that
// is a refusal.
func TestCodes(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != "Code" {
			return true
		}
		declared++
		code := Code(strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`))
		if code.Meaning() == "" || code.Status() < 400 || http.StatusText(code.Status()) == "" {
			t.Errorf("%s: status %d, meaning %q", code, code.Status(), code.Meaning())
		}
		return true
	})
	if declared == 0 || declared != len(Codes()) {
		t.Errorf("%d codes are declared, %d have a meaning", declared, len(Codes()))
	}
}

func TestProblem(t *testing.T) {
	p := NewProblem(NoRoom, "host-b takes %d of %d", 1, 2)
	p.Reasons = []Cause{{Subject: "83b8f4f2", Code: "room.full", Text: "the kernel would create no more"}}
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back Problem
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(&back, &Problem{Code: NoRoom}) || errors.Is(&back, &Problem{Code: NotReady}) {
		t.Errorf("%s is not told by its code", data)
	}
	if want := "host-b takes 1 of 2; 83b8f4f2: room.full: the kernel would create no more"; back.Error() != want {
		t.Errorf("got %q, want %q", back.Error(), want)
	}
}

func TestDuration(t *testing.T) {
	data, err := json.Marshal(Renewal{TTL: Duration(90 * time.Second)})
	if err != nil || string(data) != `{"ttl":"1m30s"}` {
		t.Errorf("%s, %v", data, err)
	}
	var r Renewal
	if err := json.Unmarshal([]byte(`{"ttl":"2h30m"}`), &r); err != nil || r.TTL.Of() != 150*time.Minute {
		t.Errorf("%v, %v", r.TTL, err)
	}
	if err := json.Unmarshal([]byte(`{"ttl":"soon"}`), &r); err == nil || !strings.Contains(err.Error(), "90s or 15m") {
		t.Errorf("soon: %v", err)
	}
}

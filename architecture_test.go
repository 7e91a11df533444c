// SPDX-License-Identifier: Apache-2.0

package kindred_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kindred/compat"
	"kindred/host/facts"
	"kindred/libvirt/hook"
)

type pkg struct {
	ImportPath string
	Name       string
	Doc        string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

// packages lists the packages of the module, or what a pattern links.
func packages(t *testing.T, pattern string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Doc,Dir,GoFiles,Imports,Deps", pattern)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func below(path, room string) bool { return path == room || strings.HasPrefix(path, room+"/") }

// TestDirections guards which way data flows; docs/architecture.md explains it.
func TestDirections(t *testing.T) {
	pure := []string{"kindred/inventory", "kindred/compat", "kindred/fleet", "kindred/stream", "kindred/api", "kindred/libvirt/domain"}
	doesIO := []string{"os", "net", "net/http", "os/exec", "syscall", "golang.org/x/sys/unix", "log", "log/slog"}
	rooms := map[string][]string{ // who may be imported by whom, where it is not everybody
		"kindred/cmd":   {"kindred/cmd"},
		"kindred/lab":   {"kindred/lab"},
		"kindred/bench": {"kindred/bench"},
		// One package knows the store, one program is the server.
		"go.etcd.io":     {"kindred/server/store"},
		"kindred/server": {"kindred/server", "kindred/cmd/kindredd"},
		// One package speaks libvirt's protocol; only commands have to do with VM managers.
		"github.com/digitalocean/go-libvirt": {"kindred/libvirt"},
		"kindred/libvirt":                    {"kindred/libvirt", "kindred/cmd", "kindred/lab"},
		"kindred/qmp":                        {"kindred/qmp", "kindred/cmd", "kindred/lab"},
		"kindred/vm":                         {"kindred/vm", "kindred/libvirt", "kindred/qmp", "kindred/cmd"},
		// sim implements host's interfaces, prove uses them, the agent drives both.
		"kindred/host": {"kindred/host", "kindred/definition", "kindred/cmd", "kindred/lab", "kindred/bench", "kindred/sim", "kindred/prove", "kindred/agent", "kindred/demo"},
		// Machines that do not exist are for demos and for tests, whose imports do not count here.
		"kindred/sim":   {"kindred/sim", "kindred/cmd", "kindred/demo"},
		"kindred/fleet": {"kindred/fleet", "kindred/cmd", "kindred/lab", "kindred/bench", "kindred/api", "kindred/server", "kindred/client", "kindred/demo"},
	}
	for _, p := range packages(t, "./...") {
		for _, imported := range p.Imports {
			for _, room := range pure {
				if below(p.ImportPath, room) && slices.Contains(doesIO, imported) {
					t.Errorf("%s imports %s: it is pure", p.ImportPath, imported)
				}
			}
			for room, allowed := range rooms {
				if below(imported, room) && !slices.ContainsFunc(allowed, func(a string) bool { return below(p.ImportPath, a) }) {
					t.Errorf("%s imports %s: data does not flow that way", p.ImportPath, imported)
				}
			}
		}
	}
}

// TestLinked guards what the program that runs on every host carries.
func TestLinked(t *testing.T) {
	for _, p := range packages(t, "./cmd/kindred") {
		for _, dep := range p.Deps {
			for banned, why := range map[string]string{
				"testing": "tests are not shipped",
				// net/http is allowed: questions about a fleet, and an agent's reports,
				// go to the server by it. The server itself is another program.
				"kindred/server":           "the server is kindredd",
				"database/sql":             "the database is the server's",
				"go.etcd.io":               "the database is the server's",
				"google.golang.org/grpc":   "the database is the server's",
				"github.com/danielgtaylor": "the server's API is the server's",
				"kindred/lab":              "the lab is for tests",
				"kindred/internal/fixture": "fixtures are for tests",
			} {
				if below(dep, banned) {
					t.Errorf("kindred links %s: %s", dep, why)
				}
			}
		}
	}
}

// TestSystemPaths keeps machines out of packages that do not read them.
func TestSystemPaths(t *testing.T) {
	for _, p := range packages(t, "./...") {
		if below(p.ImportPath, "kindred/host") || below(p.ImportPath, "kindred/lab") || below(p.ImportPath, "kindred/bench") ||
			below(p.ImportPath, "kindred/sim") { // sim's machines have such paths, and are none
			continue
		}
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && (strings.HasPrefix(lit.Value, `"/sys/`) || strings.HasPrefix(lit.Value, `"/dev/`)) {
					t.Errorf("%s/%s names %s: only host reads machines", p.ImportPath, name, lit.Value)
				}
				return true
			})
		}
	}
}

// TestObserve: reading a host writes nothing. What writes, and who goes through
// the door for writing attributes, is named here.
func TestObserve(t *testing.T) {
	writers := map[string]string{
		"kindred/host/record": "keeps what Kindred knows of devices",
		"kindred/host/vfio":   "opens devices",
		"kindred/host/tree":   "has the door for writing attributes, tree.Machine",
		"kindred/host/change": "changes devices, on request",
	}
	// The door's callers; nobody else writes to a kernel.
	change := map[string]string{
		"kindred/host/tree":   "it is the door",
		"kindred/host/mdev":   "create and remove",
		"kindred/host/change": "what a change of several steps writes in between",
		"kindred/sim/hosts":   "the door of machines that do not exist",
	}
	door := []string{"WriteAttr", "WriteApart", "OpenMachine"}
	calls := []string{"WriteFile", "Create", "OpenFile", "Mkdir", "MkdirAll", "Remove", "RemoveAll", "Rename", "Symlink", "Chmod", "O_WRONLY", "O_RDWR", "O_CREAT"}
	for _, p := range packages(t, "./...") {
		host := below(p.ImportPath, "kindred/host")
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if host && writers[p.ImportPath] == "" && slices.Contains(calls, sel.Sel.Name) {
					t.Errorf("%s/%s uses %s: reading a host writes nothing", p.ImportPath, name, sel.Sel.Name)
				}
				if change[p.ImportPath] == "" && slices.Contains(door, sel.Sel.Name) {
					t.Errorf("%s/%s uses %s: it is not one of those that change a machine", p.ImportPath, name, sel.Sel.Name)
				}
				return true
			})
		}
	}
}

// TestDocs wants a promise from every package and a licence in every file.
func TestDocs(t *testing.T) {
	for _, p := range packages(t, "./...") {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package doc", p.ImportPath)
		}
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(string(data), "// SPDX-License-Identifier: Apache-2.0\n") {
			t.Errorf("%s does not begin with its licence", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLinks: what the documents point to is there.
func TestLinks(t *testing.T) {
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "README.md", "lab/README.md") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(data), "](")[1:] {
			target, _, _ := strings.Cut(part, ")")
			target, _, _ = strings.Cut(target, "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), target)); err != nil {
				t.Errorf("%s points to %s, which is not there", file, target)
			}
		}
	}
}

// TestExamples: the YAML in the documents is accepted by what reads it.
func TestExamples(t *testing.T) {
	for file, parse := range map[string]func([]byte) error{
		"docs/catalogs.md":  func(data []byte) error { _, err := compat.ParseCatalog("example", data); return err },
		"docs/inventory.md": func(data []byte) error { _, err := facts.Parse(data); return err },
		"docs/libvirt.md":   func(data []byte) error { _, err := hook.ParseConfig(data); return err },
	} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		blocks := strings.Split(string(data), "```yaml\n")[1:]
		if len(blocks) == 0 {
			t.Errorf("%s has no example", file)
		}
		for _, block := range blocks {
			text, _, _ := strings.Cut(block, "```")
			if err := parse([]byte(text)); err != nil {
				t.Errorf("%s: %v in\n%s", file, err, text)
			}
		}
	}
}

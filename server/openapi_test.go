// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"strings"
	"testing"

	"kindred/api"
)

var update = flag.Bool("update", false, "write docs/openapi.json")

// TestOpenAPI: the document that is served is the one in docs, and has every
// path.
func TestOpenAPI(t *testing.T) {
	s := New(Config{Catalogs: testCatalogs(t)})
	doc, err := s.register(http.NewServeMux()).OpenAPI().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, doc, "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	const name = "../docs/openapi.json"
	if *update {
		if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(written, b.Bytes()) {
		t.Errorf("docs/openapi.json is not what the server serves (%v): make schema", err)
	}
	var paths struct {
		OpenAPI string                     `json:"openapi"`
		Paths   map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(doc, &paths); err != nil || !strings.HasPrefix(paths.OpenAPI, "3.1") {
		t.Errorf("version %q, %v", paths.OpenAPI, err)
	}
	for _, path := range []string{
		api.PathHosts, api.PathHost, api.PathReport, api.PathAlive, api.PathAssignments, api.PathStatus, api.PathStatic, api.PathTargets, api.PathJoint,
		api.PathMatrix, api.PathReach, api.PathChoices, api.PathWhatIf, api.PathDrain, api.PathRollout, api.PathClaims, api.PathClaim, api.PathRenew, api.PathMigrations, api.PathMigration, api.PathHandOver, api.PathComplete,
		api.PathAbort, api.PathProofs, api.PathEvents, api.PathJoin, api.PathHealth,
	} {
		if paths.Paths[path] == nil {
			t.Errorf("%s is not described", path)
		}
	}
}

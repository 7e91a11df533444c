// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"os"
	"path/filepath"
	"testing"

	"kindred/host/tree"
	"kindred/inventory"
)

func TestRead(t *testing.T) {
	root := t.TempDir()
	d, err := tree.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	typ := inventory.TypeName{Namespace: "acme_gpu", Name: "q-1"}
	p, err := Read(d)
	if err != nil || p.Canary("0000:41:00.0", typ) {
		t.Fatalf("without a file: %+v, %v", p, err)
	}
	file := filepath.Join(root, File)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("canaries:\n- {parent: '0000:41:*', type: 'acme_gpu-*'}\n- {parent: mtty}\n")
	if p, err = Read(d); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		parent    string
		namespace string
		want      bool
	}{
		{"0000:41:00.0", "acme_gpu", true}, {"0000:41:00.0", "acme_net", false}, {"0000:42:00.0", "acme_gpu", false}, {"mtty", "mtty", true},
	} {
		if got := p.Canary(c.parent, inventory.TypeName{Namespace: c.namespace, Name: "1"}); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	write("manage: [{parent: '0000:41:*', type: 'acme_gpu-*'}]\n")
	if p, err = Read(d); err != nil || !p.Managed("0000:41:00.0", typ) || p.Managed("0000:42:00.0", typ) || p.Canary("0000:41:00.0", typ) {
		t.Errorf("managed: %+v, %v", p, err)
	}
	for _, bad := range []string{"canaries: [{type: a}]", "canaries: [{parent: '['}]", "canary: []", "canaries: [{parent: a, types: b}]", "- a", "manage: [{type: a}]", "manage: [{parent: '['}]"} {
		write(bad)
		if p, err := Read(d); err == nil {
			t.Errorf("read %q as %+v", bad, p)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serving

import (
	"bytes"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
)

// TestHeap: of a heap that is mostly one large thing, that is what is told.
func TestHeap(t *testing.T) {
	const size = 64 << 20
	kept := make([]byte, size)
	runtime.GC()
	var text bytes.Buffer
	if err := pprof.Lookup("heap").WriteTo(&text, 1); err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(kept)
	all, etcd, err := heap(bytes.NewReader(text.Bytes()))
	if err != nil || all < size || all > size+size/4 || etcd != 0 {
		t.Errorf("%d bytes, %d of etcd, %v", all, etcd, err)
	}
	_, etcd, err = heap(strings.NewReader(strings.ReplaceAll(text.String(), "\tkindred/bench/serving.TestHeap", "\tgo.etcd.io/raft.Test")))
	if err != nil || etcd < size {
		t.Errorf("%d bytes of etcd, %v", etcd, err)
	}
}

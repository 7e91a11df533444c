// SPDX-License-Identifier: Apache-2.0

package vfio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"syscall"

	"kindred/host/vfio"
)

// Here two devices that only seem to be there; [vfio.Open] gives real ones.
func ExampleLoad() {
	ctx := context.Background()
	source, target, other := newFake(), newFake(), newFake()
	other.writeErr = map[int]error{0: syscall.EFAULT} // it does not like the header

	var state bytes.Buffer
	saved, err := vfio.Save(ctx, source, &state, vfio.SaveOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes, %d of them while it was running\n", saved.Bytes, saved.PreCopy)

	for _, d := range []vfio.Device{target, other} {
		_, err := vfio.Load(ctx, d, bytes.NewReader(state.Bytes()), vfio.LoadOptions{})
		var failed *vfio.Error
		switch {
		case err == nil:
			_, err = d.SetState(vfio.StateRunning)
			fmt.Println("it runs:", err == nil)
		case errors.As(err, &failed) && failed.Kind == vfio.KindRefused:
			fmt.Printf("the driver refused: step %s, byte %d, %v\n", failed.Step, failed.At, failed.Errno())
		default:
			fmt.Println("nobody knows:", err)
		}
	}
	// Output:
	// 36 bytes, 6 of them while it was running
	// it runs: true
	// the driver refused: step write, byte 0, bad address
}

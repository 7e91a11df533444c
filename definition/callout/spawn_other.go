// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package callout

import "context"

func spawn(ctx context.Context, path string, args []string) (result, error) {
	return execute(ctx, path, args, nil)
}

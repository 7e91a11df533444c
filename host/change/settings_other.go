// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package change

import "kindred/host/tree"

func kernelSettings(tree.Dir) Settings { return nil }

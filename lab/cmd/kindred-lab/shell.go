// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/term"
)

// leave is Ctrl-], telnet's way out: a shell has no use for it.
const leave = 0x1d

// shell joins this terminal and a host's console.
func shell(ctx context.Context, host string) error {
	conn, err := dial(host, consoleSocket)
	if err != nil {
		return err
	}
	defer conn.Close()
	stdin := int(os.Stdin.Fd())
	if term.IsTerminal(stdin) {
		fmt.Printf("Console of %s. Ctrl-] leaves it.\r\n", host)
		before, err := term.MakeRaw(stdin)
		if err != nil {
			return fmt.Errorf("making the terminal raw: %w", err)
		}
		defer term.Restore(stdin, before)
		if width, height, err := term.GetSize(stdin); err == nil {
			// A serial line does not tell the size; the leading space keeps it out of a history.
			fmt.Fprintf(conn, " stty rows %d cols %d\n", height, width)
		}
	}
	left, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		copyUntil(conn, os.Stdin, leave)
	}()
	go func() {
		defer close(ended)
		_, _ = io.Copy(os.Stdout, conn)
	}()
	select {
	case <-left:
	case <-ctx.Done():
	case <-ended:
		return fmt.Errorf("host %s is gone\r", host)
	}
	return nil
}

// copyUntil copies up to the byte that ends it, or to the end.
func copyUntil(to io.Writer, from io.Reader, end byte) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		at := bytes.IndexByte(buf[:n], end)
		if at >= 0 {
			n = at
		}
		if _, werr := to.Write(buf[:n]); werr != nil || err != nil || at >= 0 {
			return
		}
	}
}

func dial(host string, socket func(dir, host string) string) (net.Conn, error) {
	dir, err := runDir()
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("unix", socket(dir, host))
	if err != nil {
		return nil, fmt.Errorf("host %s is not up (start it with: kindred-lab up %s): %w", host, host, err)
	}
	return conn, nil
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// kernel is one kernel of Debian's archive.
type kernel struct {
	release string // 6.12.N+deb12-amd64: part of the package names, and uname -r
	version string // of the packages
}

func (k kernel) imagePackage() string   { return "linux-image-" + k.release + "-unsigned" }
func (k kernel) headersPackage() string { return "linux-headers-" + k.release }
func (k kernel) headersDir() string     { return "/usr/src/linux-headers-" + k.release }

// sourcePackage carries one version per kernel version: it must be asked for by it.
const sourcePackage = "linux-source-6.12"

// kernelName matches the flavour that has CONFIG_VFIO_MDEV: the cloud one has not.
var kernelName = regexp.MustCompile(`^linux-(headers|image)-(6\.12\.\d+\+deb12-amd64)(-unsigned)?$`)

// MissingError says what this machine lacks and cannot be given by Prepare.
type MissingError struct {
	Packages []string // Debian names
	Why      string   // why they were not simply installed
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("missing packages (%s): as root, run: apt-get update && apt-get install -y --no-install-recommends %s",
		e.Why, strings.Join(e.Packages, " "))
}

// newestKernel is the newest that the archive has with image and headers.
func newestKernel(ctx context.Context) (kernel, error) {
	names, err := output(ctx, "apt-cache", "pkgnames", "linux-")
	if err != nil {
		return kernel{}, fmt.Errorf("the lab's kernels come from Debian 12's archive: %w", err)
	}
	release, ok := newestRelease(strings.Fields(names))
	if !ok {
		return kernel{}, errors.New("apt knows no linux-image-6.12.*+deb12-amd64-unsigned with headers: run apt-get update on a Debian 12 machine (with its security archive)")
	}
	k := kernel{release: release}
	shown, err := output(ctx, "apt-cache", "--no-all-versions", "show", k.imagePackage())
	if err != nil {
		return kernel{}, err
	}
	for line := range strings.Lines(shown) {
		if v, found := strings.CutPrefix(line, "Version: "); found {
			k.version = strings.TrimSpace(v)
			return k, nil
		}
	}
	return kernel{}, fmt.Errorf("apt-cache shows no version of %s", k.imagePackage())
}

// newestRelease picks from package names what has both headers and an unsigned
// image, which is the one that can be taken apart without its signing package.
func newestRelease(names []string) (string, bool) {
	const headers, image = 1, 2
	have := map[string]int{}
	for _, name := range names {
		switch m := kernelName.FindStringSubmatch(name); {
		case m == nil:
		case m[1] == "headers":
			have[m[2]] |= headers
		case m[3] != "":
			have[m[2]] |= image
		}
	}
	newest := ""
	for release, what := range have {
		if what == headers|image && (newest == "" || releaseLess(newest, release)) {
			newest = release
		}
	}
	return newest, newest != ""
}

var number = regexp.MustCompile(`\d+`)

// releaseLess compares by the numbers in the names: 6.12.9 is older than 6.12.10.
func releaseLess(a, b string) bool {
	ints := func(s string) (n []int) {
		for _, d := range number.FindAllString(s, -1) {
			i, _ := strconv.Atoi(d)
			n = append(n, i)
		}
		return n
	}
	return slices.Compare(ints(a), ints(b)) < 0
}

func bootPackages() []string { return []string{"qemu-system-x86"} }

func buildPackages(k kernel) []string {
	return []string{"busybox-static", "kmod", "xz-utils", "tar", "make", "gcc", "binutils", k.headersPackage()}
}

// ensurePackages installs what is missing, or says what it is.
func ensurePackages(ctx context.Context, want []string, logf func(string, ...any)) error {
	missing, err := missingPackages(ctx, want)
	if err != nil || len(missing) == 0 {
		return err
	}
	if os.Geteuid() != 0 {
		return &MissingError{missing, "only root can install them"}
	}
	logf("lab: installing %s", strings.Join(missing, " "))
	if _, err := output(ctx, "apt-get", "update", "-qq"); err != nil {
		return fmt.Errorf("%w: %w", &MissingError{missing, "the package lists could not be updated"}, err)
	}
	install := append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...)
	if _, err := output(ctx, "apt-get", install...); err != nil {
		return fmt.Errorf("%w: %w", &MissingError{missing, "apt-get could not install them"}, err)
	}
	return nil
}

func missingPackages(ctx context.Context, want []string) ([]string, error) {
	// dpkg-query fails when it knows nothing of one of the names, yet lists the others.
	cmd := exec.CommandContext(ctx, "dpkg-query", append([]string{"-W", "-f", "${Package} ${db:Status-Status}\n"}, want...)...)
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	var exit *exec.ExitError
	if err := cmd.Run(); errors.Is(err, exec.ErrNotFound) {
		return nil, &MissingError{want, "this is no Debian system: provide the same programs and a dpkg"}
	} else if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("asking dpkg what is installed: %w", err)
	}
	var missing []string
	for _, name := range want {
		if !slices.Contains(strings.Split(stdout.String(), "\n"), name+" installed") {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// output runs a command without a terminal and returns what it printed; the
// error carries what it complained about.
func output(ctx context.Context, name string, args ...string) (string, error) {
	return outputIn(ctx, "", name, args...)
}

func outputIn(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	// Pipes and make have children: given up, they must not go on in a directory
	// that is being removed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("%s: given up: %w", name, context.Cause(ctx))
		}
		said := strings.TrimSpace(stderr.String())
		if said == "" {
			said = strings.TrimSpace(stdout.String())
		}
		if len(said) > 2000 {
			said = "…" + said[len(said)-2000:]
		}
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said)
	}
	return stdout.String(), nil
}

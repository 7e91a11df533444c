// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Embedded is a store of the program's own.
type Embedded struct {
	Dir    string
	Prefix string // empty: DefaultPrefix
	// Unsynced writes without waiting for the disk: for tests, which may lose
	// what a power cut would take.
	Unsynced bool
	// Log is where etcd's own messages go; empty: errors to standard error.
	Log string
}

// The store is small: what is kept of old revisions is an hour's, or historySize,
// for those who resume a stream, and a store that grew beyond this was not meant.
const (
	quota         = 2 << 30
	retention     = "1h"
	snapshotEvery = 1000 // transactions
)

// startWait is how long etcd may take to read its directory.
const startWait = 60 * time.Second

// Open starts etcd within the program. It listens nowhere: nobody else reaches
// it, and several of them can run on a machine.
func (e Embedded) Open(ctx context.Context) (*Store, error) {
	if err := os.MkdirAll(e.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	unlock, err := lock(e.Dir)
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", e.Dir, err)
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = "kindred", e.Dir
	cfg.LogLevel = "error"
	if e.Log != "" {
		cfg.LogOutputs = []string{e.Log}
	}
	cfg.UnsafeNoFsync = e.Unsynced
	cfg.QuotaBackendBytes = quota
	// What was written last is in memory too, for members that lag: there are none.
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = snapshotEvery, 1
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, retention
	cfg.ListenPeerUrls, cfg.ListenClientUrls, cfg.AdvertiseClientUrls = nil, nil, nil
	cfg.ListenClientHttpUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}} // a member has an address, also one that is alone
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		unlock()
		return nil, fmt.Errorf("open the store in %s: %w", e.Dir, err)
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	select {
	case <-etcd.Server.ReadyNotify():
	case err := <-etcd.Err():
		etcd.Close()
		unlock()
		return nil, fmt.Errorf("open the store in %s: %w", e.Dir, err)
	case <-ctx.Done():
		etcd.Close()
		unlock()
		return nil, fmt.Errorf("open the store in %s: it did not start: %w", e.Dir, ctx.Err())
	}
	client := v3client.New(etcd.Server)
	bounded, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { bound(bounded, etcd, client) })
	return open(ctx, client, prefix(e.Prefix), func() error {
		stop()
		all.Wait()
		err := client.Close()
		etcd.Close()
		unlock()
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return err
	})
}

// lock keeps other programs out of the directory: etcd would wait for it without
// an end, and without a word.
func lock(dir string) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("another program uses it; stop that one first")
		}
		return nil, err
	}
	return func() { file.Close() }, nil // and the lock goes with it
}

// Existing is a store in an etcd that somebody runs.
type Existing struct {
	Endpoints          []string
	Prefix             string // empty: DefaultPrefix
	TLS                *tls.Config
	Username, Password string
}

// Open connects. An endpoint that does not answer is no error while others do.
func (e Existing) Open(ctx context.Context) (*Store, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: e.Endpoints, TLS: e.TLS, Username: e.Username, Password: e.Password,
		DialTimeout: requestTimeout, DialKeepAliveTime: requestTimeout, DialKeepAliveTimeout: requestTimeout,
		Logger: zap.NewNop(), // what matters comes back as an error
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %s: %w", strings.Join(e.Endpoints, ","), err)
	}
	s, err := open(ctx, client, prefix(e.Prefix), client.Close)
	if errors.Is(err, ErrUnavailable) {
		err = fmt.Errorf("etcd at %s: %w%s", strings.Join(e.Endpoints, ","), err, e.refusals(ctx, time.Second))
	}
	return s, err
}

// refusals say why endpoints cannot be reached, as far as a connection tells: the
// client, which tries again and again, keeps that to itself. Each may take so long.
func (e Existing) refusals(ctx context.Context, each time.Duration) (all string) {
	for _, endpoint := range e.Endpoints {
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" {
			all += fmt.Sprintf("; %s is no address such as https://etcd-1:2379", endpoint)
			continue
		}
		if err := e.refusal(ctx, u, each); err != nil {
			all += fmt.Sprintf("; %s: %v", endpoint, err)
		}
	}
	return all
}

// refusal connects, and waits a moment for a word against it: who has to show a
// certificate is told after the handshake.
func (e Existing) refusal(ctx context.Context, u *url.URL, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if u.Scheme != "https" {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	config := &tls.Config{}
	if e.TLS != nil {
		config = e.TLS.Clone()
	}
	config.NextProtos = []string{"h2", "http/1.1"}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func prefix(given string) string {
	if given == "" {
		return DefaultPrefix
	}
	return strings.TrimSuffix(given, "/") + "/"
}

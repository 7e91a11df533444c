// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// DefaultPrefix is where in the key space everything is.
const DefaultPrefix = "/kindred/v1/"

// requestTimeout bounds one request to etcd.
const requestTimeout = 5 * time.Second

// pageSize is how many records are read at once.
const pageSize = 2000

// Store is an open store.
type Store struct {
	client *clientv3.Client
	prefix string
	base   int64
	close  func() error
}

// open reads what a store of this prefix begins with.
func open(ctx context.Context, client *clientv3.Client, prefix string, close func() error) (*Store, error) {
	s := &Store{client: client, prefix: prefix, close: close}
	r, err := s.Get(ctx, base)
	if err != nil {
		return nil, errors.Join(err, close())
	}
	if r != nil {
		if s.base, err = strconv.ParseInt(string(r.Value), 10, 64); err != nil {
			return nil, errors.Join(fmt.Errorf("open the store: the record %s%s is no number", prefix, base), close())
		}
	}
	return s, nil
}

// Close ends the client and, where the store is the program's own, etcd.
func (s *Store) Close() error { return s.close() }

// Get reads one record as it is now, nil if it is not there.
func (s *Store) Get(ctx context.Context, key string) (*Record, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Get(ctx, s.prefix+key)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, unavailable(err))
	}
	if len(resp.Kvs) == 0 {
		return nil, nil
	}
	r := s.record(resp.Kvs[0])
	return &r, nil
}

// Read calls yield with every record whose key begins with the given text, all
// as they were at one revision, which it returns.
func (s *Store) Read(ctx context.Context, begin string, yield func(Record) error) (revision int64, err error) {
	end := clientv3.GetPrefixRangeEnd(s.prefix + begin)
	from := s.prefix + begin
	for {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(pageSize)}
		if revision > 0 {
			opts = append(opts, clientv3.WithRev(revision))
		}
		page, cancel := context.WithTimeout(ctx, 4*requestTimeout)
		resp, err := s.client.Get(page, from, opts...)
		cancel()
		if err != nil {
			return 0, fmt.Errorf("read the store: %w", unavailable(err))
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			if err := yield(s.record(kv)); err != nil {
				return 0, err
			}
		}
		if !resp.More {
			return revision + s.base, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// Commit writes all of a transaction or nothing of it. ok is false when a guard
// did not hold; revision is then that of the store. One without writes finds out
// whether its guards hold.
func (s *Store) Commit(ctx context.Context, t Txn) (revision int64, ok bool, err error) {
	guards, writes := s.operations(&t)
	resp, err := s.txn(ctx, guards, writes)
	if err != nil {
		return 0, false, err
	}
	return resp.Header.Revision + s.base, resp.Succeeded, nil
}

// CommitEach commits several transactions at once, each for itself: one whose
// guards did not hold leaves the others as they are. No record is in two of them;
// all that are written are written at one revision.
func (s *Store) CommitEach(ctx context.Context, list []Txn) (revision int64, ok []bool, err error) {
	each := make([]clientv3.Op, 0, len(list))
	for i := range list {
		guards, writes := s.operations(&list[i])
		each = append(each, clientv3.OpTxn(guards, writes, nil))
	}
	resp, err := s.txn(ctx, nil, each)
	if err != nil {
		return 0, nil, err
	}
	ok = make([]bool, 0, len(resp.Responses))
	for _, r := range resp.Responses {
		ok = append(ok, r.GetResponseTxn().GetSucceeded())
	}
	return resp.Header.Revision + s.base, ok, nil
}

func (s *Store) txn(ctx context.Context, guards []clientv3.Cmp, writes []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Txn(ctx).If(guards...).Then(writes...).Commit()
	if err != nil {
		return nil, fmt.Errorf("write to the store: %w", uncertain(err))
	}
	return resp, nil
}

// operations are a transaction in etcd's words.
func (s *Store) operations(t *Txn) (guards []clientv3.Cmp, writes []clientv3.Op) {
	for _, g := range t.If {
		wanted := g.Revision
		if wanted > 0 {
			wanted -= s.base
		}
		guards = append(guards, clientv3.Compare(clientv3.ModRevision(s.prefix+g.Key), "=", wanted))
	}
	for _, w := range t.Then {
		if w.Delete {
			writes = append(writes, clientv3.OpDelete(s.prefix+w.Key))
			continue
		}
		writes = append(writes, clientv3.OpPut(s.prefix+w.Key, string(w.Value)))
	}
	if len(writes) == 0 {
		// A member that has nothing to write or to read compares with what it has seen
		// itself, however old that is. To read it asks a majority first.
		writes = append(writes, clientv3.OpGet(s.prefix+Cluster, clientv3.WithCountOnly()))
	}
	return guards, writes
}

// Revision is that of the store at this moment, agreed on by a majority.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Get(ctx, s.prefix+Cluster, clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("read the store: %w", unavailable(err))
	}
	return resp.Header.Revision + s.base, nil
}

// Hurry has every watch say soon how far it is, also where nothing changes.
func (s *Store) Hurry(ctx context.Context) error {
	if err := s.client.RequestProgress(clientv3.WithRequireLeader(ctx)); err != nil {
		return fmt.Errorf("watch the store: %w", unavailable(err))
	}
	return nil
}

// Watch calls yield with the changes after a revision, until the context ends
// or an error comes. Changes of one revision come together. With no changes for
// a while, or after [Store.Hurry], it is called with the revision that was reached.
func (s *Store) Watch(ctx context.Context, begin string, after int64, yield func(changes []Record, revision int64) error) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	from := max(after-s.base, 0) + 1
	for resp := range s.client.Watch(ctx, s.prefix+begin, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithProgressNotify()) {
		if resp.CompactRevision != 0 {
			return ErrCompacted
		}
		if err := resp.Err(); err != nil {
			return fmt.Errorf("watch the store: %w", unavailable(err))
		}
		if resp.Created {
			continue
		}
		// While a watch catches up, the header is ahead of what was sent: then the
		// last change says how far it is. An answer without changes is at its header.
		revision := resp.Header.Revision + s.base
		changes := make([]Record, 0, len(resp.Events))
		for _, e := range resp.Events {
			r := s.record(e.Kv)
			r.Gone = e.Type == clientv3.EventTypeDelete
			changes = append(changes, r)
			revision = r.Revision
		}
		if err := yield(changes, revision); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("watch the store: %w", ErrUnavailable)
}

// Announce keeps a record for as long as the context and the program live, and
// some seconds longer.
func (s *Store) Announce(ctx context.Context, key string, value []byte) error {
	const seconds = 10
	lease, err := s.client.Grant(ctx, seconds)
	if err != nil {
		return fmt.Errorf("announce %s: %w", key, unavailable(err))
	}
	if _, err := s.client.Put(ctx, s.prefix+key, string(value), clientv3.WithLease(lease.ID)); err != nil {
		return fmt.Errorf("announce %s: %w", key, unavailable(err))
	}
	alive, err := s.client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return fmt.Errorf("announce %s: %w", key, unavailable(err))
	}
	for range alive {
		// each answer is one more span of life
	}
	if ctx.Err() == nil {
		return fmt.Errorf("announce %s: %w", key, ErrUnavailable)
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = s.client.Revoke(after, lease.ID) // else it goes by itself, later
	return ctx.Err()
}

func (s *Store) record(kv *mvccpb.KeyValue) Record {
	key, _ := bytes.CutPrefix(kv.Key, []byte(s.prefix))
	return Record{Key: strings.Clone(string(key)), Value: kv.Value, Created: kv.CreateRevision + s.base, Revision: kv.ModRevision + s.base}
}

// unavailable names what of etcd's errors means that it is not there.
func unavailable(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, rpctypes.ErrCompacted):
		return ErrCompacted
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// uncertain tells errors after which nothing was written from those after which
// it may have been.
func uncertain(err error) error {
	var refused rpctypes.EtcdError
	if errors.As(err, &refused) {
		switch refused {
		case rpctypes.ErrNoSpace, rpctypes.ErrTooManyRequests, rpctypes.ErrRequestTooLarge, rpctypes.ErrTooManyOps, rpctypes.ErrDuplicateKey,
			rpctypes.ErrPermissionDenied, rpctypes.ErrInvalidAuthToken, rpctypes.ErrUserEmpty:
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return fmt.Errorf("%w: %w", ErrUncertain, err)
}

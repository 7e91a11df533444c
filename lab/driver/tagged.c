// SPDX-License-Identifier: GPL-2.0-only
/*
 * What mlx5's and virtio's streams have in common (section 3): records with a tag that
 * is mandatory or optional. A tag that is not known is skipped if optional, else
 * EOPNOTSUPP from the write that completes its header; a record too large is ENOMEM; a
 * record of data is given to the firmware as soon as it is complete. After an
 * error the fd only says ENODEV, but the quirk is: STOP always succeeds, after an
 * error and in the middle of a record as well.
 */
#include <linux/unaligned.h>
#include "tagged.h"

void kdx_record_put(u8 *to, u64 size, u32 flags, u32 tag)
{
	put_unaligned_le64(size, to);
	put_unaligned_le32(flags, to + 8);
	put_unaligned_le32(tag, to + 12);
}

/* The record that older builds do not know. */
int kdx_record_extra(struct kdx_session *s)
{
	u8 *p;

	if (!kdx_build.tag)
		return 0;
	p = kdx_session_add(s, RECORD_SIZE + 8);
	if (!p)
		return -ENOMEM;
	kdx_record_put(p, 8, kdx_build.optional ? RECORD_OPTIONAL : 0, kdx_build.tag);
	return 0;
}

/* A record's header is complete: is it to be kept? */
static int tagged_header(struct kdx_session *s, u32 known)
{
	u64 size = get_unaligned_le64(s->header);
	u32 flags = get_unaligned_le32(s->header + 8), tag = get_unaligned_le32(s->header + 12);

	if (tag != RECORD_DATA && tag != known && tag != kdx_build.tag &&
	    !(flags & RECORD_OPTIONAL))
		return -EOPNOTSUPP;
	if (size > s->max)
		return -ENOMEM;
	return 0;
}

static int tagged_feed(struct kdx_session *s, const u8 *from, size_t n, u32 known,
		       int (*load)(struct kdx_session *s, const u8 *data, size_t n))
{
	u64 size;
	size_t part;
	int ret;

	for (;;) {
		if (s->header_got < RECORD_SIZE) {
			part = min_t(size_t, n, RECORD_SIZE - s->header_got);
			memcpy(s->header + s->header_got, from, part);
			s->header_got += part;
			from += part;
			n -= part;
			if (s->header_got < RECORD_SIZE)
				return 0;
			ret = tagged_header(s, known);
			if (ret)
				return ret;
		}
		size = get_unaligned_le64(s->header);
		part = min_t(u64, n, size - s->got);
		ret = kdx_session_store(s, from, part);
		if (ret)
			return ret;
		from += part;
		n -= part;
		if (s->got < size)
			return 0;
		if (get_unaligned_le32(s->header + 12) == RECORD_DATA) {
			ret = load(s, s->in, s->got);
			if (ret)
				return ret;
		}
		s->header_got = 0;
		s->got = 0;
		if (!n)
			return 0;
	}
}

int kdx_tagged_feed(struct kdx_session *s, const u8 *from, size_t n, u32 known,
		    int (*load)(struct kdx_session *s, const u8 *data, size_t n))
{
	if (s->error)
		return -ENODEV;
	s->error = tagged_feed(s, from, n, known, load);
	return s->error;
}

int kdx_tagged_commit(struct kdx_session *s)
{
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * As xe (section 3): packets
 *
 *	u8 version, type, tile, gt; u32 flags; u64 offset, size
 *
 * The first is the DESCRIPTOR, entries of a key and a length (u16 key, u16 dwords,
 * then the value) of which unknown ones are skipped, the last the TRAILER. EINVAL:
 * another version, a wrong order or size, a gt that does not exist. ENODEV: another
 * device id or revision. Without the trailer STOP fails (EINVAL). An error is final
 * here (the same again); what xe does then is not known.
 */
#include <linux/unaligned.h>
#include "kdx.h"

#define PACKET_SIZE	24
#define KEY_DEVID	0xf001
#define KEY_REVID	0xf002

enum { DESCRIPTOR = 1, TRAILER, GGTT, MMIO, GUC, VRAM };

static u8 *packet_put(u8 *to, u8 type, u64 size)
{
	to[0] = kdx_build.major;
	to[1] = type;
	put_unaligned_le64(size, to + 16);
	return to + PACKET_SIZE;
}

static u8 *klv_put(u8 *to, u16 key, u32 value)
{
	put_unaligned_le16(key, to);
	put_unaligned_le16(1, to + 2);
	put_unaligned_le32(value, to + 4);
	return to + 8;
}

static int xe_save_state(struct kdx_session *s)
{
	size_t image = kdx_image_size(s->dev), keys = kdx_build.klv ? 24 : 16;
	u8 *p = kdx_session_add(s, PACKET_SIZE + keys + PACKET_SIZE + image + PACKET_SIZE);

	if (!p)
		return -ENOMEM;
	p = packet_put(p, DESCRIPTOR, keys);
	p = klv_put(p, KEY_DEVID, kdx_device_id(s->dev));
	if (kdx_build.klv)
		p = klv_put(p, kdx_build.klv, 0);
	p = klv_put(p, KEY_REVID, kdx_build.revid);
	p = packet_put(p, MMIO, image);
	kdx_image_save(s->dev, p);
	packet_put(p + image, VRAM, s->dev->scratch_size);
	if (kdx_session_add_scratch(s))
		return -ENOMEM;
	p = kdx_session_add(s, PACKET_SIZE);
	if (!p)
		return -ENOMEM;
	packet_put(p, TRAILER, 0);
	return 0;
}

static size_t xe_size(const struct kdx_dev *dev)
{
	return 4 * PACKET_SIZE + (kdx_build.klv ? 24 : 16);
}

static size_t xe_most(const struct kdx_dev *dev)
{
	return max(kdx_image_size(dev), dev->scratch_size);
}

static int xe_header(struct kdx_session *s)
{
	const u8 *h = s->header;
	u64 size = get_unaligned_le64(h + 16);

	if (h[0] != kdx_build.major || h[2] || h[3] || size > s->max || s->complete)
		return -EINVAL;
	if ((h[1] == DESCRIPTOR) != (s->records == 0))
		return -EINVAL;
	switch (h[1]) {
	case DESCRIPTOR:
	case GGTT:
	case GUC:
		return 0;
	case TRAILER:
		return size ? -EINVAL : 0;
	case MMIO:
		return size == kdx_image_size(s->dev) ? 0 : -EINVAL;
	case VRAM:
		return size == s->dev->scratch_size ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

static int xe_descriptor(struct kdx_session *s, const u8 *data, size_t n)
{
	size_t len;
	u16 key;

	while (n) {
		if (n < 4)
			return -EINVAL;
		key = get_unaligned_le16(data);
		len = 4 + 4 * (size_t)get_unaligned_le16(data + 2);
		if (len > n)
			return -EINVAL;
		if (key == KEY_DEVID || key == KEY_REVID) {
			if (len != 8)
				return -EINVAL;
			if (get_unaligned_le32(data + 4) !=
			    (key == KEY_DEVID ? kdx_device_id(s->dev) : kdx_build.revid))
				return -ENODEV;
		}
		data += len;
		n -= len;
	}
	return 0;
}

static int xe_packet(struct kdx_session *s)
{
	int ret;

	switch (s->header[1]) {
	case DESCRIPTOR:
		return xe_descriptor(s, s->in, s->got);
	case MMIO:
		ret = kdx_image_check(s->dev, s->in, s->got);
		if (!ret)
			kdx_image_load(s->dev, s->in, s->got);
		return ret;
	case VRAM:
		kdx_scratch_load(s->dev, s->in, s->got);
		return 0;
	case TRAILER:
		s->complete = true;
		return 0;
	default:
		return 0;
	}
}

static int xe_take(struct kdx_session *s, const u8 *from, size_t n)
{
	u64 size;
	size_t part;
	int ret;

	for (;;) {
		if (s->header_got < PACKET_SIZE) {
			part = min_t(size_t, n, PACKET_SIZE - s->header_got);
			memcpy(s->header + s->header_got, from, part);
			s->header_got += part;
			from += part;
			n -= part;
			if (s->header_got < PACKET_SIZE)
				return 0;
			ret = xe_header(s);
			if (ret)
				return ret;
		}
		size = get_unaligned_le64(s->header + 16);
		part = min_t(u64, n, size - s->got);
		ret = kdx_session_store(s, from, part);
		if (ret)
			return ret;
		from += part;
		n -= part;
		if (s->got < size)
			return 0;
		ret = xe_packet(s);
		if (ret)
			return ret;
		s->records = 1;
		s->header_got = 0;
		s->got = 0;
		if (!n)
			return 0;
	}
}

static int xe_feed(struct kdx_session *s, const u8 *from, size_t n)
{
	if (!s->error)
		s->error = xe_take(s, from, n);
	return s->error;
}

static int xe_commit(struct kdx_session *s)
{
	return !s->error && s->complete && !s->header_got ? 0 : -EINVAL;
}

const struct kdx_dialect kdx_dialect_xe = {
	.name = "xe",
	.mig_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P,
	.save_state = xe_save_state,
	.size = xe_size,
	.most = xe_most,
	.feed = xe_feed,
	.commit = xe_commit,
};

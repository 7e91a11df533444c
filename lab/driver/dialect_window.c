// SPDX-License-Identifier: GPL-2.0-only
/*
 * The driver's own dialect: a version window, as QEMU's version_id and
 * minimum_version_id. A header, the image, the scratch and from 1.1 on a sum:
 *
 *	u64 magic; u16 major, minor; u32 interface, features, queues; u64 scratch size; u32 layout, 0
 *
 * 2.x has the scratch before the image. Accepted, else EINVAL from the write that
 * brings the header's last byte: the same major, a minor not newer, the same
 * interface, queues, scratch size and layout, no feature that this one lacks.
 * Errors are sticky, and STOP fails on what is short (EINVAL): as it should be.
 *
 * Three builds are not as they should be: "badsum" writes a sum that only
 * "verify" builds look at, at STOP; "anything" refuses nothing and corrupts.
 */
#include <linux/unaligned.h>
#include "kdx.h"

#define MAGIC		0x31584457574e494bULL
#define HEADER_SIZE	40
#define SUM_SIZE	8

static bool has_sum(u16 major, u16 minor)
{
	return major > 1 || minor >= 1;
}

static u64 image_sum(const u8 *image, size_t n)
{
	u64 sum = 0;

	for (; n; n--)
		sum = kdx_mix(sum, *image++);
	return sum;
}

static int window_save_head(struct kdx_session *s)
{
	const struct kdx_dev *dev = s->dev;
	u8 *h = kdx_session_add(s, HEADER_SIZE);

	if (!h)
		return -ENOMEM;
	put_unaligned_le64(MAGIC, h);
	put_unaligned_le16(kdx_build.major, h + 8);
	put_unaligned_le16(kdx_build.minor, h + 10);
	put_unaligned_le32(dev->def->iface, h + 12);
	put_unaligned_le32(dev->regs.features, h + 16);
	put_unaligned_le32(dev->def->queues, h + 20);
	put_unaligned_le64(dev->scratch_size, h + 24);
	put_unaligned_le32(kdx_value(&kdx_layout), h + 32);
	return 0;
}

static int window_save_state(struct kdx_session *s)
{
	size_t n = kdx_image_size(s->dev);
	u8 *image, *sum;

	if (kdx_build.major >= 2 && kdx_session_add_scratch(s))
		return -ENOMEM;
	image = kdx_session_add(s, n);
	if (!image)
		return -ENOMEM;
	kdx_image_save(s->dev, image);
	if (kdx_build.major < 2 && kdx_session_add_scratch(s))
		return -ENOMEM;
	if (!has_sum(kdx_build.major, kdx_build.minor))
		return 0;
	sum = kdx_session_add(s, SUM_SIZE);
	if (!sum)
		return -ENOMEM;
	put_unaligned_le64(image_sum(image, n) ^ kdx_build.badsum, sum);
	return 0;
}

static size_t window_size(const struct kdx_dev *dev)
{
	return HEADER_SIZE + (has_sum(kdx_build.major, kdx_build.minor) ? SUM_SIZE : 0);
}

static size_t window_most(const struct kdx_dev *dev)
{
	return HEADER_SIZE + kdx_image_size(dev) + dev->scratch_size + SUM_SIZE;
}

static int window_check(const struct kdx_dev *dev, const u8 *h)
{
	if (get_unaligned_le64(h) != MAGIC ||
	    get_unaligned_le16(h + 8) != kdx_build.major ||
	    get_unaligned_le16(h + 10) > kdx_build.minor ||
	    get_unaligned_le32(h + 12) != dev->def->iface ||
	    (get_unaligned_le32(h + 16) & ~dev->caps) ||
	    get_unaligned_le32(h + 20) != dev->def->queues ||
	    get_unaligned_le64(h + 24) != dev->scratch_size ||
	    get_unaligned_le32(h + 32) != kdx_value(&kdx_layout))
		return -EINVAL;
	return 0;
}

static int window_feed(struct kdx_session *s, const u8 *from, size_t n)
{
	size_t had = s->got;
	int ret;

	if (kdx_build.anything) {	/* more than fits is dropped */
		n = min(n, s->max - s->got);
		return kdx_session_store(s, from, n);
	}
	if (s->error)
		return s->error;
	ret = kdx_session_store(s, from, n);
	if (!ret && had < HEADER_SIZE && s->got >= HEADER_SIZE)
		ret = window_check(s->dev, s->in);
	s->error = ret;
	return ret;
}

static int window_corrupt(struct kdx_session *s)
{
	struct kdx_dev *dev = s->dev;
	size_t n = kdx_image_size(dev);

	/* What did not arrive is zeros. */
	kdx_image_load(dev, s->in + HEADER_SIZE, n);
	kdx_scratch_load(dev, s->in + HEADER_SIZE + n, dev->scratch_size);
	dev->regs.digest ^= 1;
	dev->scratch[dev->scratch_size / 2] ^= 0x80;
	return 0;
}

static int window_commit(struct kdx_session *s)
{
	struct kdx_dev *dev = s->dev;
	size_t n = kdx_image_size(dev), want = HEADER_SIZE + n + dev->scratch_size;
	const u8 *image, *scratch;
	bool sum;
	int ret;

	if (kdx_build.anything)
		return window_corrupt(s);
	if (s->error)
		return s->error;
	if (s->got < HEADER_SIZE)
		return -EINVAL;
	sum = has_sum(kdx_build.major, get_unaligned_le16(s->in + 10));
	if (s->got != want + (sum ? SUM_SIZE : 0))
		return -EINVAL;
	image = s->in + HEADER_SIZE;
	scratch = image + n;
	if (kdx_build.major >= 2) {
		scratch = s->in + HEADER_SIZE;
		image = scratch + dev->scratch_size;
	}
	ret = kdx_image_check(dev, image, n);
	if (ret)
		return ret;
	if (sum && kdx_build.verify && get_unaligned_le64(s->in + want) != image_sum(image, n))
		return -EINVAL;
	kdx_image_load(dev, image, n);
	kdx_scratch_load(dev, scratch, dev->scratch_size);
	return 0;
}

const struct kdx_dialect kdx_dialect_window = {
	.name = "window",
	.mig_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY,
	.enomsg = true,
	.save_head = window_save_head,
	.save_state = window_save_state,
	.size = window_size,
	.most = window_most,
	.feed = window_feed,
	.commit = window_commit,
};

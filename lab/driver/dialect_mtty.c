// SPDX-License-Identifier: GPL-2.0-only
/*
 * As mtty (sections 2.7 and 3): a header that must be equal to the last bit,
 *
 *	u64 magic; u32 major, minor, ports, flags
 *
 * then the state. EFAULT from the write that brings the header's last byte, or
 * ENOMEM before anything is taken if a write would go past this device's size.
 * The quirk: EFAULT is not sticky. The bytes were kept, further writes succeed,
 * and STOP, which asks for nothing but the length, loads the foreign state.
 */
#include <linux/unaligned.h>
#include "kdx.h"

/* mtty's, but for the last bit: this is not mtty's state. */
#define MAGIC		0x7e9d09898c3e2c4fULL
#define HEADER_SIZE	24

static void mtty_header(const struct kdx_dev *dev, u8 *h)
{
	put_unaligned_le64(MAGIC, h);
	put_unaligned_le32(kdx_build.major, h + 8);
	put_unaligned_le32(kdx_build.minor, h + 12);
	put_unaligned_le32(dev->def->queues, h + 16);
	put_unaligned_le32(0, h + 20);
}

static int mtty_save_head(struct kdx_session *s)
{
	u8 *h = kdx_session_add(s, HEADER_SIZE);

	if (!h)
		return -ENOMEM;
	mtty_header(s->dev, h);
	return 0;
}

static int mtty_save_state(struct kdx_session *s)
{
	u8 *image = kdx_session_add(s, kdx_image_size(s->dev));

	if (!image)
		return -ENOMEM;
	kdx_image_save(s->dev, image);
	return kdx_session_add_scratch(s);
}

static size_t mtty_size(const struct kdx_dev *dev)
{
	return HEADER_SIZE;
}

static size_t mtty_most(const struct kdx_dev *dev)
{
	return HEADER_SIZE + kdx_image_size(dev) + dev->scratch_size;
}

static int mtty_room(struct kdx_session *s, size_t *count)
{
	return *count > s->max - s->got ? -ENOMEM : 0;
}

static int mtty_feed(struct kdx_session *s, const u8 *from, size_t n)
{
	size_t had = s->got;
	u8 own[HEADER_SIZE];
	int ret = kdx_session_store(s, from, n);

	if (ret || had >= HEADER_SIZE || s->got < HEADER_SIZE)
		return ret;
	mtty_header(s->dev, own);
	return memcmp(s->in, own, HEADER_SIZE) ? -EFAULT : 0;
}

static int mtty_commit(struct kdx_session *s)
{
	struct kdx_dev *dev = s->dev;
	size_t n = kdx_image_size(dev);

	if (s->got < s->max)
		return -EINVAL;
	kdx_image_load(dev, s->in + HEADER_SIZE, n);
	kdx_scratch_load(dev, s->in + HEADER_SIZE + n, dev->scratch_size);
	return 0;
}

const struct kdx_dialect kdx_dialect_mtty = {
	.name = "mtty",
	.mig_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY,
	.save_head = mtty_save_head,
	.save_state = mtty_save_state,
	.size = mtty_size,
	.most = mtty_most,
	.room = mtty_room,
	.feed = mtty_feed,
	.commit = mtty_commit,
};

// SPDX-License-Identifier: GPL-2.0-only
/*
 * As pds (section 3): 64 KiB that the driver knows nothing of, always all of them.
 * Nothing is checked before STOP, when the firmware gets the block: it refuses, EINVAL,
 * one that is newer than itself. EINVAL (or a short write) past the end.
 *
 *	u32 firmware version, 0; then the state
 *
 * Quirks: a short stream is filled up with zeros and loaded, which makes version 0
 * acceptable to all. And the firmware of "swap" has another order inside without
 * saying so: to and from the others, everything is accepted and the state is wrong.
 */
#include <linux/unaligned.h>
#include "kdx.h"

#define STATE_SIZE	(64 * 1024)
#define FW_SIZE		8
#define SCRATCH_SIZE	(16 * 1024)

static int pds_save_state(struct kdx_session *s)
{
	const struct kdx_dev *dev = s->dev;
	size_t n = kdx_image_size(dev);
	u8 *p = kdx_session_add(s, STATE_SIZE);

	if (!p)
		return -ENOMEM;
	put_unaligned_le32(kdx_build.fw, p);
	p += FW_SIZE;
	kdx_image_save(dev, kdx_build.swap ? p + dev->scratch_size : p);
	memcpy(kdx_build.swap ? p : p + n, dev->scratch, dev->scratch_size);
	return 0;
}

static size_t pds_size(const struct kdx_dev *dev)
{
	return STATE_SIZE - kdx_image_size(dev) - dev->scratch_size;
}

static size_t pds_most(const struct kdx_dev *dev)
{
	return STATE_SIZE;
}

static int pds_room(struct kdx_session *s, size_t *count)
{
	if (*count && s->got == s->max)
		return -EINVAL;
	*count = min(*count, s->max - s->got);
	return 0;
}

/* The firmware's RESTORE. What did not arrive is zeros: the buffer was. */
static int pds_commit(struct kdx_session *s)
{
	struct kdx_dev *dev = s->dev;
	size_t n = kdx_image_size(dev);
	const u8 *p = s->in + FW_SIZE;

	if (get_unaligned_le32(s->in) > kdx_build.fw)
		return -EINVAL;
	kdx_image_load(dev, kdx_build.swap ? p + dev->scratch_size : p, n);
	kdx_scratch_load(dev, kdx_build.swap ? p : p + n, dev->scratch_size);
	return 0;
}

const struct kdx_dialect kdx_dialect_pds = {
	.name = "pds",
	.mig_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P,
	.fixed_scratch = SCRATCH_SIZE,
	.save_state = pds_save_state,
	.size = pds_size,
	.most = pds_most,
	.room = pds_room,
	.feed = kdx_session_store,
	.commit = pds_commit,
};

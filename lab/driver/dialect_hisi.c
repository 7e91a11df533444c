// SPDX-License-Identifier: GPL-2.0-only
/*
 * As hisi_acc_vfio_pci (section 3): 40 bytes of match data in a block of 176,
 *
 *	u64 magic; u32 queues, device id, isolation, queue base, state; u16 major, minor; u32 rsv[2]
 *
 * then the state. Accepted: a known magic, the same major (the minor is ignored),
 * device id, number of queues and isolation; else EFAULT from the write, and from
 * every further one, because the check is done again. ENOMEM past this device's size.
 * A device whose guest never used it sends the match data only.
 *
 * Quirks: STOP does not look at the match data again, takes just the 40 bytes as a
 * device that was never used, whatever was in them, and less than 176 is EINVAL. Once
 * the check was passed it is never made again for this device, not even after a
 * reset or reopen (match_done).
 */
#include <linux/unaligned.h>
#include "kdx.h"

#define MAGIC_V1	0xCDCDCDCDFEEDAACCULL
#define MAGIC_V2	0xAACCFEEDDECADEDEULL
#define MATCH_SIZE	40
#define DATA_SIZE	176

static int hisi_save_head(struct kdx_session *s)
{
	u8 *m = kdx_session_add(s, MATCH_SIZE);

	if (!m)
		return -ENOMEM;
	put_unaligned_le64(MAGIC_V2, m);
	put_unaligned_le32(s->dev->def->queues, m + 8);
	put_unaligned_le32(kdx_device_id(s->dev), m + 12);
	put_unaligned_le32(kdx_build.isolation, m + 16);
	put_unaligned_le16(kdx_build.major, m + 28);
	put_unaligned_le16(kdx_build.minor, m + 30);
	return 0;
}

static bool hisi_used(const struct kdx_dev *dev)
{
	return dev->regs.counter || dev->regs.fed || dev->scratch_used;
}

static int hisi_save_state(struct kdx_session *s)
{
	u8 *rest;

	if (!hisi_used(s->dev))
		return 0;
	rest = kdx_session_add(s, DATA_SIZE - MATCH_SIZE + kdx_image_size(s->dev));
	if (!rest)
		return -ENOMEM;
	kdx_image_save(s->dev, rest + DATA_SIZE - MATCH_SIZE);
	return kdx_session_add_scratch(s);
}

static size_t hisi_size(const struct kdx_dev *dev)
{
	return DATA_SIZE;
}

static size_t hisi_most(const struct kdx_dev *dev)
{
	return DATA_SIZE + kdx_image_size(dev) + dev->scratch_size;
}

static int hisi_room(struct kdx_session *s, size_t *count)
{
	return *count > s->max - s->got ? -ENOMEM : 0;
}

static int hisi_check(struct kdx_dev *dev, const u8 *m)
{
	u64 magic = get_unaligned_le64(m);

	if (dev->match_done)
		return 0;
	if (magic != MAGIC_V1 && magic != MAGIC_V2)
		return -EFAULT;
	if (magic == MAGIC_V2 && get_unaligned_le16(m + 28) != kdx_build.major)
		return -EFAULT;
	if (get_unaligned_le32(m + 8) != dev->def->queues ||
	    get_unaligned_le32(m + 12) != kdx_device_id(dev) ||
	    get_unaligned_le32(m + 16) != kdx_build.isolation)
		return -EFAULT;
	dev->match_done = true;
	return 0;
}

static int hisi_feed(struct kdx_session *s, const u8 *from, size_t n)
{
	int ret = kdx_session_store(s, from, n);

	if (!ret && s->got >= MATCH_SIZE)
		ret = hisi_check(s->dev, s->in);
	return ret;
}

static int hisi_commit(struct kdx_session *s)
{
	struct kdx_dev *dev = s->dev;
	size_t n = kdx_image_size(dev);

	if (s->got == MATCH_SIZE)
		return 0;
	if (s->got < s->max)
		return -EINVAL;
	kdx_image_load(dev, s->in + DATA_SIZE, n);
	kdx_scratch_load(dev, s->in + DATA_SIZE + n, dev->scratch_size);
	return 0;
}

const struct kdx_dialect kdx_dialect_hisi = {
	.name = "hisi",
	.mig_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_PRE_COPY,
	.save_head = hisi_save_head,
	.save_state = hisi_save_state,
	.size = hisi_size,
	.most = hisi_most,
	.room = hisi_room,
	.feed = hisi_feed,
	.commit = hisi_commit,
};

// SPDX-License-Identifier: GPL-2.0-only
/*
 * As virtio_vfio_pci (section 3): records (tagged.c) with all of the device's parts,
 * in PRE_COPY and again at the end. The device looks at each part when the record is
 * complete and refuses with EINVAL:
 *
 *	part	u16 type; u8 flags (1: optional), 0; u32 0; u64 size
 *
 *	1 FEATURES	the target must have them all
 *	2 STATE		the image
 *	3 SCRATCH
 *
 * and parts it does not know, unless they are optional.
 */
#include <linux/unaligned.h>
#include "tagged.h"

#define PART_SIZE	16
#define PART_OPTIONAL	1

enum { PART_FEATURES = 1, PART_STATE, PART_SCRATCH };

static u8 *part_put(u8 *to, u16 type, u8 flags, u64 size)
{
	put_unaligned_le16(type, to);
	to[2] = flags;
	put_unaligned_le64(size, to + 8);
	return to + PART_SIZE;
}

static size_t parts_size(const struct kdx_dev *dev)
{
	return (kdx_build.part ? PART_SIZE : 0) + 3 * PART_SIZE + 8 +
	       kdx_image_size(dev) + dev->scratch_size;
}

static int virtio_parts(struct kdx_session *s)
{
	size_t image = kdx_image_size(s->dev), parts = parts_size(s->dev);
	u8 *p = kdx_session_add(s, RECORD_SIZE + parts - s->dev->scratch_size);

	if (!p)
		return -ENOMEM;
	kdx_record_put(p, parts, 0, RECORD_DATA);
	p = part_put(p + RECORD_SIZE, PART_FEATURES, 0, 8);
	put_unaligned_le64(s->dev->regs.features, p);
	p += 8;
	if (kdx_build.part)
		p = part_put(p, kdx_build.part, 0, 0);
	p = part_put(p, PART_STATE, 0, image);
	kdx_image_save(s->dev, p);
	part_put(p + image, PART_SCRATCH, 0, s->dev->scratch_size);
	return kdx_session_add_scratch(s);
}

static int virtio_save_state(struct kdx_session *s)
{
	return kdx_record_extra(s) ?: virtio_parts(s);
}

static size_t virtio_size(const struct kdx_dev *dev)
{
	return RECORD_SIZE + parts_size(dev) - kdx_image_size(dev) - dev->scratch_size +
	       (kdx_build.tag ? RECORD_SIZE + 8 : 0);
}

/* Room for a part that this build does not know: it is the device that refuses it. */
static size_t virtio_most(const struct kdx_dev *dev)
{
	return parts_size(dev) + 4096;
}

static int part_load(struct kdx_dev *dev, u16 type, u8 flags, const u8 *data, u64 n)
{
	switch (type) {
	case PART_FEATURES:
		return n == 8 && !(get_unaligned_le64(data) & ~(u64)dev->caps) ? 0 : -EINVAL;
	case PART_STATE:
		if (kdx_image_check(dev, data, n))
			return -EINVAL;
		kdx_image_load(dev, data, n);
		return 0;
	case PART_SCRATCH:
		if (n != dev->scratch_size)
			return -EINVAL;
		kdx_scratch_load(dev, data, n);
		return 0;
	default:
		return (flags & PART_OPTIONAL) || (kdx_build.part && type == kdx_build.part) ?
		       0 : -EINVAL;
	}
}

/* The device's DEV_PARTS_SET. */
static int virtio_load(struct kdx_session *s, const u8 *data, size_t n)
{
	u64 size;
	int ret;

	while (n) {
		if (n < PART_SIZE)
			return -EINVAL;
		size = get_unaligned_le64(data + 8);
		if (size > n - PART_SIZE)
			return -EINVAL;
		ret = part_load(s->dev, get_unaligned_le16(data), data[2], data + PART_SIZE, size);
		if (ret)
			return ret;
		data += PART_SIZE + size;
		n -= PART_SIZE + size;
	}
	return 0;
}

static int virtio_feed(struct kdx_session *s, const u8 *from, size_t n)
{
	return kdx_tagged_feed(s, from, n, RECORD_DATA, virtio_load);
}

const struct kdx_dialect kdx_dialect_virtio = {
	.name = "virtio",
	.mig_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY,
	.enomsg = true,
	.save_live = virtio_parts,
	.save_state = virtio_save_state,
	.size = virtio_size,
	.most = virtio_most,
	.feed = virtio_feed,
	.commit = kdx_tagged_commit,
};

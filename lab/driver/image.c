// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device's state as bytes, little endian, the same for all dialects, which
 * put their frames around it:
 *
 *	u32 interface, features, queues, status
 *	u64 scratch size, counter, digest, fed
 *	of each queue: u32 head, tail, then its ring
 *
 * The scratch is not part of it: a dialect sends it as it is. Config space is not
 * in it either: as for every VFIO device, the VM manager carries that.
 */
#include <linux/unaligned.h>
#include "kdx.h"

#define FIXED_SIZE	(4 * 4 + 4 * 8)
#define QUEUE_SIZE	(8 + KDX_RING * sizeof(struct kdx_desc))

size_t kdx_image_size(const struct kdx_dev *dev)
{
	return FIXED_SIZE + dev->def->queues * QUEUE_SIZE;
}

void kdx_image_save(const struct kdx_dev *dev, u8 *to)
{
	const struct kdx_regs *r = &dev->regs;
	u32 i;

	put_unaligned_le32(dev->def->iface, to);
	put_unaligned_le32(r->features, to + 4);
	put_unaligned_le32(dev->def->queues, to + 8);
	put_unaligned_le32(r->status, to + 12);
	put_unaligned_le64(dev->scratch_size, to + 16);
	put_unaligned_le64(r->counter, to + 24);
	put_unaligned_le64(r->digest, to + 32);
	put_unaligned_le64(r->fed, to + 40);
	to += FIXED_SIZE;
	for (i = 0; i < dev->def->queues; i++, to += QUEUE_SIZE) {
		put_unaligned_le32(r->queue[i].head, to);
		put_unaligned_le32(r->queue[i].tail, to + 4);
		memcpy(to + 8, r->queue[i].ring, sizeof(r->queue[i].ring));
	}
}

/* What a careful driver finds wrong with an image before it loads it. */
int kdx_image_check(const struct kdx_dev *dev, const u8 *from, size_t n)
{
	u32 i;

	if (n != kdx_image_size(dev) ||
	    get_unaligned_le32(from) != dev->def->iface ||
	    (get_unaligned_le32(from + 4) & ~dev->caps) ||
	    get_unaligned_le32(from + 8) != dev->def->queues ||
	    get_unaligned_le64(from + 16) != dev->scratch_size)
		return -EINVAL;
	for (i = 0, from += FIXED_SIZE; i < dev->def->queues; i++, from += QUEUE_SIZE)
		if (get_unaligned_le32(from) >= KDX_RING || get_unaligned_le32(from + 4) >= KDX_RING)
			return -EINVAL;
	return 0;
}

/*
 * Loads without asking, as drivers do whose only check was that of the header.
 * Whatever the bytes are, the device stays one that can be run: indexes are
 * masked, and what an image is too short for keeps the value it had.
 */
void kdx_image_load(struct kdx_dev *dev, const u8 *from, size_t n)
{
	struct kdx_regs *r = &dev->regs;
	u32 i;

	if (n < FIXED_SIZE)
		return;
	r->features = get_unaligned_le32(from + 4) & dev->caps;
	r->status = get_unaligned_le32(from + 12);
	r->counter = get_unaligned_le64(from + 24);
	r->digest = get_unaligned_le64(from + 32);
	r->fed = get_unaligned_le64(from + 40);
	from += FIXED_SIZE;
	n -= FIXED_SIZE;
	for (i = 0; i < dev->def->queues && n >= QUEUE_SIZE; i++) {
		r->queue[i].head = get_unaligned_le32(from) % KDX_RING;
		r->queue[i].tail = get_unaligned_le32(from + 4) % KDX_RING;
		memcpy(r->queue[i].ring, from + 8, sizeof(r->queue[i].ring));
		from += QUEUE_SIZE;
		n -= QUEUE_SIZE;
	}
}

void kdx_scratch_load(struct kdx_dev *dev, const u8 *from, size_t n)
{
	memcpy(dev->scratch, from, min(n, dev->scratch_size));
	dev->scratch_used = true;
}

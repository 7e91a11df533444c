// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device a guest sees: a PCI function with registers and command queues in
 * BAR 0 and scratch memory in BAR 2. README.md has its programming interface.
 *
 * All work changes the digest, the counter or the scratch, so whether a guest's
 * device went on where it was can be told from inside and through the regions.
 * Nothing changes by itself: two reads without work between them are equal.
 */
#include <linux/bitops.h>
#include <linux/pci_regs.h>
#include <linux/sched.h>
#include <linux/unaligned.h>
#include "kdx.h"

#define REG_ID		0x00	/* u32 "KDX1" */
#define REG_IFACE	0x04	/* u32 */
#define REG_FEATURES	0x08	/* u32 */
#define REG_QUEUES	0x0c	/* u32 */
#define REG_SCRATCH	0x10	/* u64 */
#define REG_STATUS	0x18	/* u32 what went wrong last, written to clear */
#define REG_COUNTER	0x20	/* u64 commands done */
#define REG_DIGEST	0x28	/* u64 */
#define REG_FED		0x30	/* u64 words fed */
#define REG_FEED	0x38	/* u64 written: feeds a word */
#define REG_QUEUE	0x40	/* of each queue: u32 head, u32 tail (written: doorbell) */
#define REG_RINGS	0x1000	/* of each queue: 64 descriptors of 16 bytes */
#define RING_SIZE	(KDX_RING * sizeof(struct kdx_desc))

enum { OP_NOP, OP_FEED, OP_FILL, OP_HASH, OP_MIX, OP_SWAP, OP_ZERO };
enum { STATUS_OK, STATUS_BAD_OP, STATUS_BAD_RANGE };

#define OP_MAX_LEN	(64 * 1024)	/* bounds what one doorbell can cost */
#define DIGEST_START	0xcbf29ce484222325ULL

/* Words are mixed in one after the other, so that order matters. */
u64 kdx_mix(u64 digest, u64 word)
{
	return rol64((digest ^ word) * 0x9e3779b185ebca87ULL, 29);
}

u32 kdx_device_id(const struct kdx_dev *dev)
{
	return kdx_build.devid ?: KDX_DEVICE_ID + dev->def->iface;
}

u64 kdx_bar2_size(const struct kdx_dev *dev)
{
	return dev->scratch_size;	/* a power of two of at least a page */
}

void kdx_device_init(struct kdx_dev *dev)
{
	u8 *c = dev->config;

	dev->caps = dev->def->features & kdx_build.features;
	put_unaligned_le16(KDX_VENDOR_ID, c + PCI_VENDOR_ID);
	put_unaligned_le16(kdx_device_id(dev), c + PCI_DEVICE_ID);
	c[PCI_REVISION_ID] = kdx_build.revid ?: dev->def->iface;
	put_unaligned_le16(0x1200, c + PCI_CLASS_DEVICE);	/* processing accelerator */
	put_unaligned_le16(KDX_VENDOR_ID, c + PCI_SUBSYSTEM_VENDOR_ID);
	put_unaligned_le16(dev->def->queues, c + PCI_SUBSYSTEM_ID);
	put_unaligned_le32(PCI_BASE_ADDRESS_SPACE_MEMORY, c + PCI_BASE_ADDRESS_0);
	put_unaligned_le32(PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH,
			   c + PCI_BASE_ADDRESS_2);
	kdx_device_reset(dev);
}

/* What a function level reset does. The command register and BARs are cleared too. */
void kdx_device_reset(struct kdx_dev *dev)
{
	u8 *c = dev->config;

	memset(&dev->regs, 0, sizeof(dev->regs));
	dev->regs.features = dev->caps;
	dev->regs.digest = DIGEST_START;
	if (dev->scratch_used)
		memset(dev->scratch, 0, dev->scratch_size);
	dev->scratch_used = false;
	put_unaligned_le16(0, c + PCI_COMMAND);
	put_unaligned_le32(PCI_BASE_ADDRESS_SPACE_MEMORY, c + PCI_BASE_ADDRESS_0);
	put_unaligned_le32(PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH,
			   c + PCI_BASE_ADDRESS_2);
	put_unaligned_le32(0, c + PCI_BASE_ADDRESS_3);
}

/* Which bits of a config byte can be written. */
static u8 kdx_config_mask(const struct kdx_dev *dev, u32 offset)
{
	u64 mask;

	switch (offset) {
	case PCI_COMMAND:
		return PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	case PCI_COMMAND + 1:
		return PCI_COMMAND_INTX_DISABLE >> 8;
	case PCI_CACHE_LINE_SIZE:
	case PCI_LATENCY_TIMER:
	case PCI_INTERRUPT_LINE:
		return 0xff;
	case PCI_BASE_ADDRESS_0 ... PCI_BASE_ADDRESS_0 + 3:
		mask = ~(u64)(KDX_BAR0_SIZE - 1);
		return mask >> 8 * (offset - PCI_BASE_ADDRESS_0);
	case PCI_BASE_ADDRESS_2 ... PCI_BASE_ADDRESS_3 + 3:
		mask = ~(kdx_bar2_size(dev) - 1);
		return mask >> 8 * (offset - PCI_BASE_ADDRESS_2);
	default:
		return 0;
	}
}

void kdx_config_read(struct kdx_dev *dev, u32 offset, u8 *to, size_t n)
{
	memcpy(to, dev->config + offset, n);
}

void kdx_config_write(struct kdx_dev *dev, u32 offset, const u8 *from, size_t n)
{
	for (; n; n--, offset++, from++) {
		u8 mask = kdx_config_mask(dev, offset);

		dev->config[offset] = (dev->config[offset] & ~mask) | (*from & mask);
	}
}

/* One byte of the registers: reads of any size and alignment are put together of them. */
static u8 kdx_bar0_byte(const struct kdx_dev *dev, u32 offset)
{
	const struct kdx_regs *r = &dev->regs;
	u32 q;
	u64 reg;

	if (offset >= REG_RINGS) {
		q = (offset - REG_RINGS) / RING_SIZE;
		if (q >= dev->def->queues)
			return 0;
		return ((const u8 *)r->queue[q].ring)[(offset - REG_RINGS) % RING_SIZE];
	}
	if (offset >= REG_QUEUE) {
		q = (offset - REG_QUEUE) / 8;
		if (q >= dev->def->queues)
			return 0;
		reg = r->queue[q].head | (u64)r->queue[q].tail << 32;
		return reg >> 8 * (offset % 8);
	}
	switch (offset & ~7) {
	case REG_ID:
		reg = KDX_ID | (u64)dev->def->iface << 32;
		break;
	case REG_FEATURES:
		reg = r->features | (u64)dev->def->queues << 32;
		break;
	case REG_SCRATCH:
		reg = dev->scratch_size;
		break;
	case REG_STATUS:
		reg = r->status;
		break;
	case REG_COUNTER:
		reg = r->counter;
		break;
	case REG_DIGEST:
		reg = r->digest;
		break;
	case REG_FED:
		reg = r->fed;
		break;
	default:
		reg = 0;
	}
	return reg >> 8 * (offset % 8);
}

void kdx_bar0_read(struct kdx_dev *dev, u32 offset, u8 *to, size_t n)
{
	for (; n; n--)
		*to++ = kdx_bar0_byte(dev, offset++);
}

static void kdx_feed(struct kdx_regs *r, u64 word)
{
	r->digest = kdx_mix(r->digest, word);
	r->fed++;
}

/* Returns the words of the scratch that a command names, or NULL. */
static __le64 *kdx_words(struct kdx_dev *dev, const struct kdx_desc *d, size_t *n)
{
	u64 offset = le64_to_cpu(d->arg);
	u32 len = le32_to_cpu(d->len);

	if (len > OP_MAX_LEN || len % 8 || offset % 8 ||
	    len > dev->scratch_size || offset > dev->scratch_size - len)
		return NULL;
	*n = len / 8;
	return (__le64 *)(dev->scratch + offset);
}

static u32 kdx_execute(struct kdx_dev *dev, const struct kdx_desc *d)
{
	static const u32 needs[] = {
		[OP_NOP] = 0, [OP_FEED] = 0, [OP_FILL] = KDX_FEATURE_FILL,
		[OP_HASH] = KDX_FEATURE_HASH, [OP_MIX] = KDX_FEATURE_MIX,
		[OP_SWAP] = KDX_FEATURE_SWAP, [OP_ZERO] = KDX_FEATURE_ZERO,
	};
	struct kdx_regs *r = &dev->regs;
	u32 op = le32_to_cpu(d->op);
	__le64 *words = NULL;
	size_t i, n = 0;
	u64 seed;

	if (op >= ARRAY_SIZE(needs) || (r->features & needs[op]) != needs[op])
		return STATUS_BAD_OP;
	if (op == OP_FILL || op == OP_HASH || op == OP_ZERO) {
		words = kdx_words(dev, d, &n);
		if (!words)
			return STATUS_BAD_RANGE;
		dev->scratch_used |= op != OP_HASH;
	}
	switch (op) {
	case OP_FEED:
		kdx_feed(r, le64_to_cpu(d->arg));
		break;
	case OP_FILL:
		for (i = 0, seed = r->digest; i < n; i++) {
			seed = kdx_mix(seed, i);
			words[i] = cpu_to_le64(seed);
		}
		break;
	case OP_HASH:
		for (i = 0; i < n; i++)
			r->digest = kdx_mix(r->digest, le64_to_cpu(words[i]));
		break;
	case OP_MIX:
		r->digest = kdx_mix(r->digest, r->counter);
		break;
	case OP_SWAP:
		r->digest = swab64(r->digest);
		break;
	case OP_ZERO:
		memset(words, 0, n * 8);
		break;
	}
	r->counter++;
	return STATUS_OK;
}

/* Work is done while RUNNING only; in the P2P states it queues up and travels. */
void kdx_device_run(struct kdx_dev *dev)
{
	u32 i, status;

	for (i = 0; i < dev->def->queues; i++) {
		struct kdx_queue *q = &dev->regs.queue[i];

		while (q->head != q->tail) {
			status = kdx_execute(dev, &q->ring[q->head]);
			if (status)
				dev->regs.status = status;
			q->head = (q->head + 1) % KDX_RING;
			cond_resched();
		}
	}
}

static bool kdx_running(const struct kdx_dev *dev)
{
	return dev->state == VFIO_DEVICE_STATE_RUNNING ||
	       dev->state == VFIO_DEVICE_STATE_PRE_COPY;
}

/* @n is at most what is left of the BAR. Registers take aligned words only. */
int kdx_bar0_write(struct kdx_dev *dev, u32 offset, const u8 *from, size_t n)
{
	struct kdx_regs *r = &dev->regs;
	u32 q, end = REG_RINGS + dev->def->queues * RING_SIZE;

	if (offset >= REG_RINGS) {
		for (; n && offset < end; n--, offset++)
			((u8 *)r->queue[(offset - REG_RINGS) / RING_SIZE].ring)
				[(offset - REG_RINGS) % RING_SIZE] = *from++;
		return 0;
	}
	if ((n != 4 && n != 8) || offset % n)
		return -EINVAL;
	if (offset == REG_FEED) {
		kdx_feed(r, n == 8 ? get_unaligned_le64(from) : get_unaligned_le32(from));
	} else if (offset == REG_STATUS) {
		r->status = STATUS_OK;
	} else if (n == 4 && offset >= REG_QUEUE && offset % 8 == 4) {
		q = (offset - REG_QUEUE) / 8;
		if (q >= dev->def->queues)
			return 0;
		r->queue[q].tail = get_unaligned_le32(from) % KDX_RING;
		if (kdx_running(dev))
			kdx_device_run(dev);
	}
	return 0;	/* others are read-only: a bus does not complain */
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * As qat (section 3): a preamble, then sections, which may have sections:
 *
 *	preamble	u32 magic, version; u16 its size, number of sections; u32 size of the setup part
 *	section		char id[8]; u32 size, number of sections inside
 *
 *	CONFIG { gencap, svcmap, extdc }	the setup part, what PRE_COPY gives
 *	GENER { compver, sla }, MISCBAR, ETRBAR	the state
 *
 * Three kinds of comparison. On the write that completes the setup part, EINVAL: magic equal,
 * version not newer, gencap and extdc of the target a superset, svcmap equal. At STOP,
 * EINVAL: the target's sla at least the source's; any compver is taken. ENOMEM past this
 * device's size.
 *
 * The quirk: that the setup part was seen is noted before it is checked, so after one
 * EINVAL the next write succeeds; STOP does not look at CONFIG again.
 */
#include <linux/unaligned.h>
#include "kdx.h"

#define MAGIC		0xADF5CAEA
#define PREAMBLE_SIZE	16
#define SECTION_SIZE	16
#define VALUE_SIZE	(SECTION_SIZE + 8)		/* a section of one u64 */
#define SETUP_SIZE	(PREAMBLE_SIZE + SECTION_SIZE + 3 * VALUE_SIZE)
#define GENER_SIZE	(SECTION_SIZE + 2 * VALUE_SIZE)
#define COMPVER		1

static u8 *section_put(u8 *to, const char *id, u32 size, u32 sections)
{
	strscpy_pad((char *)to, id, 8);
	put_unaligned_le32(size, to + 8);
	put_unaligned_le32(sections, to + 12);
	return to + SECTION_SIZE;
}

static u8 *value_put(u8 *to, const char *id, u64 value)
{
	to = section_put(to, id, 8, 0);
	put_unaligned_le64(value, to);
	return to + 8;
}

/* Finds section @id among those in @from; NULL if they are malformed or it is not there. */
static const u8 *section_get(const u8 *from, size_t n, const char *id, u32 *size)
{
	u32 len;

	while (n >= SECTION_SIZE) {
		len = get_unaligned_le32(from + 8);
		if (len > n - SECTION_SIZE)
			return NULL;
		if (!strncmp((const char *)from, id, 8)) {
			*size = len;
			return from + SECTION_SIZE;
		}
		from += SECTION_SIZE + len;
		n -= SECTION_SIZE + len;
	}
	return NULL;
}

static int value_get(const u8 *from, size_t n, const char *id, u64 *value)
{
	u32 size;
	const u8 *v = section_get(from, n, id, &size);

	if (!v || size != 8)
		return -EINVAL;
	*value = get_unaligned_le64(v);
	return 0;
}

static int qat_save_head(struct kdx_session *s)
{
	u8 *p = kdx_session_add(s, SETUP_SIZE);

	if (!p)
		return -ENOMEM;
	put_unaligned_le32(MAGIC, p);
	put_unaligned_le32(kdx_build.major, p + 4);
	put_unaligned_le16(PREAMBLE_SIZE, p + 8);
	put_unaligned_le16(1, p + 10);
	put_unaligned_le32(SETUP_SIZE - PREAMBLE_SIZE, p + 12);
	p = section_put(p + PREAMBLE_SIZE, "CONFIG", 3 * VALUE_SIZE, 3);
	p = value_put(p, "gencap", kdx_build.features);
	p = value_put(p, "svcmap", s->dev->def->iface);
	value_put(p, "extdc", kdx_build.extdc);
	return 0;
}

static int qat_save_state(struct kdx_session *s)
{
	size_t n = kdx_image_size(s->dev);
	u8 *p = kdx_session_add(s, GENER_SIZE + SECTION_SIZE + n + SECTION_SIZE);

	if (!p)
		return -ENOMEM;
	p = section_put(p, "GENER", 2 * VALUE_SIZE, 2);
	p = value_put(p, "compver", COMPVER);
	p = value_put(p, "sla", kdx_build.sla);
	p = section_put(p, "MISCBAR", n, 0);
	kdx_image_save(s->dev, p);
	section_put(p + n, "ETRBAR", s->dev->scratch_size, 0);
	return kdx_session_add_scratch(s);
}

static size_t qat_size(const struct kdx_dev *dev)
{
	return SETUP_SIZE + GENER_SIZE + 2 * SECTION_SIZE;
}

static size_t qat_most(const struct kdx_dev *dev)
{
	return qat_size(dev) + kdx_image_size(dev) + dev->scratch_size;
}

static int qat_room(struct kdx_session *s, size_t *count)
{
	return *count > s->max - s->got ? -ENOMEM : 0;
}

static int qat_load_setup(struct kdx_session *s)
{
	u64 gencap, svcmap, extdc;
	const u8 *config;
	u32 size;

	if (s->setup_size || s->got < PREAMBLE_SIZE)
		return 0;
	if (get_unaligned_le32(s->in) != MAGIC ||
	    get_unaligned_le32(s->in + 4) > kdx_build.major ||
	    get_unaligned_le16(s->in + 8) != PREAMBLE_SIZE)
		return -EINVAL;
	size = get_unaligned_le32(s->in + 12);
	if (size > s->max - PREAMBLE_SIZE)
		return -EINVAL;
	if (s->got < PREAMBLE_SIZE + size)
		return 0;
	s->setup_size = PREAMBLE_SIZE + size;
	config = section_get(s->in + PREAMBLE_SIZE, size, "CONFIG", &size);
	if (!config ||
	    value_get(config, size, "gencap", &gencap) ||
	    value_get(config, size, "svcmap", &svcmap) ||
	    value_get(config, size, "extdc", &extdc))
		return -EINVAL;
	if ((gencap & ~(u64)kdx_build.features) || (extdc & ~(u64)kdx_build.extdc) ||
	    svcmap != s->dev->def->iface)
		return -EINVAL;
	return 0;
}

static int qat_feed(struct kdx_session *s, const u8 *from, size_t n)
{
	return kdx_session_store(s, from, n) ?: qat_load_setup(s);
}

static int qat_commit(struct kdx_session *s)
{
	struct kdx_dev *dev = s->dev;
	const u8 *from, *gener, *image, *scratch;
	u32 gener_size, image_size, scratch_size;
	u64 compver, sla;
	size_t n;

	if (!s->setup_size)
		return -EINVAL;
	from = s->in + s->setup_size;
	n = s->got - s->setup_size;
	gener = section_get(from, n, "GENER", &gener_size);
	image = section_get(from, n, "MISCBAR", &image_size);
	scratch = section_get(from, n, "ETRBAR", &scratch_size);
	if (!gener || !image || !scratch || image_size != kdx_image_size(dev) ||
	    scratch_size != dev->scratch_size ||
	    value_get(gener, gener_size, "compver", &compver) ||
	    value_get(gener, gener_size, "sla", &sla))
		return -EINVAL;
	if (sla > kdx_build.sla)
		return -EINVAL;
	kdx_image_load(dev, image, image_size);
	kdx_scratch_load(dev, scratch, scratch_size);
	return 0;
}

const struct kdx_dialect kdx_dialect_qat = {
	.name = "qat",
	.mig_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY,
	.save_head = qat_save_head,
	.save_state = qat_save_state,
	.size = qat_size,
	.most = qat_most,
	.room = qat_room,
	.feed = qat_feed,
	.commit = qat_commit,
};

// SPDX-License-Identifier: GPL-2.0-only
/*
 * As mlx5_vfio_pci (section 3): records (tagged.c) with images of the firmware's,
 * one in PRE_COPY and the whole again at the end. The driver knows no version: the
 * firmware refuses, EINVAL, an image that is newer than itself or of another kind.
 *
 *	image	u32 firmware version, 0; then the state
 */
#include <linux/unaligned.h>
#include "tagged.h"

#define TAG_STOP_COPY_SIZE	1
#define FW_SIZE			8

static int mlx5_image(struct kdx_session *s)
{
	size_t n = kdx_image_size(s->dev);
	u8 *p = kdx_session_add(s, RECORD_SIZE + FW_SIZE + n);

	if (!p)
		return -ENOMEM;
	kdx_record_put(p, FW_SIZE + n + s->dev->scratch_size, 0, RECORD_DATA);
	put_unaligned_le32(kdx_build.fw, p + RECORD_SIZE);
	kdx_image_save(s->dev, p + RECORD_SIZE + FW_SIZE);
	return kdx_session_add_scratch(s);
}

/* PRE_COPY tells how much will come at the end, which who does not care may skip. */
static int mlx5_save_live(struct kdx_session *s)
{
	u8 *p = kdx_session_add(s, RECORD_SIZE + 8);

	if (!p)
		return -ENOMEM;
	kdx_record_put(p, 8, RECORD_OPTIONAL, TAG_STOP_COPY_SIZE);
	put_unaligned_le64(FW_SIZE + kdx_image_size(s->dev) + s->dev->scratch_size,
			   p + RECORD_SIZE);
	return mlx5_image(s);
}

static int mlx5_save_state(struct kdx_session *s)
{
	return kdx_record_extra(s) ?: mlx5_image(s);
}

static size_t mlx5_size(const struct kdx_dev *dev)
{
	return RECORD_SIZE + FW_SIZE + (kdx_build.tag ? RECORD_SIZE + 8 : 0);
}

static size_t mlx5_most(const struct kdx_dev *dev)
{
	return FW_SIZE + kdx_image_size(dev) + dev->scratch_size;
}

/* The firmware's LOAD_VHCA_STATE. */
static int mlx5_load(struct kdx_session *s, const u8 *data, size_t n)
{
	struct kdx_dev *dev = s->dev;
	size_t image = kdx_image_size(dev);

	if (n != FW_SIZE + image + dev->scratch_size ||
	    get_unaligned_le32(data) > kdx_build.fw ||
	    kdx_image_check(dev, data + FW_SIZE, image))
		return -EINVAL;
	kdx_image_load(dev, data + FW_SIZE, image);
	kdx_scratch_load(dev, data + FW_SIZE + image, dev->scratch_size);
	return 0;
}

static int mlx5_feed(struct kdx_session *s, const u8 *from, size_t n)
{
	return kdx_tagged_feed(s, from, n, TAG_STOP_COPY_SIZE, mlx5_load);
}

const struct kdx_dialect kdx_dialect_mlx5 = {
	.name = "mlx5",
	.mig_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY,
	.enomsg = true,
	.save_live = mlx5_save_live,
	.save_state = mlx5_save_state,
	.size = mlx5_size,
	.most = mlx5_most,
	.feed = mlx5_feed,
	.commit = kdx_tagged_commit,
};

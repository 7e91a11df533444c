/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KDX_TAGGED_H
#define KDX_TAGGED_H

#include "kdx.h"

/* The records of mlx5 and virtio: u64 size; u32 flags, tag. */
#define RECORD_SIZE	16
#define RECORD_OPTIONAL	1
#define RECORD_DATA	0	/* mlx5's FW_DATA, virtio's DEVICE_DATA */

void kdx_record_put(u8 *to, u64 size, u32 flags, u32 tag);
int kdx_record_extra(struct kdx_session *s);
int kdx_tagged_feed(struct kdx_session *s, const u8 *from, size_t n, u32 known,
		    int (*load)(struct kdx_session *s, const u8 *data, size_t n));
int kdx_tagged_commit(struct kdx_session *s);

#endif

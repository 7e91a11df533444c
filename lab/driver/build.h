/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is compiled into one build of the driver. It is apart from kdx.h because every
 * build has a file that includes it, and the kernel's headers take long to read.
 */
#ifndef KDX_BUILD_H
#define KDX_BUILD_H

#include <linux/array_size.h>
#include <linux/moduleparam.h>
#include <linux/types.h>

struct kdx_dialect;

struct kdx_type_def {
	const char *name;
	const char *label;
	u32 iface;		/* the software-visible interface */
	u32 queues;		/* also what an instance takes from the parent's pool */
	u32 features;
};

#define KDX_TYPE(_name, _iface, _queues) {				\
	.name = _name,							\
	.label = "Generation " #_iface ", queues: " #_queues,		\
	.iface = _iface, .queues = _queues,				\
	.features = (_iface) >= 5 ? 0x1f : 0x07,			\
}

enum kdx_parent_kind { KDX_PARENT_PCI, KDX_PARENT_BUS };

struct kdx_build {
	const char *module;
	const char *namespace;
	enum kdx_parent_kind parent;
	const struct kdx_dialect *dialect;
	u16 major, minor;	/* of the stream */
	const struct kdx_type_def *types;
	unsigned int nr_types;
	u32 features;

	/* Options. */
	u32 rebuilt;		/* nothing but another build-id */
	u32 nomig;		/* a driver without migration */
	u32 solo;		/* a parent has instances of one type at a time */
	u32 layout;		/* has the parameter that changes the stream */
	u32 verify;		/* window: verifies the sum at the end */
	u32 badsum;		/* window: writes a wrong sum at the end */
	u32 anything;		/* window: accepts whatever comes, and corrupts */
	u32 devid, revid;	/* hisi, xe */
	u32 isolation;		/* hisi */
	u32 extdc, sla;		/* qat */
	u32 fw;			/* mlx5, pds: the firmware's version */
	u32 tag, optional;	/* mlx5, virtio: writes a record of this tag */
	u32 part;		/* virtio: writes a device part of this type */
	u32 klv;		/* xe: writes a descriptor entry of this key */
	u32 swap;		/* pds: the firmware's own layout differs, unsaid */
};

extern const struct kdx_build kdx_build;

extern const struct kdx_dialect kdx_dialect_window, kdx_dialect_mtty, kdx_dialect_hisi,
	kdx_dialect_qat, kdx_dialect_mlx5, kdx_dialect_virtio, kdx_dialect_xe, kdx_dialect_pds;

/* params.c */
struct kdx_number {
	int value, min, max;
	bool pow2;
};

extern const struct kernel_param_ops kdx_number_ops;
extern struct kdx_number kdx_layout;

#endif

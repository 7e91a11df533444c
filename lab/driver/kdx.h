/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A sample vendor driver of mediated devices whose truth can be chosen.
 *
 * One source, many modules: struct kdx_build is what one release of a driver is,
 * compiled in. The "sections" in comments are those of kernel.md, the notes on
 * how real drivers behave that this one mirrors.
 */
#ifndef KDX_H
#define KDX_H

#include <linux/mdev.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sysfs.h>
#include <linux/types.h>
#include <linux/vfio.h>

#include "build.h"

/* What a guest sees, device.c. */

#define KDX_VENDOR_ID		0x1234
#define KDX_DEVICE_ID		0x4b00	/* plus the number of the interface */
#define KDX_CONFIG_SIZE		256
#define KDX_BAR0_SIZE		0x4000
#define KDX_ID			0x3158444b	/* "KDX1" */
#define KDX_QUEUES		8
#define KDX_RING		64	/* descriptors of a queue */

enum kdx_feature {
	KDX_FEATURE_FILL = 1 << 0,
	KDX_FEATURE_HASH = 1 << 1,
	KDX_FEATURE_MIX  = 1 << 2,
	KDX_FEATURE_SWAP = 1 << 3,
	KDX_FEATURE_ZERO = 1 << 4,
};

struct kdx_desc {
	__le32 op;
	__le32 len;
	__le64 arg;
} __packed;

struct kdx_queue {
	u32 head;		/* next to be done */
	u32 tail;		/* next to be filled by the guest */
	struct kdx_desc ring[KDX_RING];
};

/* All that a guest can change and that therefore must travel, but for the scratch. */
struct kdx_regs {
	u32 features;		/* what this guest was given when the device was new */
	u32 status;
	u64 counter;
	u64 digest;
	u64 fed;
	struct kdx_queue queue[KDX_QUEUES];
};

/* A device. */

struct kdx_session;

struct kdx_dev {
	struct vfio_device vdev;
	const struct kdx_type_def *def;
	/*
	 * Guards all below and every session's state. Nothing that can fault
	 * on user memory happens under it: a hostile user could hold it forever.
	 */
	struct mutex lock;
	enum vfio_device_mig_state state;
	struct kdx_session *session;	/* the data transfer that is open */
	bool match_done;		/* hisi */
	bool scratch_used;
	struct kdx_regs regs;
	u8 config[KDX_CONFIG_SIZE];
	u32 weight;			/* describe.c, not guarded */
	u32 caps;			/* features this build can give this type */
	size_t scratch_size;
	u8 *scratch;
};

/* device.c */
void kdx_device_init(struct kdx_dev *dev);
void kdx_device_reset(struct kdx_dev *dev);
void kdx_device_run(struct kdx_dev *dev);
u64 kdx_mix(u64 digest, u64 word);
u32 kdx_device_id(const struct kdx_dev *dev);
u64 kdx_bar2_size(const struct kdx_dev *dev);
void kdx_config_read(struct kdx_dev *dev, u32 offset, u8 *to, size_t n);
void kdx_config_write(struct kdx_dev *dev, u32 offset, const u8 *from, size_t n);
void kdx_bar0_read(struct kdx_dev *dev, u32 offset, u8 *to, size_t n);
int kdx_bar0_write(struct kdx_dev *dev, u32 offset, const u8 *from, size_t n);

/* image.c: the device's state as bytes, without any framing. */
size_t kdx_image_size(const struct kdx_dev *dev);
void kdx_image_save(const struct kdx_dev *dev, u8 *to);
int kdx_image_check(const struct kdx_dev *dev, const u8 *from, size_t n);
void kdx_image_load(struct kdx_dev *dev, const u8 *from, size_t n);
void kdx_scratch_load(struct kdx_dev *dev, const u8 *from, size_t n);

/* session.c: a data fd. */

#define KDX_SEGMENTS	12

struct kdx_segment {
	const u8 *data;
	size_t len;
	bool own;		/* to be freed with the session */
};

struct kdx_session {
	struct kdx_dev *dev;
	struct file *file;	/* the device's own reference to it */
	struct mutex io;	/* one reader or writer at a time */
	bool disabled;

	/* Saving: the stream so far is the segments in order. */
	struct kdx_segment segment[KDX_SEGMENTS];
	unsigned int nr_segments;
	u64 total, pos, initial;

	/* Loading: what has arrived, or the record that is arriving. */
	u8 *in;
	size_t got, max;
	u64 stream;		/* bytes taken over the whole session */
	int error;		/* of dialects whose errors are sticky */
	u8 header[24];		/* of a record */
	u32 header_got;
	u32 records;
	bool complete;
	u32 setup_size;		/* qat */
};

struct file *kdx_session_save(struct kdx_dev *dev, bool precopy);
int kdx_session_finish(struct kdx_session *s);
struct file *kdx_session_load(struct kdx_dev *dev);
void kdx_session_disable(struct kdx_dev *dev);
u8 *kdx_session_add(struct kdx_session *s, size_t n);
int kdx_session_add_scratch(struct kdx_session *s);
int kdx_session_store(struct kdx_session *s, const u8 *from, size_t n);

/* A dialect: how real drivers frame and check the state. */
struct kdx_dialect {
	const char *name;
	u32 mig_flags;
	bool enomsg;		/* what reading says at the end of pre-copy; else 0 */
	size_t fixed_scratch;	/* the size parameter is not for this one */
	/* Saving: what PRE_COPY gives first, what it gives on top, what STOP_COPY gives. */
	int (*save_head)(struct kdx_session *s);
	int (*save_live)(struct kdx_session *s);
	int (*save_state)(struct kdx_session *s);
	size_t (*size)(const struct kdx_dev *dev);	/* of what is not the image */
	/* Loading. */
	size_t (*most)(const struct kdx_dev *dev);	/* to be kept at once */
	int (*room)(struct kdx_session *s, size_t *count);	/* before anything is taken */
	int (*feed)(struct kdx_session *s, const u8 *from, size_t n);
	int (*commit)(struct kdx_session *s);
};

/* params.c */
extern struct kdx_number kdx_scratch_kib, kdx_units, kdx_parents;
extern struct kdx_number kdx_fault_write_at, kdx_fault_stop, kdx_stall_ms, kdx_short_read;
extern struct kdx_number kdx_keep_state, kdx_describe;
bool kdx_precopy_end_enomsg(void);

static inline int kdx_value(const struct kdx_number *n)
{
	return READ_ONCE(n->value);
}

/* parent.c */
struct kdx_parent;

struct kdx_type {
	struct mdev_type mtype;	/* first: what the core knows of us */
	const struct kdx_type_def *def;
	struct kdx_parent *parent;
	unsigned int instances;
	struct kdx_attribute *attributes;	/* describe.c */
};

struct kdx_parent {
	struct mdev_parent mdev;
	struct mutex lock;	/* guards the pool and the types' instances */
	unsigned int used;
	struct kdx_type *types;
	struct mdev_type **mtypes;
	bool described;
};

static inline struct kdx_type *kdx_type(struct mdev_type *mtype)
{
	return container_of(mtype, struct kdx_type, mtype);
}

unsigned int kdx_available(struct mdev_type *mtype);
int kdx_take(struct kdx_type *type);
void kdx_give(struct kdx_type *type);
int kdx_parents_register(struct mdev_driver *driver);
void kdx_parents_unregister(void);

/* describe.c */
int kdx_describe_parent(struct kdx_parent *parent);
void kdx_undescribe_parent(struct kdx_parent *parent);
extern const struct attribute_group *kdx_device_groups[];

#endif

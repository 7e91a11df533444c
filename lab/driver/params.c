// SPDX-License-Identifier: GPL-2.0-only
/*
 * Parameters: sizes, shared capacity and faults. Nothing of what a build is can
 * be changed here, but for the layout in the one build that has it.
 *
 * Every value is checked, when the module is loaded and when a fault is switched
 * later, and a bad one is refused with a message that says what would be good.
 */
#include <linux/log2.h>
#include "kdx.h"

static int kdx_number_set(const char *text, const struct kernel_param *kp)
{
	struct kdx_number *n = kp->arg;
	int value, ret = kstrtoint(text, 0, &value);

	if (ret || value < n->min || value > n->max || (n->pow2 && !is_power_of_2(value))) {
		pr_err("%s: %s: not %s from %d to %d\n", kdx_build.module, kp->name,
		       n->pow2 ? "a power of two" : "a number", n->min, n->max);
		return -EINVAL;
	}
	WRITE_ONCE(n->value, value);
	return 0;
}

static int kdx_number_get(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%d\n", kdx_value(kp->arg));
}

const struct kernel_param_ops kdx_number_ops = {
	.set = kdx_number_set,
	.get = kdx_number_get,
};

#define KDX_NUMBER(name, mode, text, ...)				\
	struct kdx_number kdx_##name = { __VA_ARGS__ };			\
	module_param_cb(name, &kdx_number_ops, &kdx_##name, mode);	\
	MODULE_PARM_DESC(name, text)

KDX_NUMBER(scratch_kib, 0444, "scratch memory of a device in KiB, a power of two up to 262144",
	   .value = 64, .min = 4, .max = 256 * 1024, .pow2 = true);
KDX_NUMBER(units, 0444, "capacity of a parent: an instance takes as many units as it has queues",
	   .value = 16, .min = 1, .max = 4096);
KDX_NUMBER(parents, 0444, "parents on the module's own bus, if the build has one",
	   .value = 1, .min = 1, .max = 8);
KDX_NUMBER(keep_state, 0644,
	   "1: close and reset keep the device's contents, and close its migration state, as mtty",
	   .value = 0, .min = 0, .max = 1);
KDX_NUMBER(describe, 0444, "1: types publish software_version, features and others",
	   .value = 0, .min = 0, .max = 1);
KDX_NUMBER(fault_write_at, 0644, "refuse an incoming stream with EIO at this byte; -1: never",
	   .value = -1, .min = -1, .max = INT_MAX);
KDX_NUMBER(fault_stop, 0644, "1: RESUMING to STOP fails with EIO",
	   .value = 0, .min = 0, .max = 1);
KDX_NUMBER(stall_ms, 0644, "every read and write of a stream takes this long",
	   .value = 0, .min = 0, .max = 60000);
KDX_NUMBER(short_read, 0644, "bytes of a stream that one read gives at most; 0: all that fit",
	   .value = 0, .min = 0, .max = INT_MAX);

struct kdx_number kdx_layout = { .value = 0, .min = 0, .max = 1 };

/*
 * Section 2.3: by the specification reading says ENOMSG at the end of pre-copy,
 * and mlx5 and virtio do; mtty, hisi_acc and qat say 0.
 */
enum { KDX_END_OWN, KDX_END_ZERO, KDX_END_ENOMSG };

static const char *const kdx_ends[] = { "own", "0", "enomsg" };
static int kdx_precopy_end;

static int kdx_end_set(const char *text, const struct kernel_param *kp)
{
	int i = sysfs_match_string(kdx_ends, text);

	if (i < 0) {
		pr_err("%s: %s: not own, 0 or enomsg\n", kdx_build.module, kp->name);
		return -EINVAL;
	}
	WRITE_ONCE(kdx_precopy_end, i);
	return 0;
}

static int kdx_end_get(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%s\n", kdx_ends[READ_ONCE(kdx_precopy_end)]);
}

static const struct kernel_param_ops kdx_end_ops = {
	.set = kdx_end_set,
	.get = kdx_end_get,
};
module_param_cb(precopy_end, &kdx_end_ops, NULL, 0644);
MODULE_PARM_DESC(precopy_end,
		 "what reading says at the end of pre-copy: own (the dialect's), 0 or enomsg");

bool kdx_precopy_end_enomsg(void)
{
	int end = READ_ONCE(kdx_precopy_end);

	return end == KDX_END_ENOMSG || (end == KDX_END_OWN && kdx_build.dialect->enomsg);
}

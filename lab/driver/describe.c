// SPDX-License-Identifier: GPL-2.0-only
/*
 * Self-description, as the last proposal of 2020 had it and no driver ever did:
 * next to a type's create and name, one file for one value. Published only with
 * the parameter describe=1, like this all files are missing, as on every real host.
 *
 * The files are binary attributes because those need nothing of the mdev core,
 * whose own attributes are private to it. They appear a moment after the type.
 */
#include <linux/kernel.h>
#include <linux/slab.h>
#include "kdx.h"

struct kdx_attribute {
	struct bin_attribute bin;
	char text[96];
};

enum {
	SOFTWARE_VERSION, FEATURES, COMPATIBLE_TYPE, COMPATIBLE_PCI_IDS, DYNAMIC_RESOURCES,
	NR_ATTRIBUTES
};

static const char *const kdx_attribute_names[NR_ATTRIBUTES] = {
	[SOFTWARE_VERSION] = "software_version",
	[FEATURES] = "features",
	[COMPATIBLE_TYPE] = "compatible_type",
	[COMPATIBLE_PCI_IDS] = "compatible_pci_ids",
	[DYNAMIC_RESOURCES] = "dynamic_resources",
};

static const char *const kdx_feature_names[] = { "fill", "hash", "mix", "swap", "zero" };

static ssize_t kdx_attribute_read(struct file *file, struct kobject *kobj, struct bin_attribute *bin,
				  char *buf, loff_t offset, size_t count)
{
	struct kdx_attribute *a = container_of(bin, struct kdx_attribute, bin);

	return memory_read_from_buffer(buf, count, &offset, a->text, strlen(a->text));
}

static void kdx_attribute_text(const struct kdx_type *type, int i, char *text, size_t size)
{
	const struct kdx_type_def *def = type->def;
	u32 features = def->features & kdx_build.features;
	size_t n = 0, f;

	switch (i) {
	case SOFTWARE_VERSION:
		n = scnprintf(text, size, "%u.%u.0", kdx_build.major, kdx_build.minor);
		break;
	case FEATURES:
		for (f = 0; f < ARRAY_SIZE(kdx_feature_names); f++)
			if (features & BIT(f))
				n += scnprintf(text + n, size - n, "%s%s", n ? "," : "",
					       kdx_feature_names[f]);
		break;
	case COMPATIBLE_TYPE:
		n = scnprintf(text, size, "%s-%s", kdx_build.namespace, def->name);
		break;
	case COMPATIBLE_PCI_IDS:
		n = scnprintf(text, size, "%04x:%04x", KDX_VENDOR_ID,
			      kdx_build.devid ?: KDX_DEVICE_ID + def->iface);
		break;
	case DYNAMIC_RESOURCES:
		n = scnprintf(text, size, "weight");
		break;
	}
	scnprintf(text + n, size - n, "\n");
}

static void kdx_undescribe_type(struct kdx_type *type, int n)
{
	while (n--)
		sysfs_remove_bin_file(&type->mtype.kobj, &type->attributes[n].bin);
	kfree(type->attributes);
	type->attributes = NULL;
}

static int kdx_describe_type(struct kdx_type *type)
{
	int i, ret;

	type->attributes = kcalloc(NR_ATTRIBUTES, sizeof(*type->attributes), GFP_KERNEL);
	if (!type->attributes)
		return -ENOMEM;
	for (i = 0; i < NR_ATTRIBUTES; i++) {
		struct kdx_attribute *a = &type->attributes[i];

		kdx_attribute_text(type, i, a->text, sizeof(a->text));
		sysfs_bin_attr_init(&a->bin);
		a->bin.attr.name = kdx_attribute_names[i];
		a->bin.attr.mode = 0444;
		a->bin.read = kdx_attribute_read;
		ret = sysfs_create_bin_file(&type->mtype.kobj, &a->bin);
		if (ret) {
			kdx_undescribe_type(type, i);
			return ret;
		}
	}
	return 0;
}

int kdx_describe_parent(struct kdx_parent *parent)
{
	unsigned int i;
	int ret;

	if (!kdx_value(&kdx_describe))
		return 0;
	for (i = 0; i < kdx_build.nr_types; i++) {
		ret = kdx_describe_type(&parent->types[i]);
		if (ret)
			goto err;
	}
	parent->described = true;
	return 0;
err:
	while (i--)
		kdx_undescribe_type(&parent->types[i], NR_ATTRIBUTES);
	return ret;
}

void kdx_undescribe_parent(struct kdx_parent *parent)
{
	unsigned int i;

	for (i = 0; parent->described && i < kdx_build.nr_types; i++)
		kdx_undescribe_type(&parent->types[i], NR_ATTRIBUTES);
	parent->described = false;
}

/*
 * The instance attribute that dynamic_resources names: a share of the hardware's
 * time, to be copied to the target once the device is made. Not in the stream.
 */
static ssize_t weight_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct kdx_dev *kdev = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", READ_ONCE(kdev->weight));
}

static ssize_t weight_store(struct device *dev, struct device_attribute *attr,
			    const char *buf, size_t count)
{
	struct kdx_dev *kdev = dev_get_drvdata(dev);
	u32 weight;
	int ret = kstrtou32(buf, 0, &weight);

	if (ret)
		return ret;
	if (weight < 1 || weight > 16)
		return -EINVAL;
	WRITE_ONCE(kdev->weight, weight);
	return count;
}
static DEVICE_ATTR_RW(weight);

static struct attribute *kdx_device_attributes[] = { &dev_attr_weight.attr, NULL };

static umode_t kdx_device_visible(struct kobject *kobj, struct attribute *attr, int i)
{
	return kdx_value(&kdx_describe) ? attr->mode : 0;
}

static const struct attribute_group kdx_device_group = {
	.attrs = kdx_device_attributes,
	.is_visible = kdx_device_visible,
};

const struct attribute_group *kdx_device_groups[] = { &kdx_device_group, NULL };

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Parents: PCI functions or devices on the module's own bus, in both cases bound
 * to a driver that is named after the namespace, because that name is the first
 * part of every type id (section 1.2).
 *
 * All types of a parent take their instances from one pool, as mtty's ports and
 * i915's apertures. In a "solo" build a parent has instances of one type at a
 * time, as a card that is set to one profile.
 */
#include <linux/pci.h>
#include <linux/slab.h>
#include "kdx.h"

static unsigned int kdx_available_locked(struct kdx_type *type)
{
	struct kdx_parent *p = type->parent;
	unsigned int i;

	lockdep_assert_held(&p->lock);
	if (kdx_build.solo)
		for (i = 0; i < kdx_build.nr_types; i++)
			if (&p->types[i] != type && p->types[i].instances)
				return 0;
	return (kdx_value(&kdx_units) - p->used) / type->def->queues;
}

unsigned int kdx_available(struct mdev_type *mtype)
{
	struct kdx_type *type = kdx_type(mtype);
	unsigned int n;

	mutex_lock(&type->parent->lock);
	n = kdx_available_locked(type);
	mutex_unlock(&type->parent->lock);
	return n;
}

/* Section 1.3: available_instances is advice, create has the last word (ENOSPC as mtty). */
int kdx_take(struct kdx_type *type)
{
	int ret = -ENOSPC;

	mutex_lock(&type->parent->lock);
	if (kdx_available_locked(type)) {
		type->parent->used += type->def->queues;
		type->instances++;
		ret = 0;
	}
	mutex_unlock(&type->parent->lock);
	return ret;
}

void kdx_give(struct kdx_type *type)
{
	mutex_lock(&type->parent->lock);
	type->parent->used -= type->def->queues;
	type->instances--;
	mutex_unlock(&type->parent->lock);
}

static struct mdev_driver *kdx_mdev_driver;

static void kdx_parent_free(struct kdx_parent *p)
{
	mutex_destroy(&p->lock);
	kfree(p->mtypes);
	kfree(p->types);
	kfree(p);
}

static int kdx_parent_add(struct device *dev)
{
	struct kdx_parent *p = kzalloc(sizeof(*p), GFP_KERNEL);
	unsigned int i;
	int ret;

	if (!p)
		return -ENOMEM;
	mutex_init(&p->lock);
	p->types = kcalloc(kdx_build.nr_types, sizeof(*p->types), GFP_KERNEL);
	p->mtypes = kcalloc(kdx_build.nr_types, sizeof(*p->mtypes), GFP_KERNEL);
	if (!p->types || !p->mtypes) {
		ret = -ENOMEM;
		goto err_free;
	}
	for (i = 0; i < kdx_build.nr_types; i++) {
		struct kdx_type *type = &p->types[i];

		type->def = &kdx_build.types[i];
		type->parent = p;
		type->mtype.sysfs_name = type->def->name;
		type->mtype.pretty_name = type->def->label;
		p->mtypes[i] = &type->mtype;
	}
	ret = mdev_register_parent(&p->mdev, dev, kdx_mdev_driver, p->mtypes, kdx_build.nr_types);
	if (ret)
		goto err_free;
	ret = kdx_describe_parent(p);
	if (ret)
		goto err_unregister;
	dev_set_drvdata(dev, p);
	return 0;

err_unregister:
	mdev_unregister_parent(&p->mdev);
err_free:
	kdx_parent_free(p);
	return ret;
}

/* Removes the mediated devices too, and waits for their users. */
static void kdx_parent_remove(struct device *dev)
{
	struct kdx_parent *p = dev_get_drvdata(dev);

	kdx_undescribe_parent(p);
	mdev_unregister_parent(&p->mdev);
	dev_set_drvdata(dev, NULL);
	kdx_parent_free(p);
}

static int kdx_pci_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return kdx_parent_add(&pdev->dev);
}

static void kdx_pci_remove(struct pci_dev *pdev)
{
	kdx_parent_remove(&pdev->dev);
}

/* QEMU's edu device: any function nobody else drives would do. */
static const struct pci_device_id kdx_pci_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};

static struct pci_driver kdx_pci_driver = {
	.id_table = kdx_pci_ids,
	.probe = kdx_pci_probe,
	.remove = kdx_pci_remove,
};

static void kdx_bus_device_release(struct device *dev)
{
	kfree(dev);
}

static int kdx_bus_probe(struct device *dev)
{
	return kdx_parent_add(dev);
}

static void kdx_bus_remove(struct device *dev)
{
	kdx_parent_remove(dev);
}

/*
 * Bus, root and devices are named after the module, not the namespace: two builds
 * may be there at once. Two parents of one name would fight for their mdev_bus link.
 */
static struct bus_type kdx_bus = {
	.probe = kdx_bus_probe,
	.remove = kdx_bus_remove,
};

static struct device_driver kdx_bus_driver = {
	.bus = &kdx_bus,
	.owner = THIS_MODULE,
};

static struct device *kdx_root;
static struct device *kdx_bus_devices[8];	/* as many as the parameter allows */

static void kdx_bus_devices_remove(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kdx_bus_devices); i++) {
		if (kdx_bus_devices[i])
			device_unregister(kdx_bus_devices[i]);
		kdx_bus_devices[i] = NULL;
	}
}

static int kdx_bus_devices_add(void)
{
	unsigned int i;
	int ret;

	for (i = 0; i < kdx_value(&kdx_parents); i++) {
		struct device *dev = kzalloc(sizeof(*dev), GFP_KERNEL);

		if (!dev) {
			ret = -ENOMEM;
			goto err;
		}
		device_initialize(dev);
		dev->bus = &kdx_bus;
		dev->parent = kdx_root;
		dev->release = kdx_bus_device_release;
		ret = dev_set_name(dev, "%s.%u", kdx_build.module, i);
		if (!ret)
			ret = device_add(dev);
		if (ret) {
			put_device(dev);
			goto err;
		}
		kdx_bus_devices[i] = dev;
	}
	return 0;
err:
	kdx_bus_devices_remove();
	return ret;
}

static int kdx_bus_register(void)
{
	int ret;

	kdx_bus.name = kdx_build.module;
	kdx_bus_driver.name = kdx_build.namespace;
	kdx_bus_driver.mod_name = kdx_build.module;
	kdx_root = root_device_register(kdx_build.module);
	if (IS_ERR(kdx_root))
		return PTR_ERR(kdx_root);
	ret = bus_register(&kdx_bus);
	if (ret)
		goto err_root;
	ret = driver_register(&kdx_bus_driver);
	if (ret)
		goto err_bus;
	ret = kdx_bus_devices_add();
	if (ret)
		goto err_driver;
	return 0;

err_driver:
	driver_unregister(&kdx_bus_driver);
err_bus:
	bus_unregister(&kdx_bus);
err_root:
	root_device_unregister(kdx_root);
	return ret;
}

int kdx_parents_register(struct mdev_driver *driver)
{
	kdx_mdev_driver = driver;
	if (kdx_build.parent == KDX_PARENT_BUS)
		return kdx_bus_register();
	kdx_pci_driver.name = kdx_build.namespace;
	return pci_register_driver(&kdx_pci_driver);
}

void kdx_parents_unregister(void)
{
	if (kdx_build.parent == KDX_PARENT_PCI) {
		pci_unregister_driver(&kdx_pci_driver);
		return;
	}
	kdx_bus_devices_remove();
	driver_unregister(&kdx_bus_driver);
	bus_unregister(&kdx_bus);
	root_device_unregister(kdx_root);
}

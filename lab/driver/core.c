// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mediated device towards mdev and VFIO: life cycle, regions, the migration
 * state machine.
 */
#include <linux/file.h>
#include <linux/pci.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include "kdx.h"

#define REGION_SHIFT	40
#define REGION_MASK	((1ULL << REGION_SHIFT) - 1)
#define BOUNCE		(64 * 1024)

static struct kdx_dev *to_kdx(struct vfio_device *vdev)
{
	return container_of(vdev, struct kdx_dev, vdev);
}

/* The migration state machine. */

static bool kdx_p2p(void)
{
	return kdx_build.dialect->mig_flags & VFIO_MIGRATION_P2P;
}

static int kdx_commit(struct kdx_dev *dev)
{
	int ret;

	/* Only after a reopen with keep_state: the transfer went with the fd. */
	if (!dev->session)
		return -EINVAL;
	if (kdx_value(&kdx_fault_stop))
		return -EIO;
	ret = kdx_build.dialect->commit(dev->session);
	if (ret)
		return ret;
	kdx_session_disable(dev);
	return 0;
}

/* One arc of section 2.2. The state is still the old one. */
static struct file *kdx_step(struct kdx_dev *dev, u32 new)
{
	u32 cur = dev->state;
	int ret = 0;

#define ARC(from, to)	(cur == VFIO_DEVICE_STATE_##from && new == VFIO_DEVICE_STATE_##to)
	if (ARC(RUNNING, PRE_COPY) || ARC(RUNNING_P2P, PRE_COPY_P2P))
		return kdx_session_save(dev, true);
	if (ARC(STOP, STOP_COPY))
		return kdx_session_save(dev, false);
	if (ARC(STOP, RESUMING))
		return kdx_session_load(dev);
	if (ARC(PRE_COPY, STOP_COPY) || ARC(PRE_COPY_P2P, STOP_COPY))
		ret = dev->session ? kdx_session_finish(dev->session) : -EINVAL;
	else if (ARC(RESUMING, STOP))
		ret = kdx_commit(dev);
	else if (ARC(PRE_COPY, RUNNING) || ARC(PRE_COPY_P2P, RUNNING_P2P) || ARC(STOP_COPY, STOP))
		kdx_session_disable(dev);
	else if (!(ARC(RUNNING, RUNNING_P2P) || ARC(RUNNING_P2P, RUNNING) ||
		   ARC(RUNNING_P2P, STOP) || ARC(STOP, RUNNING_P2P) ||
		   ARC(PRE_COPY, PRE_COPY_P2P) || ARC(PRE_COPY_P2P, PRE_COPY) ||
		   (!kdx_p2p() && (ARC(RUNNING, STOP) || ARC(STOP, RUNNING)))))
		ret = -EINVAL;
#undef ARC
	return ERR_PTR(ret);	/* NULL when all is well */
}

static struct file *kdx_set_state(struct vfio_device *vdev, enum vfio_device_mig_state new)
{
	struct kdx_dev *dev = to_kdx(vdev);
	enum vfio_device_mig_state next;
	struct file *file = NULL;
	int ret;

	mutex_lock(&dev->lock);
	while (new != dev->state) {
		ret = vfio_mig_get_next_state(vdev, dev->state, new, &next);
		if (ret) {
			file = ERR_PTR(ret);
			break;
		}
		file = kdx_step(dev, next);
		if (IS_ERR(file))
			break;	/* it stays where it got to */
		dev->state = next;
		if (next == VFIO_DEVICE_STATE_RUNNING || next == VFIO_DEVICE_STATE_PRE_COPY)
			kdx_device_run(dev);	/* what queued up */
		if (WARN_ON(file && new != dev->state)) {
			fput(file);
			file = ERR_PTR(-EINVAL);
			break;
		}
	}
	mutex_unlock(&dev->lock);
	return file;
}

static int kdx_get_state(struct vfio_device *vdev, enum vfio_device_mig_state *state)
{
	struct kdx_dev *dev = to_kdx(vdev);

	mutex_lock(&dev->lock);
	*state = dev->state;
	mutex_unlock(&dev->lock);
	return 0;
}

static int kdx_get_data_size(struct vfio_device *vdev, unsigned long *size)
{
	struct kdx_dev *dev = to_kdx(vdev);

	*size = kdx_image_size(dev) + dev->scratch_size + kdx_build.dialect->size(dev);
	return 0;
}

static const struct vfio_migration_ops kdx_migration_ops = {
	.migration_set_state = kdx_set_state,
	.migration_get_state = kdx_get_state,
	.migration_get_data_size = kdx_get_data_size,
};

/* Ends any transfer; the guest's side is as new unless it is to be kept. */
static void kdx_reset(struct kdx_dev *dev)
{
	lockdep_assert_held(&dev->lock);
	kdx_session_disable(dev);
	dev->state = VFIO_DEVICE_STATE_RUNNING;
	if (!kdx_value(&kdx_keep_state))	/* section 2.7: mtty's reset keeps the contents */
		kdx_device_reset(dev);
}

/* VFIO's side of the device. */

static int kdx_init(struct vfio_device *vdev)
{
	struct mdev_device *mdev = to_mdev_device(vdev->dev);
	struct kdx_dev *dev = to_kdx(vdev);

	mutex_init(&dev->lock);
	dev->def = kdx_type(mdev->type)->def;
	dev->state = VFIO_DEVICE_STATE_RUNNING;
	dev->weight = 1;
	dev->scratch_size = kdx_build.dialect->fixed_scratch ?:
			    (size_t)kdx_value(&kdx_scratch_kib) * 1024;
	/* Up to 256 MiB: it may be refused, but must not wake the OOM killer. */
	dev->scratch = __vmalloc(dev->scratch_size, GFP_KERNEL_ACCOUNT | __GFP_ZERO |
				 __GFP_RETRY_MAYFAIL | __GFP_NOWARN);
	if (!dev->scratch) {
		mutex_destroy(&dev->lock);
		return -ENOMEM;
	}
	kdx_device_init(dev);
	if (!kdx_build.nomig) {
		vdev->migration_flags = kdx_build.dialect->mig_flags;
		vdev->mig_ops = &kdx_migration_ops;
	}
	return 0;
}

static void kdx_release(struct vfio_device *vdev)
{
	struct kdx_dev *dev = to_kdx(vdev);

	vfree(dev->scratch);
	mutex_destroy(&dev->lock);
}

static int kdx_open(struct vfio_device *vdev)
{
	struct kdx_dev *dev = to_kdx(vdev);

	mutex_lock(&dev->lock);
	if (!kdx_value(&kdx_keep_state))	/* as vfio-pci-core: a new user, a new device */
		kdx_reset(dev);
	mutex_unlock(&dev->lock);
	return 0;
}

static void kdx_close(struct vfio_device *vdev)
{
	struct kdx_dev *dev = to_kdx(vdev);

	mutex_lock(&dev->lock);
	/* The fd must be dead before this returns; mtty keeps all the rest. */
	kdx_session_disable(dev);
	if (!kdx_value(&kdx_keep_state))
		kdx_reset(dev);
	mutex_unlock(&dev->lock);
}

static u64 kdx_region_size(const struct kdx_dev *dev, u32 index)
{
	switch (index) {
	case VFIO_PCI_BAR0_REGION_INDEX:
		return KDX_BAR0_SIZE;
	case VFIO_PCI_BAR2_REGION_INDEX:
		return kdx_bar2_size(dev);
	case VFIO_PCI_CONFIG_REGION_INDEX:
		return KDX_CONFIG_SIZE;
	default:
		return 0;
	}
}

static void kdx_region_read(struct kdx_dev *dev, u32 index, u64 offset, u8 *to, size_t n)
{
	lockdep_assert_held(&dev->lock);
	if (index == VFIO_PCI_CONFIG_REGION_INDEX)
		kdx_config_read(dev, offset, to, n);
	else if (index == VFIO_PCI_BAR0_REGION_INDEX)
		kdx_bar0_read(dev, offset, to, n);
	else
		memcpy(to, dev->scratch + offset, n);
}

/*
 * A guest writes to its BARs while its processors run, the P2P states included.
 * In the others a write is somebody's mistake, and a device that took it would
 * change a state that is being moved. Config space belongs to the VM manager.
 */
static bool kdx_bars_writable(const struct kdx_dev *dev)
{
	switch (dev->state) {
	case VFIO_DEVICE_STATE_RUNNING:
	case VFIO_DEVICE_STATE_RUNNING_P2P:
	case VFIO_DEVICE_STATE_PRE_COPY:
	case VFIO_DEVICE_STATE_PRE_COPY_P2P:
		return true;
	default:
		return false;
	}
}

static int kdx_region_write(struct kdx_dev *dev, u32 index, u64 offset, const u8 *from, size_t n)
{
	lockdep_assert_held(&dev->lock);
	if (index == VFIO_PCI_CONFIG_REGION_INDEX) {
		kdx_config_write(dev, offset, from, n);
		return 0;
	}
	if (!kdx_bars_writable(dev))
		return -EIO;
	if (index == VFIO_PCI_BAR0_REGION_INDEX)
		return kdx_bar0_write(dev, offset, from, n);
	memcpy(dev->scratch + offset, from, n);
	dev->scratch_used = true;
	return 0;
}

/* Finds the region and cuts @count to it; a bounce buffer as for the data fds. */
static int kdx_region_enter(struct kdx_dev *dev, loff_t pos, size_t *count, u8 **bounce)
{
	u64 offset = pos & REGION_MASK, size;

	if (pos < 0)
		return -EINVAL;
	size = kdx_region_size(dev, min_t(u64, pos >> REGION_SHIFT, U32_MAX));
	if (!size || offset >= size)
		return -EINVAL;
	*count = min_t(u64, *count, size - offset);
	*bounce = kvmalloc(clamp_t(size_t, *count, 1, BOUNCE), GFP_KERNEL_ACCOUNT);
	return *bounce ? 0 : -ENOMEM;
}

static ssize_t kdx_read(struct vfio_device *vdev, char __user *buf, size_t count, loff_t *ppos)
{
	struct kdx_dev *dev = to_kdx(vdev);
	size_t n, done = 0;
	u8 *bounce;
	int ret = kdx_region_enter(dev, *ppos, &count, &bounce);

	if (ret)
		return ret;
	while (done < count && !fatal_signal_pending(current)) {
		n = min_t(size_t, count - done, BOUNCE);
		mutex_lock(&dev->lock);
		kdx_region_read(dev, *ppos >> REGION_SHIFT, *ppos & REGION_MASK, bounce, n);
		mutex_unlock(&dev->lock);
		if (copy_to_user(buf + done, bounce, n)) {
			ret = -EFAULT;
			break;
		}
		done += n;
		*ppos += n;
		cond_resched();
	}
	kvfree(bounce);
	return done ?: ret;
}

static ssize_t kdx_write(struct vfio_device *vdev, const char __user *buf, size_t count, loff_t *ppos)
{
	struct kdx_dev *dev = to_kdx(vdev);
	size_t n, done = 0;
	u8 *bounce;
	int ret = kdx_region_enter(dev, *ppos, &count, &bounce);

	if (ret)
		return ret;
	while (done < count && !fatal_signal_pending(current)) {
		n = min_t(size_t, count - done, BOUNCE);
		if (copy_from_user(bounce, buf + done, n)) {
			ret = -EFAULT;
			break;
		}
		mutex_lock(&dev->lock);
		ret = kdx_region_write(dev, *ppos >> REGION_SHIFT, *ppos & REGION_MASK, bounce, n);
		mutex_unlock(&dev->lock);
		if (ret)
			break;
		done += n;
		*ppos += n;
		cond_resched();
	}
	kvfree(bounce);
	return done ?: ret;
}

static int kdx_get_info(void __user *arg)
{
	const size_t minsz = offsetofend(struct vfio_device_info, num_irqs);
	struct vfio_device_info info;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;
	info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
	info.num_regions = VFIO_PCI_NUM_REGIONS;
	info.num_irqs = VFIO_PCI_NUM_IRQS;
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static int kdx_get_region_info(struct kdx_dev *dev, void __user *arg)
{
	const size_t minsz = offsetofend(struct vfio_region_info, offset);
	struct vfio_region_info info;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz || info.index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	info.size = kdx_region_size(dev, info.index);
	info.offset = (u64)info.index << REGION_SHIFT;
	info.flags = info.size ? VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE : 0;
	info.cap_offset = 0;
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

/* The device has no interrupts: a guest reads the queue's head. */
static int kdx_get_irq_info(void __user *arg)
{
	const size_t minsz = offsetofend(struct vfio_irq_info, count);
	struct vfio_irq_info info;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz || info.index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	info.flags = 0;
	info.count = 0;
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static long kdx_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	struct kdx_dev *dev = to_kdx(vdev);

	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return kdx_get_info((void __user *)arg);
	case VFIO_DEVICE_GET_REGION_INFO:
		return kdx_get_region_info(dev, (void __user *)arg);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return kdx_get_irq_info((void __user *)arg);
	case VFIO_DEVICE_SET_IRQS:
		return -EINVAL;
	case VFIO_DEVICE_RESET:
		mutex_lock(&dev->lock);
		kdx_reset(dev);
		mutex_unlock(&dev->lock);
		return 0;
	default:
		return -ENOTTY;
	}
}

/* The device does no DMA and pins nothing: there is nothing to let go of. */
static void kdx_dma_unmap(struct vfio_device *vdev, u64 iova, u64 length)
{
}

static const struct vfio_device_ops kdx_vfio_ops = {
	.name = "kdx",
	.init = kdx_init,
	.release = kdx_release,
	.open_device = kdx_open,
	.close_device = kdx_close,
	.read = kdx_read,
	.write = kdx_write,
	.ioctl = kdx_ioctl,
	.dma_unmap = kdx_dma_unmap,
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
};

/* mdev's side. */

static int kdx_probe(struct mdev_device *mdev)
{
	struct kdx_type *type = kdx_type(mdev->type);
	struct kdx_dev *dev;
	int ret = kdx_take(type);

	if (ret)
		return ret;
	dev = vfio_alloc_device(kdx_dev, vdev, &mdev->dev, &kdx_vfio_ops);
	if (IS_ERR(dev)) {
		ret = PTR_ERR(dev);
		goto err_give;
	}
	dev_set_drvdata(&mdev->dev, dev);
	ret = vfio_register_emulated_iommu_dev(&dev->vdev);
	if (ret)
		goto err_put;
	return 0;

err_put:
	vfio_put_device(&dev->vdev);
err_give:
	kdx_give(type);
	return ret;
}

static void kdx_remove(struct mdev_device *mdev)
{
	struct kdx_dev *dev = dev_get_drvdata(&mdev->dev);

	vfio_unregister_group_dev(&dev->vdev);
	vfio_put_device(&dev->vdev);
	kdx_give(kdx_type(mdev->type));
}

/* As i915's and NVIDIA's, and no two are alike: a person's text, not an interface. */
static ssize_t kdx_show_description(struct mdev_type *mtype, char *buf)
{
	const struct kdx_type_def *def = kdx_type(mtype)->def;

	return sysfs_emit(buf, "interface: %u\nqueues: %u\nscratch: %d KiB\n", def->iface,
			  def->queues, kdx_value(&kdx_scratch_kib));
}

static struct mdev_driver kdx_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.probe = kdx_probe,
	.remove = kdx_remove,
	.get_available = kdx_available,
	.driver = {
		.owner = THIS_MODULE,
		.dev_groups = kdx_device_groups,
	},
};

static int __init kdx_module_init(void)
{
	int ret;

	kdx_driver.driver.name = kdx_build.module;
	kdx_driver.driver.mod_name = kdx_build.module;
	/* Section 1.1: some drivers describe their types to people, mtty does not. */
	if (kdx_build.parent == KDX_PARENT_PCI)
		kdx_driver.show_description = kdx_show_description;
	ret = mdev_register_driver(&kdx_driver);
	if (ret)
		return ret;
	ret = kdx_parents_register(&kdx_driver);
	if (ret)
		mdev_unregister_driver(&kdx_driver);
	return ret;
}

static void __exit kdx_module_exit(void)
{
	kdx_parents_unregister();
	mdev_unregister_driver(&kdx_driver);
}

module_init(kdx_module_init);
module_exit(kdx_module_exit);
MODULE_LICENSE("GPL");
MODULE_AUTHOR("The Kindred project");

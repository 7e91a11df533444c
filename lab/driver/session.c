// SPDX-License-Identifier: GPL-2.0-only
/*
 * A migration data fd. It may outlive the device fd and even the device: it holds
 * a reference on the device's memory and, through its operations, on the module.
 * The device disables it whenever the state machine leaves the transfer; from then
 * on it says ENODEV, and the memory it had is gone already.
 *
 * Locks: io, then the device's. User memory is only touched under io, through a
 * bounce buffer, so who stalls a copy stalls nobody but himself.
 */
#include <linux/anon_inodes.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include "kdx.h"

#define BOUNCE	(64 * 1024)

static void kdx_session_empty(struct kdx_session *s)
{
	unsigned int i;

	for (i = 0; i < s->nr_segments; i++)
		if (s->segment[i].own)
			kvfree(s->segment[i].data);
	s->nr_segments = 0;
	vfree(s->in);
	s->in = NULL;
	s->max = 0;
}

static int kdx_session_release(struct inode *inode, struct file *file)
{
	struct kdx_session *s = file->private_data;

	/* The device's own reference is gone, so it was disabled. */
	mutex_destroy(&s->io);
	vfio_put_device(&s->dev->vdev);
	kfree(s);
	return 0;
}

/* A fault: the bus is slow. Interruptible, and bounded by the parameter's maximum. */
static int kdx_stall(void)
{
	int ms = kdx_value(&kdx_stall_ms);

	return ms && msleep_interruptible(ms) ? -EINTR : 0;
}

static bool kdx_in_precopy(const struct kdx_dev *dev)
{
	return dev->state == VFIO_DEVICE_STATE_PRE_COPY ||
	       dev->state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

/* Takes up to @n bytes at the position. 0 is the end. */
static ssize_t kdx_pull(struct kdx_session *s, u8 *to, size_t n)
{
	u64 at = s->pos;
	unsigned int i;

	if (s->disabled)
		return -ENODEV;
	for (i = 0; i < s->nr_segments; i++) {
		const struct kdx_segment *g = &s->segment[i];

		if (at < g->len) {
			n = min_t(u64, n, g->len - at);
			memcpy(to, g->data + at, n);
			s->pos += n;
			return n;
		}
		at -= g->len;
	}
	return kdx_in_precopy(s->dev) && kdx_precopy_end_enomsg() ? -ENOMSG : 0;
}

static ssize_t kdx_save_read(struct file *file, char __user *buf, size_t count, loff_t *pos)
{
	struct kdx_session *s = file->private_data;
	int limit = kdx_value(&kdx_short_read);
	ssize_t n, done = 0;
	u8 *bounce;

	if (pos)
		return -ESPIPE;
	n = kdx_stall();
	if (n)
		return n;
	if (limit)
		count = min_t(size_t, count, limit);
	bounce = kvmalloc(clamp_t(size_t, count, 1, BOUNCE), GFP_KERNEL_ACCOUNT);
	if (!bounce)
		return -ENOMEM;
	n = mutex_lock_interruptible(&s->io);
	if (n)
		goto out;
	while (done < count) {
		mutex_lock(&s->dev->lock);
		n = kdx_pull(s, bounce, min_t(size_t, count - done, BOUNCE));
		mutex_unlock(&s->dev->lock);
		if (n <= 0)
			break;
		if (copy_to_user(buf + done, bounce, n)) {
			mutex_lock(&s->dev->lock);
			s->pos -= n;	/* nobody has seen them */
			mutex_unlock(&s->dev->lock);
			n = -EFAULT;
			break;
		}
		done += n;
		if (fatal_signal_pending(current))
			break;
		cond_resched();
	}
	mutex_unlock(&s->io);
out:
	kvfree(bounce);
	return done ?: n;
}

static long kdx_save_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	const size_t minsz = offsetofend(struct vfio_precopy_info, dirty_bytes);
	struct kdx_session *s = file->private_data;
	struct vfio_precopy_info info;
	int ret = 0;

	if (cmd != VFIO_MIG_GET_PRECOPY_INFO)
		return -ENOTTY;
	/* Section 2.3: what came in as flags goes out again, in all drivers of 6.12. */
	if (copy_from_user(&info, (void __user *)arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;
	mutex_lock(&s->dev->lock);
	if (s->disabled) {
		ret = -ENODEV;
	} else if (!kdx_in_precopy(s->dev)) {
		ret = -EINVAL;
	} else {
		info.initial_bytes = s->initial > s->pos ? s->initial - s->pos : 0;
		info.dirty_bytes = s->total - max(s->pos, s->initial);
	}
	mutex_unlock(&s->dev->lock);
	if (!ret && copy_to_user((void __user *)arg, &info, minsz))
		ret = -EFAULT;
	return ret;
}

static const struct file_operations kdx_save_fops = {
	.owner = THIS_MODULE,
	.read = kdx_save_read,
	.unlocked_ioctl = kdx_save_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = kdx_session_release,
};

/* One piece of the incoming stream, with the fault in it if it is due. */
static int kdx_push(struct kdx_session *s, const u8 *from, size_t n)
{
	int at = kdx_value(&kdx_fault_write_at);
	bool fault = at >= 0 && s->stream + n > at;
	int ret = 0;

	if (s->disabled)
		return -ENODEV;
	if (fault)
		n = at > s->stream ? at - s->stream : 0;
	s->stream += n;
	if (n)
		ret = kdx_build.dialect->feed(s, from, n);
	return ret ?: fault ? -EIO : 0;
}

static ssize_t kdx_load_write(struct file *file, const char __user *buf, size_t count, loff_t *pos)
{
	struct kdx_session *s = file->private_data;
	ssize_t ret, done = 0;
	size_t n;
	u8 *bounce;

	if (pos)
		return -ESPIPE;
	ret = kdx_stall();
	if (ret)
		return ret;
	bounce = kvmalloc(clamp_t(size_t, count, 1, BOUNCE), GFP_KERNEL_ACCOUNT);
	if (!bounce)
		return -ENOMEM;
	ret = mutex_lock_interruptible(&s->io);
	if (ret)
		goto out;
	mutex_lock(&s->dev->lock);
	ret = s->disabled ? -ENODEV : 0;
	if (!ret && kdx_build.dialect->room)
		ret = kdx_build.dialect->room(s, &count);
	mutex_unlock(&s->dev->lock);
	while (!ret && done < count) {
		n = min_t(size_t, count - done, BOUNCE);
		if (copy_from_user(bounce, buf + done, n)) {
			ret = -EFAULT;
			break;
		}
		mutex_lock(&s->dev->lock);
		ret = kdx_push(s, bounce, n);
		mutex_unlock(&s->dev->lock);
		done += n;
		if (fatal_signal_pending(current))
			break;
		cond_resched();
	}
	mutex_unlock(&s->io);
out:
	kvfree(bounce);
	return ret ?: done;
}

static const struct file_operations kdx_load_fops = {
	.owner = THIS_MODULE,
	.write = kdx_load_write,
	.release = kdx_session_release,
};

static struct kdx_session *kdx_session_new(struct kdx_dev *dev)
{
	struct kdx_session *s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);

	if (s) {
		s->dev = dev;
		mutex_init(&s->io);
	}
	return s;
}

/* The file has a reference of its own on the device from here on, the device on the file. */
static struct file *kdx_session_open(struct kdx_session *s, const struct file_operations *fops,
				     int flags)
{
	struct file *file = anon_inode_getfile("[kdx-migration]", fops, s, flags);

	if (IS_ERR(file)) {
		kdx_session_empty(s);
		mutex_destroy(&s->io);
		kfree(s);
		return file;
	}
	stream_open(file->f_inode, file);
	get_device(&s->dev->vdev.device);
	get_file(file);
	s->file = file;
	s->dev->session = s;
	return file;
}

/* A buffer of @n bytes that becomes the next part of the stream. */
u8 *kdx_session_add(struct kdx_session *s, size_t n)
{
	u8 *data;

	if (WARN_ON_ONCE(s->nr_segments == KDX_SEGMENTS))
		return NULL;
	data = kvzalloc(n, GFP_KERNEL_ACCOUNT);
	if (!data)
		return NULL;
	s->segment[s->nr_segments++] = (struct kdx_segment){ .data = data, .len = n, .own = true };
	s->total += n;
	return data;
}

/*
 * The scratch, from where it is: no copy is made. It does not change while the
 * device is stopped; what is read of it in PRE_COPY is sent again.
 */
int kdx_session_add_scratch(struct kdx_session *s)
{
	if (WARN_ON_ONCE(s->nr_segments == KDX_SEGMENTS))
		return -ENOMEM;
	s->segment[s->nr_segments++] = (struct kdx_segment){
		.data = s->dev->scratch, .len = s->dev->scratch_size,
	};
	s->total += s->dev->scratch_size;
	return 0;
}

/* @precopy: the device goes on, and kdx_session_finish gives the rest later. */
struct file *kdx_session_save(struct kdx_dev *dev, bool precopy)
{
	const struct kdx_dialect *d = kdx_build.dialect;
	struct kdx_session *s = kdx_session_new(dev);
	int ret = 0;

	if (!s)
		return ERR_PTR(-ENOMEM);
	if (d->save_head)
		ret = d->save_head(s);
	if (!ret && precopy && d->save_live)
		ret = d->save_live(s);
	s->initial = s->total;	/* mlx5, virtio: with the first image */
	if (!ret && !precopy)
		ret = d->save_state(s);
	if (ret) {
		kdx_session_empty(s);
		mutex_destroy(&s->io);
		kfree(s);
		return ERR_PTR(ret);
	}
	return kdx_session_open(s, &kdx_save_fops, O_RDONLY);
}

/* PRE_COPY to STOP_COPY keeps the fd: the final state follows what it gave so far. */
int kdx_session_finish(struct kdx_session *s)
{
	unsigned int had = s->nr_segments;
	u64 total = s->total;
	int ret = kdx_build.dialect->save_state(s);

	if (ret) {
		while (s->nr_segments > had)
			if (s->segment[--s->nr_segments].own)
				kvfree(s->segment[s->nr_segments].data);
		s->total = total;
	}
	return ret;
}

struct file *kdx_session_load(struct kdx_dev *dev)
{
	struct kdx_session *s = kdx_session_new(dev);

	if (!s)
		return ERR_PTR(-ENOMEM);
	s->max = kdx_build.dialect->most(dev);
	/* Up to 256 MiB: it may be refused, but must not wake the OOM killer. */
	s->in = __vmalloc(s->max, GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_RETRY_MAYFAIL | __GFP_NOWARN);
	if (!s->in) {
		mutex_destroy(&s->io);
		kfree(s);
		return ERR_PTR(-ENOMEM);
	}
	return kdx_session_open(s, &kdx_load_fops, O_WRONLY);
}

void kdx_session_disable(struct kdx_dev *dev)
{
	struct kdx_session *s = dev->session;

	lockdep_assert_held(&dev->lock);
	if (!s)
		return;
	dev->session = NULL;
	s->disabled = true;
	kdx_session_empty(s);
	fput(s->file);	/* does not release it under our lock: that is deferred */
}

/* Keeps what arrived. Longer than this device's state is ENOMEM, as in most drivers. */
int kdx_session_store(struct kdx_session *s, const u8 *from, size_t n)
{
	if (n > s->max - s->got)
		return -ENOMEM;
	memcpy(s->in + s->got, from, n);
	s->got += n;
	return 0;
}

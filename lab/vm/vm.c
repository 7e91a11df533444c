// SPDX-License-Identifier: Apache-2.0
/*
 * The whole software of a VM that uses the sample driver's devices and would
 * notice if anything happened to them: no operating system. Docs of the device: ../driver/README.md.
 *
 * It keeps a model of each device in its own memory, and gives both the same
 * work: words, and commands that write and read the device's scratch memory. In
 * each round it compares all that can be read with the model and prints both to
 * the first serial port: "ok", or "GAP" with what differs. A device that was
 * reset, lost words, came with other contents or with other abilities is a GAP;
 * so is a page of the VM's own memory that changed.
 *
 * On its command line: ballast=MIB of memory to fill, so that moving it takes a
 * while.
 */
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

/* The device, as the driver's README has it. */
#define VENDOR		0x1234
#define OLD_INTERFACE	0x4b04
#define NEW_INTERFACE	0x4b05
#define REG_ID		0x00
#define REG_FEATURES	0x08
#define REG_STATUS	0x18
#define REG_COUNTER	0x20
#define REG_DIGEST	0x28
#define REG_FED		0x30
#define REG_FEED	0x38
#define REG_QUEUE	0x40
#define REG_RINGS	0x1000
#define RING		64
#define ID		0x3158444b
#define DIGEST_START	0xcbf29ce484222325ull
#define OP_FILL		2
#define OP_HASH		3
#define FEATURES_NEEDED	3	/* fill and hash */

#define MAX_DEVICES	4
#define BUSES		16	/* looked at */
#define SCRATCH		0x4000	/* of the device's as much as is used */
#define CHUNK		512	/* of it, a command's */
#define WORDS		8	/* fed in a round */

#define TICKS		4	/* a round, at 20 a second */
#define BALLAST		0x400000	/* where it begins */

struct device {
	u8 *bar;
	u16 address;		/* bus, device, function */
	u16 interface;
	u32 features;
	u32 tail;
	u64 digest, fed, counter;
	u64 scratch[SCRATCH / 8];
};

static struct device devices[MAX_DEVICES];
static u32 nr_devices, ballast, gaps;
volatile u32 ticks;		/* entry.S counts them */

extern void start_clock(void);

static inline void outb(u16 port, u8 v) { asm volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline void outl(u16 port, u32 v) { asm volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static inline u8 inb(u16 port) { u8 v; asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u32 inl(u16 port) { u32 v; asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }

/* The serial port. */

static void put(char c)
{
	while (!(inb(0x3f8 + 5) & 0x20))
		;
	outb(0x3f8, c);
}

static void say(const char *s)
{
	while (*s)
		put(*s++);
}

static void say_hex(u64 v, int digits)
{
	while (digits--)
		put("0123456789abcdef"[v >> 4 * digits & 15]);
}

static void say_number(u32 v)
{
	char text[12];
	int i = sizeof(text);

	text[--i] = 0;
	do
		text[--i] = '0' + v % 10;
	while (v /= 10);
	say(text + i);
}

/* PCI configuration, by the ports that every PC has. */

static u32 config_read(u16 address, u8 reg)
{
	outl(0xcf8, 0x80000000u | (u32)address << 8 | reg);
	return inl(0xcfc);
}

static void config_write(u16 address, u8 reg, u32 v)
{
	outl(0xcf8, 0x80000000u | (u32)address << 8 | reg);
	outl(0xcfc, v);
}

/*
 * Registers, by instructions that no compiler moves or repeats: gcc 12 writes
 * the last value of a loop to a volatile word a second time.
 */
static u32 reg32(struct device *d, u32 reg)
{
	u32 v;

	asm volatile("movl (%1), %0" : "=r"(v) : "r"(d->bar + reg) : "memory");
	return v;
}

static void set32(struct device *d, u32 reg, u32 v)
{
	asm volatile("movl %0, (%1)" : : "r"(v), "r"(d->bar + reg) : "memory");
}

static u64 reg64(struct device *d, u32 reg) { return reg32(d, reg) | (u64)reg32(d, reg + 4) << 32; }

/* What the device does, done here. */

static u64 mix(u64 digest, u64 word)
{
	u64 v = (digest ^ word) * 0x9e3779b185ebca87ull;

	return v << 29 | v >> 35;
}

static void feed(struct device *d, u32 word)
{
	set32(d, REG_FEED, word);
	d->digest = mix(d->digest, word);
	d->fed++;
}

static void command(struct device *d, u32 op, u32 at)
{
	u32 slot = REG_RINGS + 16 * d->tail;
	u64 *words = d->scratch + at / 8;
	u64 seed = d->digest;
	u32 i;

	set32(d, slot, op);
	set32(d, slot + 4, CHUNK);
	set32(d, slot + 8, at);
	set32(d, slot + 12, 0);
	d->tail = (d->tail + 1) % RING;
	set32(d, REG_QUEUE + 4, d->tail);
	while (reg32(d, REG_QUEUE) != d->tail)
		if (reg32(d, REG_QUEUE) == ~0u)
			break;	/* gone: what comes next is a gap */
	for (i = 0; i < CHUNK / 8; i++)
		if (op == OP_FILL)
			words[i] = seed = mix(seed, i);
		else
			d->digest = mix(d->digest, words[i]);
	d->counter++;
}

static u32 random_state = 1;

static u32 next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state;
}

/* Says where the device and its model differ; returns whether they do not. */
static int same(const char *what, u64 is, u64 want)
{
	if (is == want)
		return 1;
	say(" GAP ");
	say(what);
	say(" is ");
	say_hex(is, 16);
	say(" want ");
	say_hex(want, 16);
	gaps++;
	return 0;
}

static void round(struct device *d, u32 nr, u32 n)
{
	int ok = 1, i;
	u64 digest = reg64(d, REG_DIGEST);

	say("round ");
	say_number(n);
	say(" device ");
	say_number(nr);
	say(" fed ");
	say_number(d->fed);
	say(" digest ");
	say_hex(digest, 16);
	ok &= same("id", reg32(d, REG_ID), ID);
	ok &= same("vendor", config_read(d->address, 0), VENDOR | (u32)d->interface << 16);
	ok &= same("features", reg32(d, REG_FEATURES), d->features);
	ok &= same("status", reg32(d, REG_STATUS), 0);
	ok &= same("commands", reg64(d, REG_COUNTER), d->counter);
	ok &= same("fed", reg64(d, REG_FED), d->fed);
	ok &= same("digest", digest, d->digest);
	say(ok ? " ok\n" : "\n");
	for (i = 0; i < WORDS; i++)
		feed(d, next_random());
	command(d, OP_FILL, next_random() % (SCRATCH / CHUNK) * CHUNK);
	command(d, OP_HASH, next_random() % (SCRATCH / CHUNK) * CHUNK);
}

/* A page's word of ballast: other on each page, and never zero. */
static u32 pattern(u32 page) { return page * 2654435761u | 1; }

static volatile u32 *page_of(u32 page) { return (volatile u32 *)(BALLAST + page * 4096u); }

static void check_ballast(u32 n)
{
	u32 pages = ballast * 256, i, page;

	for (i = 0; i < 64 && pages; i++) {
		page = (n * 64 + i) % pages;
		if (page_of(page)[page % 1024] != pattern(page)) {
			say("GAP memory\n");
			gaps++;
		}
	}
}

/* The firmware has given them their addresses. */
static void find_devices(void)
{
	u32 address, id;

	for (address = 0; address < BUSES << 8 && nr_devices < MAX_DEVICES; address += 8) {
		struct device *d = &devices[nr_devices];

		id = config_read(address, 0);
		if (id != (VENDOR | OLD_INTERFACE << 16) && id != (VENDOR | (u32)NEW_INTERFACE << 16))
			continue;
		config_write(address, 0x04, config_read(address, 0x04) | 2);
		d->bar = (u8 *)(config_read(address, 0x10) & ~15u);
		d->address = address;
		d->interface = id >> 16;
		d->features = reg32(d, REG_FEATURES);
		d->digest = DIGEST_START;
		nr_devices++;
		say("device at ");
		say_hex(address, 4);
		say(" interface ");
		say_hex(d->interface, 4);
		say(" features ");
		say_hex(d->features, 8);
		say((d->features & FEATURES_NEEDED) == FEATURES_NEEDED ? "\n" : " GAP too few\n");
	}
}

static u32 number_after(const char *text, const char *name)
{
	u32 v = 0;
	const char *n;

	for (; text && *text; text++) {
		const char *t = text;

		for (n = name; *n && *n == *t; n++, t++)
			;
		if (*n)
			continue;
		while (*t >= '0' && *t <= '9')
			v = v * 10 + *t++ - '0';
		return v;
	}
	return 0;
}

/* @info is PVH's start_info: its command line's address is at 0x18. */
void start(const u32 *info)
{
	u32 n, i, next;

	say("\nvm: up\n");
	ballast = number_after((const char *)info[6], "ballast=");
	for (i = 0; i < ballast * 256; i++)
		for (n = 0; n < 1024; n++)
			page_of(i)[n] = pattern(i);
	find_devices();
	start_clock();
	for (n = 0, next = ticks;; n++) {
		for (i = 0; i < nr_devices; i++)
			round(&devices[i], i, n);
		if (!nr_devices) {
			say("round ");
			say_number(n);
			say(" no device\n");
		}
		check_ballast(n);
		for (next += TICKS; (int)(next - ticks) > 0;)
			asm volatile("hlt");
		if ((int)(ticks - next) > TICKS)
			next = ticks;	/* it was kept waiting: no hurry */
	}
}

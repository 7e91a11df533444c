// SPDX-License-Identifier: Apache-2.0
/*
 * Where QEMU's PVH loader jumps to: 32 bits, flat, no paging, no stack; %ebx has
 * the address of start_info. And a clock: the PIT's interrupt counts ticks.
 */
	.section .note.pvh, "a", @note
	.long 4, 4, 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long entry

	.text
	.globl entry
entry:
	lgdt gdt_register
	ljmp $8, $1f
1:	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $stack_end, %esp
	push %ebx
	call start
	hlt

	.globl start_clock
start_clock:
	mov $tick, %eax
	mov %ax, idt + 0x20 * 8
	shr $16, %eax
	mov %ax, idt + 0x20 * 8 + 6
	lidt idt_register
	/* Both PICs: vectors from 0x20, all masked but the timer. */
	mov $0x11, %al
	out %al, $0x20
	out %al, $0xa0
	mov $0x20, %al
	out %al, $0x21
	mov $0x28, %al
	out %al, $0xa1
	mov $4, %al
	out %al, $0x21
	mov $2, %al
	out %al, $0xa1
	mov $1, %al
	out %al, $0x21
	out %al, $0xa1
	mov $0xfe, %al
	out %al, $0x21
	mov $0xff, %al
	out %al, $0xa1
	/* The PIT: a square wave of 1193182 / 59659 = 20 Hz. */
	mov $0x36, %al
	out %al, $0x43
	mov $(59659 & 255), %al
	out %al, $0x40
	mov $(59659 >> 8), %al
	out %al, $0x40
	sti
	ret

tick:
	push %eax
	incl ticks
	mov $0x20, %al
	out %al, $0x20
	pop %eax
	iret

	.data
	.balign 8
gdt:	.quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_register:
	.word . - gdt - 1
	.long gdt
	.balign 8
idt:	.rept 0x30
	.word 0, 8, 0x8e00, 0
	.endr
idt_register:
	.word . - idt - 1
	.long idt

	.bss
	.balign 16
	.skip 16384
stack_end:

/* What keeps compilers to the registers that there are.
 *
 * MLOPSC_APART: a function that is not merged into its caller, so that its loop has all
 * registers to itself. MLOPSC_AFTER: `value` is known only after `before` is; without it all products
 * of a step are formed before the first one is added. */
#ifndef MLOPSC_MICRO_APART_H
#define MLOPSC_MICRO_APART_H

#if defined(__GNUC__)
#define MLOPSC_APART __attribute__((noinline))
#define MLOPSC_AFTER(before, value) __asm__("" : "+r"(before), "+r"(value))
#else
#define MLOPSC_APART
#define MLOPSC_AFTER(before, value) ((void)0)
#endif

#endif

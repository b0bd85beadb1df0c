/* The instructions of Arm's DSP extension (Cortex-M4, M7, M33, ...) that the kernels are built on.
 *
 * A pair is two numbers of 16 bits in one word, the first one below. Words are read at any address,
 * which these processors do. */
#ifndef MLOPSC_MICRO_DSP_H
#define MLOPSC_MICRO_DSP_H

#if !defined(__ARM_FEATURE_DSP) || defined(__ARM_BIG_ENDIAN)
#error "this file needs a little-endian processor with Arm's DSP extension"
#endif
#ifndef __OPTIMIZE__
#error "the registers suffice only with optimisation: compile with -O1 or more"
#endif

#include <arm_acle.h>
#include <stdint.h>

#include "mlopsc_micro_requantize.h"

static inline uint32_t mlopsc_word(const int8_t *at) {
  uint32_t word;
  __builtin_memcpy(&word, at, sizeof word); /* freestanding: there may be no string.h */
  return word;
}

/* Bytes 0 and 2 of a word, and bytes 1 and 3. */
static inline uint32_t mlopsc_even(uint32_t word) { return (uint32_t)__sxtb16((int8x4_t)word); }

static inline uint32_t mlopsc_odd(uint32_t word) {
  uint32_t pair;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
  return pair;
}

/* The lower halves of two pairs, and the upper halves. */
static inline uint32_t mlopsc_low(uint32_t a, uint32_t b) { return (a & 0xffffU) | (b << 16); }
static inline uint32_t mlopsc_high(uint32_t a, uint32_t b) {
  return (a >> 16) | (b & 0xffff0000U);
}

static inline int32_t mlopsc_dot(uint32_t a, uint32_t b, int32_t sum) {
  return (int32_t)__smlad((int16x2_t)a, (int16x2_t)b, sum);
}

/* zero + ((a * multiplier + 2^31) >> 32), saturated to 8 bits. */
static inline int8_t mlopsc_scale(int32_t a, int32_t multiplier, int32_t zero) {
  int32_t y;
  __asm__("smmlar %0, %1, %2, %3\n\tssat %0, #8, %0"
          : "=r"(y)
          : "r"(a), "r"(multiplier), "r"(zero));
  return (int8_t)y;
}

/* Clamp bytes of full range to a narrower one. */
static inline void mlopsc_clamp(int8_t *y, int32_t count, int32_t low, int32_t high) {
  if (low == -128 && high == 127) return;
  for (int8_t *const end = y + count; y != end; ++y) {
    const int32_t value = *y < low ? low : *y;
    *y = (int8_t)(value > high ? high : value);
  }
}

#endif

/* The last step of every operator: docs/integer-semantics.md, "Requantisation". */
#ifndef MLOPSC_MICRO_REQUANTIZE_H
#define MLOPSC_MICRO_REQUANTIZE_H

#include <stdint.h>

/* Shifts of negative numbers, which round down, are defined here and not by the compiler. */
static inline int32_t mlopsc_shift_down(int32_t value, int32_t bits) {
  return value < 0 ? ~(~value >> bits) : value >> bits;
}

/* (a * b + 2^31) >> 32 */
#if defined(__ARM_ARCH_6M__) /* has no product of 64 bits: four of halves */
static inline int32_t mlopsc_high_product(int32_t a, int32_t b) {
  const int32_t a1 = mlopsc_shift_down(a, 16), a0 = (int32_t)((uint32_t)a & 0xffffU);
  const int32_t b1 = mlopsc_shift_down(b, 16), b0 = (int32_t)((uint32_t)b & 0xffffU);
  const int32_t below = (int32_t)(((uint32_t)a0 * (uint32_t)b0) >> 16);
  const int32_t middle = a1 * b0 + below;
  const int32_t other = a0 * b1 + (int32_t)((uint32_t)middle & 0xffffU);
  return a1 * b1 + mlopsc_shift_down(middle, 16) + mlopsc_shift_down(other, 16) +
         (int32_t)(((uint32_t)other >> 15) & 1U);
}
#else
static inline int32_t mlopsc_high_product(int32_t a, int32_t b) {
  const int64_t product = (int64_t)a * b;
  const int32_t high = (int32_t)(product < 0 ? ~(~product >> 32) : product >> 32);
  return high + (int32_t)(((uint64_t)product >> 31) & 1U);
}
#endif

/* sat32(value * 2^bits), bits above 0. */
static inline int32_t mlopsc_shift_up(int32_t value, int32_t bits) {
  const int32_t limit = INT32_MAX >> bits;
  return value > limit    ? INT32_MAX
         : value < ~limit ? INT32_MIN
                          : (int32_t)((uint32_t)value << bits);
}

/* clamp(((sat32(a * 2^left_shift) * multiplier + 2^31) >> 32) + zero, low, high) */
static inline int8_t mlopsc_requantize(int32_t a, int32_t multiplier, int32_t left_shift,
                                       int32_t zero, int32_t low, int32_t high) {
  if (left_shift > 0) a = mlopsc_shift_up(a, left_shift);
  int32_t y = mlopsc_high_product(a, multiplier) + zero;
  y = y < low ? low : y;
  return (int8_t)(y > high ? high : y);
}

#endif

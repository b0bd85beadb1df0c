/* The last step of every operator: docs/integer-semantics.md, "Requantisation". */
#ifndef MLOPSC_MICRO_REQUANTIZE_H
#define MLOPSC_MICRO_REQUANTIZE_H

#include <stdint.h>

/* Shifts of negative numbers, which round down, are defined here and not by the compiler. */
static inline int32_t mlopsc_shift_down(int32_t value, int32_t bits) {
  return value < 0 ? ~(~value >> bits) : value >> bits;
}

static inline int32_t mlopsc_high_word(int64_t value) {
  return (int32_t)(value < 0 ? ~(~value >> 32) : value >> 32);
}

/* clamp(((sat32(a * 2^left_shift) * multiplier + 2^31) >> 32) + zero, low, high) */
static inline int8_t mlopsc_requantize(int32_t a, int32_t multiplier, int32_t left_shift,
                                       int32_t zero, int32_t low, int32_t high) {
  if (left_shift > 0) {
    const int32_t limit = INT32_MAX >> left_shift;
    a = a > limit    ? INT32_MAX
        : a < ~limit ? INT32_MIN
                     : (int32_t)((uint32_t)a << left_shift);
  }
  int32_t y = mlopsc_high_word((int64_t)a * multiplier + ((int64_t)1 << 31)) + zero;
  y = y < low ? low : y;
  return (int8_t)(y > high ? high : y);
}

#endif

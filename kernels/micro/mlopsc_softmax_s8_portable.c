/* Softmax of rows: see mlopsc_micro.h and docs/integer-semantics.md. */
#include "mlopsc_micro.h"

/* The quotient, at most 255: more is clamped anyway. Eight steps are far smaller than a division of 64
 * bits in software. */
static uint32_t quotient(uint64_t value, uint64_t divisor) {
  uint32_t result = 0;
  for (uint32_t bit = 8; bit-- > 0;) {
    if (value >= divisor << bit) {
      value -= divisor << bit;
      result |= 1U << bit;
    }
  }
  return result;
}

void mlopsc_softmax_s8(const int8_t *x, const uint32_t *table, int8_t *y,
                       const mlopsc_softmax_shape *shape) {
  const mlopsc_softmax_shape s = *shape;
  for (int32_t row = 0; row < s.rows; ++row, x += s.count, y += s.count) {
    int32_t largest = -128;
    for (int32_t i = 0; i < s.count; ++i) largest = x[i] > largest ? x[i] : largest;
    uint64_t sum = 0;
    for (int32_t i = 0; i < s.count; ++i) sum += table[largest - x[i]];
    for (int32_t i = 0; i < s.count; ++i) {
      const uint64_t part = table[largest - x[i]];
      const uint32_t scaled = quotient(2U * part * (uint32_t)s.scale + (sum << 8), sum << 9);
      const int32_t value = (int32_t)scaled + s.zero_out;
      y[i] = (int8_t)(value > 127 ? 127 : value);
    }
  }
}

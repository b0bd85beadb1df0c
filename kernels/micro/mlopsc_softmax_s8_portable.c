/* Softmax of rows: see mlopsc_micro.h and docs/integer-semantics.md. */
#include "mlopsc_micro.h"

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
      const uint64_t scaled = (2U * part * (uint32_t)s.scale + (sum << 8)) / (sum << 9);
      const int64_t value = (int64_t)scaled + s.zero_out;
      y[i] = (int8_t)(value > 127 ? 127 : value < -128 ? -128 : value);
    }
  }
}

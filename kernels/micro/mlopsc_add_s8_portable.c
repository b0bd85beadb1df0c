/* Addition and subtraction: see mlopsc_micro.h. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_requantize.h"

void mlopsc_add_s8(const int8_t *a, const int8_t *b, int8_t *y, const mlopsc_add_shape *shape) {
  const mlopsc_add_shape s = *shape;
  for (int32_t i = 0; i < s.elements; ++i) {
    int32_t sum = a[i] * s.multiplier_a + b[i] * s.multiplier_b + s.constant;
    sum = mlopsc_shift_down(sum, s.shift);
    sum = sum < s.low ? s.low : sum;
    y[i] = (int8_t)(sum > s.high ? s.high : sum);
  }
}

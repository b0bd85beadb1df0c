/* Averages of rows: see mlopsc_micro.h. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_requantize.h"

void mlopsc_mean_s8(const int8_t *x, int8_t *y, const mlopsc_mean_shape *shape) {
  const mlopsc_mean_shape s = *shape;
  for (int32_t row = 0; row < s.rows; ++row, x += s.count) {
    int32_t sum = -s.zero_in * s.count;
    for (int32_t i = 0; i < s.count; ++i) sum += x[i];
    y[row] = mlopsc_requantize(sum, s.multiplier, s.left_shift, s.zero_out, s.low, s.high);
  }
}

/* Averages of rows with the DSP extension: see mlopsc_micro.h. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_dsp.h"

void mlopsc_mean_s8(const int8_t *x, int8_t *y, const mlopsc_mean_shape *shape) {
  const mlopsc_mean_shape s = *shape;
  const uint32_t ones = 0x00010001U;
  for (int32_t row = 0; row < s.rows; ++row) {
    const int8_t *const end = x + s.count, *const fours = x + (s.count & ~3);
    int32_t sum = -s.zero_in * s.count;
    for (; x != fours; x += 4) {
      const uint32_t word = mlopsc_word(x);
      sum = mlopsc_dot(mlopsc_odd(word), ones, mlopsc_dot(mlopsc_even(word), ones, sum));
    }
    for (; x != end; ++x) sum += *x;
    y[row] = mlopsc_requantize(sum, s.multiplier, s.left_shift, s.zero_out, s.low, s.high);
  }
}

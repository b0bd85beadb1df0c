/* Averages of rows with Helium: see mlopsc_micro.h. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_mve.h"

void mlopsc_mean_s8(const int8_t *x, int8_t *y, const mlopsc_mean_shape *shape) {
  const mlopsc_mean_shape s = *shape;
  const mlopsc_mve_output output = mlopsc_mve_output_of(s.left_shift, s.zero_out, s.low, s.high);
  const int32x4_t multiplier = vdupq_n_s32(s.multiplier);
  for (int32_t row = 0; row < s.rows; ++row) {
    const int8_t *from = x + row * s.count;
    int32_t sum = -s.count * s.zero_in;
    for (int32_t left = s.count; left > 0; left -= 16) {
      const mve_pred16_t lanes = vctp8q((uint32_t)left);
      sum = vaddvaq_p_s8(sum, vldrbq_z_s8(from, lanes), lanes);
      from += 16;
    }
    y[row] = (int8_t)vgetq_lane_s32(mlopsc_mve_result(vdupq_n_s32(sum), multiplier, output), 0);
  }
}

/* Addition and subtraction with Helium: see mlopsc_micro.h. */
#include <arm_mve.h>

#include "mlopsc_micro.h"

void mlopsc_add_s8(const int8_t *a, const int8_t *b, int8_t *y, const mlopsc_add_shape *shape) {
  const int32x4_t factor = vdupq_n_s32(shape->multiplier_a);
  const int32x4_t low = vdupq_n_s32(shape->low), high = vdupq_n_s32(shape->high);
  const int32_t multiplier_b = shape->multiplier_b, constant = shape->constant;
  const int32_t shift = -shape->shift;
  for (int32_t left = shape->elements; left > 0; left -= 4) {
    const mve_pred16_t lanes = vctp32q((uint32_t)left);
    int32x4_t sum = vmlasq_n_s32(vldrbq_z_s32(a, lanes), factor, constant);
    sum = vmlaq_n_s32(sum, vldrbq_z_s32(b, lanes), multiplier_b);
    sum = vshlq_r_s32(sum, shift);
    vstrbq_p_s32(y, vminq_s32(vmaxq_s32(sum, low), high), lanes);
    a += 4;
    b += 4;
    y += 4;
  }
}

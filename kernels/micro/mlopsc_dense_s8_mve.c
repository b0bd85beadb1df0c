/* Product with constant weights with Helium: see mlopsc_micro.h. Four outputs share what is loaded of
 * the input. Weights: [columns_out][columns_in]. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_mve.h"

/* The sums of four channels. */
static MLOPSC_MVE_APART int32x4_t dot_4(const int8_t *x, const int8_t *w0, const int8_t *w1,
                                        const int8_t *w2, const int8_t *w3, int32_t depth) {
  int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
  for (int32_t left = depth; left > 0; left -= 16) {
    const mve_pred16_t lanes = vctp8q((uint32_t)left);
    const int8x16_t q = vldrbq_z_s8(x, lanes);
    a0 = vmladavaq_p_s8(a0, q, vldrbq_z_s8(w0, lanes), lanes);
    a1 = vmladavaq_p_s8(a1, q, vldrbq_z_s8(w1, lanes), lanes);
    a2 = vmladavaq_p_s8(a2, q, vldrbq_z_s8(w2, lanes), lanes);
    a3 = vmladavaq_p_s8(a3, q, vldrbq_z_s8(w3, lanes), lanes);
    x += 16;
    w0 += 16;
    w1 += 16;
    w2 += 16;
    w3 += 16;
  }
  int32x4_t sums = vdupq_n_s32(a0);
  sums = vsetq_lane_s32(a1, sums, 1);
  sums = vsetq_lane_s32(a2, sums, 2);
  return vsetq_lane_s32(a3, sums, 3);
}

void mlopsc_dense_s8(const int8_t *x, const int8_t *w, const int32_t *bias,
                     const int32_t *multiplier, int8_t *y, void *scratch,
                     const mlopsc_dense_shape *shape) {
  const mlopsc_dense_shape s = *shape;
  const mlopsc_mve_output output = mlopsc_mve_output_of(s.left_shift, s.zero_out, s.low, s.high);
  (void)scratch;
  for (int32_t row = 0; row < s.rows; ++row) {
    const int8_t *w0 = w;
    for (int32_t n = 0; n < s.columns_out; n += 4) {
      const int32_t left = s.columns_out - n; /* channels that do not exist: the last one again */
      const mve_pred16_t lanes = vctp32q((uint32_t)left);
      const int8_t *const w1 = left > 1 ? w0 + s.columns_in : w0;
      const int8_t *const w2 = left > 2 ? w1 + s.columns_in : w1;
      const int8_t *const w3 = left > 3 ? w2 + s.columns_in : w2;
      const int32x4_t sums = dot_4(x, w0, w1, w2, w3, s.columns_in);
      const int32x4_t result = mlopsc_mve_result(vaddq_s32(sums, vldrwq_z_s32(bias + n, lanes)),
                                                 vldrwq_z_s32(multiplier + n, lanes), output);
      vstrbq_p_s32(y + n, result, lanes);
      w0 = w3 + s.columns_in;
    }
    x += s.columns_in;
    y += s.columns_out;
  }
}

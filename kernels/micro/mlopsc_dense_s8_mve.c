/* Product with constant weights with Helium: see mlopsc_micro.h. Four outputs share what is loaded of
 * the input. Weights as for the convolution, with columns_in for k; no scratch. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_mve.h"

/* The sums of four channels, of which the last two may be the first two again. */
static MLOPSC_MVE_APART int32x4_t dot_4(const int8_t *x, const int8_t *w0, const int8_t *w2,
                                        int32_t blocks, int32_t tail) {
  int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
  for (int32_t k = 0; k < blocks; ++k) {
    const int8x16_t q = vldrbq_s8(x);
    a0 = vmladavaq_s8(a0, q, vldrbq_s8(w0));
    a1 = vmladavaq_s8(a1, q, vldrbq_s8(w0 + 16));
    a2 = vmladavaq_s8(a2, q, vldrbq_s8(w2));
    a3 = vmladavaq_s8(a3, q, vldrbq_s8(w2 + 16));
    x += 16;
    w0 += 32;
    w2 += 32;
  }
  if (tail > 0) {
    const mve_pred16_t lanes = vctp8q((uint32_t)tail);
    const int8x16_t q = vldrbq_z_s8(x, lanes);
    a0 = vmladavaq_s8(a0, q, vldrbq_z_s8(w0, lanes));
    a1 = vmladavaq_s8(a1, q, vldrbq_z_s8(w0 + tail, lanes));
    a2 = vmladavaq_s8(a2, q, vldrbq_z_s8(w2, lanes));
    a3 = vmladavaq_s8(a3, q, vldrbq_z_s8(w2 + tail, lanes));
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
    const int8_t *pair = w;
    for (int32_t n = 0; n < s.columns_out; n += 4) {
      const mve_pred16_t lanes = vctp32q((uint32_t)(s.columns_out - n));
      const int8_t *next = n + 2 < s.columns_out ? pair + 2 * s.columns_in : pair;
      const int32x4_t sums = dot_4(x, pair, next, s.columns_in >> 4, s.columns_in & 15);
      const int32x4_t result = mlopsc_mve_result(vaddq_s32(sums, vldrwq_z_s32(bias + n, lanes)),
                                                 vldrwq_z_s32(multiplier + n, lanes), output);
      vstrbq_p_s32(y + n, result, lanes);
      pair = next + 2 * s.columns_in;
    }
    x += s.columns_in;
    y += s.columns_out;
  }
}

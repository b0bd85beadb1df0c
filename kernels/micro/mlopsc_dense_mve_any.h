/* Product with constant weights with Helium: see mlopsc_micro.h. Four outputs share what is loaded of
 * the input. Weights: [columns_out][columns_in]; of 4 bits, the first half of columns_in, which is even,
 * in the upper halves of the bytes, the second half in the lower ones. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_mve.h"
#include "mlopsc_micro_weights.h"

/* Add the products of sixteen weights, or of twice as many of 4 bits. */
#if MLOPSC_WEIGHT_BITS == 4
typedef struct {
  int8x16_t first, second; /* `depth` elements further */
} input;

static inline input load(const int8_t *x, int32_t depth, mve_pred16_t lanes) {
  const input q = {vldrbq_z_s8(x, lanes), vldrbq_z_s8(x + depth, lanes)};
  return q;
}

static inline int32_t add_products(int32_t sum, input x, const int8_t *w, mve_pred16_t lanes) {
  const int8x16_t q = vldrbq_z_s8(w, lanes);
  sum = vmladavaq_p_s8(sum, x.first, vandq_s8(q, vdupq_n_s8(-16)), lanes);
  return vmladavaq_p_s8(sum, x.second, vshlq_n_s8(q, 4), lanes);
}
#else
typedef int8x16_t input;

static inline input load(const int8_t *x, int32_t depth, mve_pred16_t lanes) {
  (void)depth;
  return vldrbq_z_s8(x, lanes);
}

static inline int32_t add_products(int32_t sum, input x, const int8_t *w, mve_pred16_t lanes) {
  return vmladavaq_p_s8(sum, x, vldrbq_z_s8(w, lanes), lanes);
}
#endif

/* The sums of four channels; `depth`: bytes of their weights. */
static MLOPSC_MVE_APART int32x4_t dot_4(const int8_t *x, const int8_t *w0, const int8_t *w1,
                                        const int8_t *w2, const int8_t *w3, int32_t depth) {
  int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
  for (int32_t left = depth; left > 0; left -= 16) {
    const mve_pred16_t lanes = vctp8q((uint32_t)left);
    const input q = load(x, depth, lanes);
    a0 = add_products(a0, q, w0, lanes);
    a1 = add_products(a1, q, w1, lanes);
    a2 = add_products(a2, q, w2, lanes);
    a3 = add_products(a3, q, w3, lanes);
    x += 16;
    w0 += 16;
    w1 += 16;
    w2 += 16;
    w3 += 16;
  }
  int32x4_t sums = vdupq_n_s32(a0);
  sums = vsetq_lane_s32(a1, sums, 1);
  sums = vsetq_lane_s32(a2, sums, 2);
  sums = vsetq_lane_s32(a3, sums, 3);
#if MLOPSC_WEIGHT_BITS == 4
  sums = vshrq_n_s32(sums, 4);
#endif
  return sums;
}

void NAME(const int8_t *x, const int8_t *w, const int32_t *bias,
                                     const int32_t *multiplier, int8_t *y, void *scratch,
                                     const mlopsc_dense_shape *shape) {
  const mlopsc_dense_shape s = *shape;
  const mlopsc_mve_output output = mlopsc_mve_output_of(s.left_shift, s.zero_out, s.low, s.high);
  const int32_t bytes = MLOPSC_WEIGHT_BYTES(s.columns_in);
  (void)scratch;
  for (int32_t row = 0; row < s.rows; ++row) {
    const int8_t *w0 = w;
    for (int32_t n = 0; n < s.columns_out; n += 4) {
      const int32_t left = s.columns_out - n; /* channels that do not exist: the last one again */
      const mve_pred16_t lanes = vctp32q((uint32_t)left);
      const int8_t *const w1 = left > 1 ? w0 + bytes : w0;
      const int8_t *const w2 = left > 2 ? w1 + bytes : w1;
      const int8_t *const w3 = left > 3 ? w2 + bytes : w2;
      const int32x4_t sums = dot_4(x, w0, w1, w2, w3, bytes);
      const int32x4_t result = mlopsc_mve_result(vaddq_s32(sums, vldrwq_z_s32(bias + n, lanes)),
                                                 vldrwq_z_s32(multiplier + n, lanes), output);
      vstrbq_p_s32(y + n, result, lanes);
      w0 = w3 + bytes;
    }
    x += s.columns_in;
    y += s.columns_out;
  }
}

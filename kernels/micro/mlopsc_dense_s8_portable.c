/* Product with constant weights in portable C: see mlopsc_micro.h. Weights: [columns_out][columns_in].
 */
#include "mlopsc_micro.h"
#include "mlopsc_micro_requantize.h"

void mlopsc_dense_s8(const int8_t *x, const int8_t *w, const int32_t *bias,
                     const int32_t *multiplier, int8_t *y, void *scratch,
                     const mlopsc_dense_shape *shape) {
  const mlopsc_dense_shape s = *shape;
  (void)scratch;
  for (int32_t row = 0; row < s.rows; ++row, x += s.columns_in) {
    const int8_t *weight = w;
    for (int32_t n = 0; n < s.columns_out; ++n, weight += s.columns_in) {
      int32_t sum = bias[n];
      for (int32_t k = 0; k < s.columns_in; ++k) sum += weight[k] * x[k];
      *y++ = mlopsc_requantize(sum, multiplier[n], s.left_shift, s.zero_out, s.low, s.high);
    }
  }
}

/* Product with constant weights in portable C: see mlopsc_micro.h. Four outputs share what is loaded of
 * the input. Weights: of each four columns_out [columns_in][4], of what is left over [columns_in]. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_apart.h"
#include "mlopsc_micro_requantize.h"

static MLOPSC_APART void dot_four(const int8_t *x, const int8_t *w, int32_t depth,
                                  int32_t sum[4]) {
  const int8_t *const end = x + depth;
  int32_t a = sum[0], b = sum[1], c = sum[2], d = sum[3];
  if (depth % 2 != 0) {
    a += x[0] * w[0];
    b += x[0] * w[1];
    c += x[0] * w[2];
    d += x[0] * w[3];
    ++x;
    w += 4;
  }
  for (; x != end; x += 2, w += 8) {
    const int32_t even = x[0], odd = x[1];
    a += even * w[0];
    b += even * w[1];
    c += even * w[2];
    d += even * w[3];
    a += odd * w[4];
    b += odd * w[5];
    c += odd * w[6];
    d += odd * w[7];
  }
  sum[0] = a;
  sum[1] = b;
  sum[2] = c;
  sum[3] = d;
}

static MLOPSC_APART int32_t dot_one(const int8_t *x, const int8_t *w, int32_t depth, int32_t sum) {
  const int8_t *const end = x + depth;
  while (x != end) sum += *x++ * *w++;
  return sum;
}

void mlopsc_dense_s8(const int8_t *x, const int8_t *w, const int32_t *bias,
                     const int32_t *multiplier, int8_t *y, void *scratch,
                     const mlopsc_dense_shape *shape) {
  const mlopsc_dense_shape s = *shape;
  (void)scratch;
  for (int32_t row = 0; row < s.rows; ++row, x += s.columns_in) {
    const int8_t *weights = w;
    for (int32_t n = 0, group; n < s.columns_out; n += group, weights += group * s.columns_in) {
      int32_t sum[4] = {bias[n]};
      group = s.columns_out - n < 4 ? 1 : 4;
      for (int32_t i = 1; i < group; ++i) sum[i] = bias[n + i];
      if (group == 4)
        dot_four(x, weights, s.columns_in, sum);
      else
        sum[0] = dot_one(x, weights, s.columns_in, sum[0]);
      for (int32_t i = 0; i < group; ++i)
        *y++ = mlopsc_requantize(sum[i], multiplier[n + i], s.left_shift, s.zero_out, s.low,
                                 s.high);
    }
  }
}

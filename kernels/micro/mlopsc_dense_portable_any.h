/* Product with constant weights in portable C: see mlopsc_micro.h. Four outputs share what is loaded of
 * the input. Weights: of each four columns_out [columns_in][4], of what is left over [columns_in]. Of
 * 4 bits: the first of two in the lower half of a byte, each columns_out at a byte of its own. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_apart.h"
#include "mlopsc_micro_requantize.h"
#include "mlopsc_micro_weights.h"

static MLOPSC_APART void dot_four(const int8_t *x, const int8_t *w, int32_t depth,
                                  int32_t sum[4]) {
  const int8_t *const end = x + depth;
  const int32_t pair = MLOPSC_WEIGHT_BYTES(2);
  int32_t a = sum[0], b = sum[1];
  int32_t c = sum[2], d = sum[3];
  if (depth % 2 != 0) {
    a += x[0] * mlopsc_first(w);
    b += x[0] * mlopsc_second(w);
    c += x[0] * mlopsc_first(w + pair);
    d += x[0] * mlopsc_second(w + pair);
    ++x;
    w += 2 * pair;
  }
  for (; x != end; x += 2, w += 4 * pair) {
    const int32_t even = x[0], odd = x[1];
    a += even * mlopsc_first(w);
    b += even * mlopsc_second(w);
    c += even * mlopsc_first(w + pair);
    d += even * mlopsc_second(w + pair);
    a += odd * mlopsc_first(w + 2 * pair);
    b += odd * mlopsc_second(w + 2 * pair);
    c += odd * mlopsc_first(w + 3 * pair);
    d += odd * mlopsc_second(w + 3 * pair);
  }
  sum[0] = a;
  sum[1] = b;
  sum[2] = c;
  sum[3] = d;
}

static MLOPSC_APART int32_t dot_one(const int8_t *x, const int8_t *w, int32_t depth, int32_t sum) {
  for (int32_t k = 0; k < depth; ++k) sum += x[k] * mlopsc_weight(w, k);
  return sum;
}

void NAME(const int8_t *x, const int8_t *w, const int32_t *bias,
                                     const int32_t *multiplier, int8_t *y, void *scratch,
                                     const mlopsc_dense_shape *shape) {
  const mlopsc_dense_shape s = *shape;
  (void)scratch;
  for (int32_t row = 0; row < s.rows; ++row, x += s.columns_in) {
    const int8_t *weights = w;
    for (int32_t n = 0, group; n < s.columns_out; n += group) {
      int32_t sum[4] = {bias[n]};
      group = s.columns_out - n < 4 ? 1 : 4;
      for (int32_t i = 1; i < group; ++i) sum[i] = bias[n + i];
      if (group == 4)
        dot_four(x, weights, s.columns_in, sum);
      else
        sum[0] = dot_one(x, weights, s.columns_in, sum[0]);
      weights += MLOPSC_WEIGHT_BYTES(group * s.columns_in);
      for (int32_t i = 0; i < group; ++i)
        *y++ = mlopsc_requantize(sum[i], multiplier[n + i], s.left_shift, s.zero_out, s.low,
                                 s.high);
    }
  }
}

/* Depthwise convolution in portable C: see mlopsc_micro.h.
 *
 * Weights: [channels_out][kernel_height][kernel_width]. The scratch holds one plane of the input with
 * its border, so that no tap is checked and the output may replace the input. Of 4 bits: the first of two in the lower half of a
 * byte; those of a channel are widened to the end of the scratch. */
#include "mlopsc_micro_apart.h"
#include "mlopsc_micro_plane.h"
#include "mlopsc_micro_requantize.h"
#include "mlopsc_micro_weights.h"

/* Four neighbouring results. */
typedef struct {
  int32_t a, b, c, d;
} four;

/* Add a row of a kernel of three columns, with a column stride of 1. */
static inline four add_row(four sum, const int8_t *x, const int8_t *w) {
  const int32_t w0 = w[0], w1 = w[1], w2 = w[2];
  int32_t value = x[0];
  sum.a += value * w0;
  value = x[1];
  sum.a += value * w1;
  sum.b += value * w0;
  value = x[2];
  sum.a += value * w2;
  sum.b += value * w1;
  sum.c += value * w0;
  value = x[3];
  sum.b += value * w2;
  sum.c += value * w1;
  sum.d += value * w0;
  value = x[4];
  sum.c += value * w2;
  sum.d += value * w1;
  value = x[5];
  sum.d += value * w2;
  return sum;
}

/* The sums of four neighbouring results of a 3 x 3 kernel with a column stride of 1. */
static inline four four_3x3(const int8_t *x, int32_t width, const int8_t *w, int32_t bias) {
  const int8_t *x1 = x + width, *x2 = x1 + width;
  four sum = {bias, bias, bias, bias};
  sum = add_row(sum, x, w);
  MLOPSC_AFTER(sum.d, x1);
  sum = add_row(sum, x1, w + 3);
  MLOPSC_AFTER(sum.d, x2);
  return add_row(sum, x2, w + 6);
}

static MLOPSC_APART four shift_up(four sum, int32_t bits) {
  const four shifted = {mlopsc_shift_up(sum.a, bits), mlopsc_shift_up(sum.b, bits),
                        mlopsc_shift_up(sum.c, bits), mlopsc_shift_up(sum.d, bits)};
  return shifted;
}

/* The sum of one result of a 3 x 3 kernel. */
static inline int32_t one_3x3(const int8_t *x, int32_t width, const int8_t *w, int32_t sum) {
  const int8_t *const x1 = x + width, *const x2 = x1 + width;
  sum += x[0] * w[0] + x[1] * w[1] + x[2] * w[2];
  sum += x1[0] * w[3] + x1[1] * w[4] + x1[2] * w[5];
  return sum + x2[0] * w[6] + x2[1] * w[7] + x2[2] * w[8];
}

/* The sum of one result of any kernel. */
static inline int32_t one_of_any(const int8_t *x, int32_t width, const int8_t *w, int32_t sum,
                                 const mlopsc_conv_shape *s) {
  const int32_t down = s->dilation_height * width, right = s->dilation_width;
  for (int32_t ky = s->kernel_height; ky > 0; --ky, x += down) {
    const int8_t *tap = x;
    for (int32_t kx = s->kernel_width; kx > 0; --kx, tap += right) sum += *w++ * *tap;
  }
  return sum;
}

/* One channel of a 3 x 3 kernel without dilation. */
static MLOPSC_APART void plane_3x3(const int8_t *plane, const int8_t *w, int32_t bias,
                                   int32_t multiplier, int8_t *y, const mlopsc_conv_shape *s) {
  const int32_t left_shift = s->left_shift, zero = s->zero_out, low = s->low, high = s->high;
  const int32_t width = mlopsc_plane_width(s), step = s->stride_width;
  const int32_t down = s->stride_height * width, columns = s->width_out;
  const int32_t fours = step == 1 ? columns & ~3 : 0;
  for (int32_t row = s->height_out; row > 0; --row, plane += down) {
    const int8_t *x = plane;
    const int8_t *const split = y + fours, *const end = y + columns;
    for (; y != split; x += 4, y += 4) {
      four sum = four_3x3(x, width, w, bias);
      if (left_shift > 0) sum = shift_up(sum, left_shift);
      y[0] = mlopsc_requantize(sum.a, multiplier, 0, zero, low, high);
      y[1] = mlopsc_requantize(sum.b, multiplier, 0, zero, low, high);
      y[2] = mlopsc_requantize(sum.c, multiplier, 0, zero, low, high);
      y[3] = mlopsc_requantize(sum.d, multiplier, 0, zero, low, high);
    }
    for (; y != end; x += step) {
      const int32_t sum = one_3x3(x, width, w, bias);
      *y++ = mlopsc_requantize(sum, multiplier, left_shift, zero, low, high);
    }
  }
}

/* One channel of any kernel. */
static MLOPSC_APART void plane_any(const int8_t *plane, const int8_t *w, int32_t bias,
                                   int32_t multiplier, int8_t *y, const mlopsc_conv_shape *s) {
  const int32_t width = mlopsc_plane_width(s), down = s->stride_height * width;
  for (int32_t row = 0; row < s->height_out; ++row, plane += down)
    for (int32_t column = 0; column < s->width_out; ++column) {
      const int32_t sum = one_of_any(plane + column * s->stride_width, width, w, bias, s);
      *y++ = mlopsc_requantize(sum, multiplier, s->left_shift, s->zero_out, s->low, s->high);
    }
}

void NAME(const int8_t *x, const int8_t *w, const int32_t *bias,
                                         const int32_t *multiplier, int8_t *y, void *scratch,
                                         const mlopsc_conv_shape *shape) {
  const mlopsc_conv_shape s = *shape;
  const int32_t repeat = s.channels_out / s.channels_in;
  const int32_t taps = s.kernel_height * s.kernel_width;
  const int32_t is_3x3 = s.kernel_height == 3 && s.kernel_width == 3 && s.dilation_height == 1 &&
                         s.dilation_width == 1;
  int8_t *const plane = (int8_t *)scratch;
  int8_t *const buffer = plane + mlopsc_plane_height(&s) * mlopsc_plane_width(&s);
  mlopsc_plane_border(&s, plane);
  for (int32_t n = 0; n < s.channels_out; ++n) {
    const int8_t *const weights = mlopsc_wide_weights(w, n * taps, taps, buffer);
    if (n % repeat == 0) mlopsc_plane_fill(&s, x + n / repeat * s.height_in * s.width_in, plane);
    if (is_3x3 != 0)
      plane_3x3(plane, weights, bias[n], multiplier[n], y, &s);
    else
      plane_any(plane, weights, bias[n], multiplier[n], y, &s);
    y += s.height_out * s.width_out;
  }
}

/* Depthwise convolution with the DSP extension: see mlopsc_micro.h.
 *
 * The scratch holds one plane of the input with its border, so that no tap is checked and the output
 * may replace the input, and three bytes more. Weights: [channels_out][kernel_height][kernel_width];
 * the rows of a kernel that is three wide are filled up to four bytes with a zero. */
#include "mlopsc_micro_dsp.h"
#include "mlopsc_micro_plane.h"

/* How sums become bytes. */
typedef struct {
  int32_t multiplier, left_shift, zero, low, high, plain;
} output_scale;

static inline int8_t finish(int32_t sum, const output_scale *scale) {
  return scale->plain != 0 ? mlopsc_scale(sum, scale->multiplier, scale->zero)
                           : mlopsc_requantize(sum, scale->multiplier, scale->left_shift,
                                               scale->zero, scale->low, scale->high);
}

/* A 3x3 kernel: the pairs of its outer columns, and its middle column. */
typedef struct {
  uint32_t outer[3], middle[3];
} kernel3;

/* One output, and with `two` the one to its right: x[0] to x[3] of three rows. */
static inline void window3(const int8_t *x, int32_t width, const kernel3 *w, int32_t two,
                           int32_t sum[2]) {
  for (int32_t ky = 0; ky < 3; ++ky) {
    const uint32_t word = mlopsc_word(x + ky * width);
    const uint32_t even = mlopsc_even(word), odd = mlopsc_odd(word);
    sum[0] = mlopsc_dot(even, w->outer[ky], sum[0]);
    sum[0] = __smlabb((int32_t)odd, (int32_t)w->middle[ky], sum[0]);
    if (two != 0) {
      sum[1] = mlopsc_dot(odd, w->outer[ky], sum[1]);
      sum[1] = __smlatb((int32_t)even, (int32_t)w->middle[ky], sum[1]);
    }
  }
}

static int8_t *plane3(const int8_t *plane, int32_t width, const int8_t *weights, int32_t bias,
                      const mlopsc_conv_shape *s, const output_scale *scale, int8_t *y) {
  kernel3 w;
  for (int32_t ky = 0; ky < 3; ++ky) {
    const uint32_t word = mlopsc_word(weights + 4 * ky);
    w.outer[ky] = mlopsc_even(word);
    w.middle[ky] = mlopsc_odd(word);
  }
  const output_scale final = *scale;
  const int32_t step = s->stride_width, columns = s->width_out;
  for (int32_t row = 0; row < s->height_out; ++row, plane += s->stride_height * width) {
    const int8_t *x = plane;
    int32_t column = 0;
    for (; step == 1 && column + 2 <= columns; column += 2, x += 2, y += 2) {
      int32_t sum[2] = {bias, bias};
      window3(x, width, &w, 1, sum);
      y[0] = finish(sum[0], &final);
      y[1] = finish(sum[1], &final);
    }
    for (; column < columns; ++column, x += step) {
      int32_t sum[2] = {bias, 0};
      window3(x, width, &w, 0, sum);
      *y++ = finish(sum[0], &final);
    }
  }
  return y;
}

/* Any kernel, tap by tap. */
static int8_t *plane_any(const int8_t *plane, int32_t width, const int8_t *weights, int32_t bias,
                         const mlopsc_conv_shape *s, const output_scale *scale, int8_t *y) {
  const int32_t pitch = s->kernel_width == 3 ? 4 : s->kernel_width;
  for (int32_t row = 0; row < s->height_out; ++row, plane += s->stride_height * width)
    for (int32_t column = 0; column < s->width_out; ++column) {
      const int8_t *x = plane + column * s->stride_width, *w = weights;
      int32_t sum = bias;
      for (int32_t ky = 0; ky < s->kernel_height; ++ky, x += s->dilation_height * width, w += pitch)
        for (int32_t kx = 0; kx < s->kernel_width; ++kx) sum += w[kx] * x[kx * s->dilation_width];
      *y++ = finish(sum, scale);
    }
  return y;
}

void mlopsc_depthwise_s8(const int8_t *x, const int8_t *w, const int32_t *bias,
                         const int32_t *multiplier, int8_t *y, void *scratch,
                         const mlopsc_conv_shape *shape) {
  const mlopsc_conv_shape s = *shape;
  const int32_t width = mlopsc_plane_width(&s), repeat = s.channels_out / s.channels_in;
  const int32_t is3 = s.kernel_height == 3 && s.kernel_width == 3 && s.dilation_height == 1 &&
                      s.dilation_width == 1;
  const int32_t pitch = s.kernel_height * (s.kernel_width == 3 ? 4 : s.kernel_width);
  output_scale scale = {0, s.left_shift, s.zero_out, s.low, s.high, 0};
  int8_t *const plane = (int8_t *)scratch;
  scale.plain = s.left_shift == 0 && s.low == -128 && s.high == 127;
  mlopsc_plane_border(&s, plane);
  for (int32_t n = 0; n < s.channels_out; ++n, w += pitch) {
    if (n % repeat == 0) mlopsc_plane_fill(&s, x + n / repeat * s.height_in * s.width_in, plane);
    scale.multiplier = multiplier[n];
    y = is3 ? plane3(plane, width, w, bias[n], &s, &scale, y)
            : plane_any(plane, width, w, bias[n], &s, &scale, y);
  }
}

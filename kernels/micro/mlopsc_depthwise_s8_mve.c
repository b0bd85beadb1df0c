/* Depthwise convolution with Helium: see mlopsc_micro.h. Lanes are four neighbours of a row.
 *
 * Weights: [channels_out][kernel_height][kernel_width]. The scratch holds one plane of the input with
 * its border, so that no tap is checked and the output may replace the input, and 16 bytes that are
 * read but do not count. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_mve.h"
#include "mlopsc_micro_plane.h"

#define LANES 4

/* Copy one channel of the input into the middle of the plane. */
static void fill(const int8_t *x, int8_t *plane, const mlopsc_conv_shape *s) {
  const int32_t width = mlopsc_plane_width(s);
  const int32_t right = width - s->pad_left, below = mlopsc_plane_height(s) - s->pad_top;
  const int32_t columns = s->width_in < right ? s->width_in : right;
  const int32_t rows = s->height_in < below ? s->height_in : below;
  plane += s->pad_top * width + s->pad_left;
  for (int32_t row = 0; row < rows; ++row) {
    const int8_t *from = x + row * s->width_in;
    int8_t *to = plane + row * width;
    for (int32_t left = columns; left > 0; left -= 16) {
      const mve_pred16_t lanes = vctp8q((uint32_t)left);
      vstrbq_p_s8(to, vldrbq_z_s8(from, lanes), lanes);
      from += 16;
      to += 16;
    }
  }
}

/* Four adjacent results' elements of one tap. */
static inline int32x4_t load(const int8_t *x, int32_t adjacent, uint32x4_t offsets) {
  return adjacent != 0 ? vldrbq_s32(x) : vldrbq_gather_offset_s32(x, offsets);
}

/* One channel of a 3 x 3 kernel without dilation. */
static inline void plane_3x3(const int8_t *plane, const int8_t *w, int32_t bias,
                             int32_t multiplier, int8_t *y, const mlopsc_conv_shape *s,
                             int32_t adjacent) {
  const mlopsc_mve_output output =
      mlopsc_mve_output_of(s->left_shift, s->zero_out, s->low, s->high);
  const int32x4_t factor = vdupq_n_s32(multiplier);
  const uint32x4_t offsets = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)s->stride_width);
  const int32_t w00 = w[0], w01 = w[1], w02 = w[2], w10 = w[3], w11 = w[4], w12 = w[5];
  const int32_t w20 = w[6], w21 = w[7], w22 = w[8];
  const int32_t width = mlopsc_plane_width(s), down = s->stride_height * width;
  const int32_t columns = s->width_out, right = adjacent != 0 ? LANES : LANES * s->stride_width;
  for (int32_t rows = s->height_out; rows > 0; --rows) {
    const int8_t *x0 = plane, *x1 = x0 + width, *x2 = x1 + width;
    int8_t *to = y;
    for (int32_t left = columns; left > 0; left -= LANES) {
      int32x4_t a = vmlaq_n_s32(vdupq_n_s32(bias), load(x0, adjacent, offsets), w00);
      a = vmlaq_n_s32(a, load(x0 + 1, adjacent, offsets), w01);
      a = vmlaq_n_s32(a, load(x0 + 2, adjacent, offsets), w02);
      a = vmlaq_n_s32(a, load(x1, adjacent, offsets), w10);
      a = vmlaq_n_s32(a, load(x1 + 1, adjacent, offsets), w11);
      a = vmlaq_n_s32(a, load(x1 + 2, adjacent, offsets), w12);
      a = vmlaq_n_s32(a, load(x2, adjacent, offsets), w20);
      a = vmlaq_n_s32(a, load(x2 + 1, adjacent, offsets), w21);
      a = vmlaq_n_s32(a, load(x2 + 2, adjacent, offsets), w22);
      vstrbq_p_s32(to, mlopsc_mve_result(a, factor, output), vctp32q((uint32_t)left));
      x0 += right;
      x1 += right;
      x2 += right;
      to += LANES;
    }
    plane += down;
    y += columns;
  }
}

static MLOPSC_MVE_APART void plane_3x3_adjacent(const int8_t *plane, const int8_t *w, int32_t bias,
                                                int32_t multiplier, int8_t *y,
                                                const mlopsc_conv_shape *s) {
  plane_3x3(plane, w, bias, multiplier, y, s, 1);
}

static MLOPSC_MVE_APART void plane_3x3_apart(const int8_t *plane, const int8_t *w, int32_t bias,
                                             int32_t multiplier, int8_t *y,
                                             const mlopsc_conv_shape *s) {
  plane_3x3(plane, w, bias, multiplier, y, s, 0);
}

/* One channel of any kernel. */
static MLOPSC_MVE_APART void plane_any(const int8_t *plane, const int8_t *w, int32_t bias,
                                       int32_t multiplier, int8_t *y,
                                       const mlopsc_conv_shape *s) {
  const mlopsc_mve_output output =
      mlopsc_mve_output_of(s->left_shift, s->zero_out, s->low, s->high);
  const int32x4_t factor = vdupq_n_s32(multiplier), start = vdupq_n_s32(bias);
  const uint32x4_t offsets = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)s->stride_width);
  const int32_t width = mlopsc_plane_width(s);
  for (int32_t row = 0; row < s->height_out; ++row) {
    const int8_t *x = plane + row * s->stride_height * width;
    for (int32_t column = 0; column < s->width_out; column += LANES) {
      const mve_pred16_t lanes = vctp32q((uint32_t)(s->width_out - column));
      const int8_t *weight = w;
      int32x4_t a = start;
      for (int32_t i = 0; i < s->kernel_height; ++i) {
        const int8_t *tap = x + column * s->stride_width + i * s->dilation_height * width;
        for (int32_t j = 0; j < s->kernel_width; ++j) {
          a = vmlaq_n_s32(a, vldrbq_gather_offset_z_s32(tap, offsets, lanes), *weight++);
          tap += s->dilation_width;
        }
      }
      vstrbq_p_s32(y + column, mlopsc_mve_result(a, factor, output), lanes);
    }
    y += s->width_out;
  }
}

void mlopsc_depthwise_s8(const int8_t *x, const int8_t *w, const int32_t *bias,
                         const int32_t *multiplier, int8_t *y, void *scratch,
                         const mlopsc_conv_shape *shape) {
  const mlopsc_conv_shape s = *shape;
  const int32_t repeat = s.channels_out / s.channels_in;
  const int32_t taps = s.kernel_height * s.kernel_width;
  const int32_t is_3x3 = s.kernel_height == 3 && s.kernel_width == 3 && s.dilation_height == 1 &&
                         s.dilation_width == 1;
  int8_t *const plane = (int8_t *)scratch;
  mlopsc_plane_border(&s, plane);
  for (int32_t n = 0; n < s.channels_out; ++n) {
    if (n % repeat == 0) fill(x + n / repeat * s.height_in * s.width_in, plane, &s);
    if (is_3x3 != 0 && s.stride_width == 1) {
      plane_3x3_adjacent(plane, w, bias[n], multiplier[n], y, &s);
    } else if (is_3x3 != 0) {
      plane_3x3_apart(plane, w, bias[n], multiplier[n], y, &s);
    } else {
      plane_any(plane, w, bias[n], multiplier[n], y, &s);
    }
    w += taps;
    y += s.height_out * s.width_out;
  }
}

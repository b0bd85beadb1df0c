/* Convolution with Helium: see mlopsc_micro.h. Four positions of the output at a time.
 *
 * Columns: of each position the k (tap first, then channel). Weights: [channels_out][k]. The scratch
 * holds the columns of four positions, each at a multiple of 16 bytes. shape->taps is not used: the
 * kernel is gathered at once. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_mve.h"

#define POSITIONS 4
#define GATHER 8
#define GATHER_REACH (65535 / (GATHER - 1)) /* elements between channels that 16 bits can address */

static void copy(const int8_t *from, int8_t *to, int32_t count) {
  for (int32_t left = count; left > 0; left -= 16) {
    const mve_pred16_t lanes = vctp8q((uint32_t)left);
    vstrbq_p_s8(to, vldrbq_z_s8(from, lanes), lanes);
    from += 16;
    to += 16;
  }
}

/* Write the k of one tap: `channels` bytes that are `plane` apart. */
static void gather(const int8_t *x, int8_t *to, int32_t channels, int32_t plane) {
  if (plane <= GATHER_REACH) {
    const uint16x8_t offsets = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)plane);
    for (int32_t left = channels; left > 0; left -= GATHER) {
      const mve_pred16_t lanes = vctp16q((uint32_t)left);
      vstrbq_p_s16(to, vldrbq_gather_offset_z_s16(x, offsets, lanes), lanes);
      to += GATHER;
      x += GATHER * plane;
    }
  } else {
    for (int32_t c = 0; c < channels; ++c) to[c] = x[c * plane];
  }
}

static void border(int8_t *to, int8_t value, int32_t count) {
  const int8x16_t values = vdupq_n_s8(value);
  for (int32_t left = count; left > 0; left -= 16) {
    vstrbq_p_s8(to, values, vctp8q((uint32_t)left));
    to += 16;
  }
}

/* Write the column of the output at (row, column). Where its left neighbour's is known, most of it
 * is there already, `stride_width` taps further. */
static void gather_position(const int8_t *x, int8_t *to, const int8_t *left_neighbour, int32_t row,
                            int32_t column, const mlopsc_conv_shape *s) {
  const int32_t channels = s->channels_in, plane = s->height_in * s->width_in;
  const int32_t shared = left_neighbour == 0 ? 0 : s->kernel_width - s->stride_width;
  int32_t y_in = row * s->stride_height - s->pad_top;
  for (int32_t i = 0; i < s->kernel_height; ++i) {
    int32_t x_in = column * s->stride_width - s->pad_left;
    int32_t j = 0;
    if (shared > 0) {
      copy(left_neighbour + s->stride_width * channels, to, shared * channels);
      left_neighbour += s->kernel_width * channels;
      to += shared * channels;
      x_in += shared;
      j = shared;
    }
    for (; j < s->kernel_width; ++j) {
      if (y_in >= 0 && y_in < s->height_in && x_in >= 0 && x_in < s->width_in) {
        gather(x + y_in * s->width_in + x_in, to, channels, plane);
      } else {
        border(to, (int8_t)s->zero_in, channels);
      }
      to += channels;
      x_in += s->dilation_width;
    }
    y_in += s->dilation_height;
  }
}

typedef struct {
  int32_t w0x0, w0x1, w1x0, w1x1;
} dots;

static inline dots dot_2x2(const int8_t *x0, const int8_t *x1, const int8_t *w0, const int8_t *w1,
                           int32_t depth) {
  dots sums = {0, 0, 0, 0};
  for (int32_t left = depth; left > 0; left -= 16) {
    const mve_pred16_t lanes = vctp8q((uint32_t)left);
    const int8x16_t q0 = vldrbq_z_s8(x0, lanes), q1 = vldrbq_z_s8(x1, lanes);
    const int8x16_t v0 = vldrbq_z_s8(w0, lanes), v1 = vldrbq_z_s8(w1, lanes);
    sums.w0x0 = vmladavaq_p_s8(sums.w0x0, q0, v0, lanes);
    sums.w0x1 = vmladavaq_p_s8(sums.w0x1, q1, v0, lanes);
    sums.w1x0 = vmladavaq_p_s8(sums.w1x0, q0, v1, lanes);
    sums.w1x1 = vmladavaq_p_s8(sums.w1x1, q1, v1, lanes);
    x0 += 16;
    x1 += 16;
    w0 += 16;
    w1 += 16;
  }
  return sums;
}

/* All channels of `valid` positions, at most four. */
static MLOPSC_MVE_APART void multiply(const int8_t *columns, const int8_t *w, const int32_t *bias,
                                      const int32_t *multiplier, int8_t *y, int32_t valid,
                                      const mlopsc_conv_shape *s) {
  const mlopsc_mve_output output =
      mlopsc_mve_output_of(s->left_shift, s->zero_out, s->low, s->high);
  const int32_t depth = s->kernel_height * s->kernel_width * s->channels_in;
  const int32_t pitch = (depth + 15) & ~15;
  const int32_t positions = s->height_out * s->width_out;
  const mve_pred16_t stored = vctp32q((uint32_t)valid);
  if (depth < 1) return; /* so that no loop below is checked for being empty */
  for (int32_t left = s->channels_out; left > 0; left -= 2) {
    const int8_t *const next = left > 1 ? w + depth : w; /* an odd last channel: itself again */
    const dots even = dot_2x2(columns, columns + 2 * pitch, w, next, depth);
    int32x4_t first = vdupq_n_s32(even.w0x0), second = vdupq_n_s32(even.w1x0);
    first = vsetq_lane_s32(even.w0x1, first, 2);
    second = vsetq_lane_s32(even.w1x1, second, 2);
    const dots odd = dot_2x2(columns + pitch, columns + 3 * pitch, w, next, depth);
    first = vsetq_lane_s32(odd.w0x1, vsetq_lane_s32(odd.w0x0, first, 1), 3);
    second = vsetq_lane_s32(odd.w1x1, vsetq_lane_s32(odd.w1x0, second, 1), 3);
    w = next + depth;
    first = mlopsc_mve_result(vaddq_n_s32(first, bias[0]), vdupq_n_s32(multiplier[0]), output);
    vstrbq_p_s32(y, first, stored);
    y += positions;
    if (left > 1) {
      second =
          mlopsc_mve_result(vaddq_n_s32(second, bias[1]), vdupq_n_s32(multiplier[1]), output);
      vstrbq_p_s32(y, second, stored);
      y += positions;
      bias += 2;
      multiplier += 2;
    }
  }
}

void mlopsc_conv_s8(const int8_t *x, const int8_t *w, const int32_t *bias,
                    const int32_t *multiplier, int8_t *y, void *scratch,
                    const mlopsc_conv_shape *shape) {
  const mlopsc_conv_shape s = *shape;
  int8_t *const columns = (int8_t *)scratch;
  const int32_t pitch = (s.kernel_height * s.kernel_width * s.channels_in + 15) & ~15;
  const int32_t positions = s.height_out * s.width_out;
  const int32_t shares = s.dilation_width == 1;
  int32_t row = 0, column = 0;
  for (int32_t first = 0; first < positions; first += POSITIONS) {
    const int32_t valid = positions - first < POSITIONS ? positions - first : POSITIONS;
    for (int32_t p = 0; p < valid; ++p) {
      const int8_t *const neighbour = columns + (p + POSITIONS - 1) % POSITIONS * pitch;
      gather_position(x, columns + p * pitch, shares && column > 0 ? neighbour : 0, row, column, &s);
      if (++column == s.width_out) {
        column = 0;
        ++row;
      }
    }
    multiply(columns, w, bias, multiplier, y + first, valid, &s);
  }
}

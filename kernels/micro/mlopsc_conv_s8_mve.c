/* Convolution with Helium: see mlopsc_micro.h. Four positions of the output at a time.
 *
 * Columns: of each position the k (tap first, then channel), filled up to a multiple of 16 by bytes
 * that do not count. Weights: of each two channels_out [k / 16][2][16], then what is left over of k,
 * [2][k % 16]; an odd last channel is followed by zeros. The scratch holds the columns of four
 * positions and 16 bytes more. shape->taps is not used: the kernel is gathered at once. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_mve.h"

#define POSITIONS 4
#define GATHER 8
#define GATHER_REACH (65535 / (GATHER - 1)) /* elements between channels that 16 bits can address */

/* Copies `channels` bytes that are `plane` apart. May write up to 7 bytes too many. */
static void gather(const int8_t *x, int8_t *column, int32_t channels, int32_t plane) {
  if (plane <= GATHER_REACH) {
    const uint16x8_t offsets = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)plane);
    int32_t left = channels;
    while (left > 0) {
      const mve_pred16_t lanes = vctp16q((uint32_t)left);
      vstrbq_s16(column, vldrbq_gather_offset_z_s16(x, offsets, lanes));
      column += GATHER;
      left -= GATHER;
      if (left > 0) x += GATHER * plane;
    }
  } else {
    for (int32_t c = 0; c < channels; ++c) column[c] = x[c * plane];
  }
}

/* Writes the inputs of the output at (row, column). */
static void gather_position(const int8_t *x, int8_t *to, int32_t row, int32_t column,
                            const mlopsc_conv_shape *s) {
  const int32_t plane = s->height_in * s->width_in;
  int32_t in_row = row * s->stride_height - s->pad_top;
  for (int32_t i = 0; i < s->kernel_height; ++i) {
    int32_t in_column = column * s->stride_width - s->pad_left;
    for (int32_t j = 0; j < s->kernel_width; ++j) {
      if (in_row >= 0 && in_row < s->height_in && in_column >= 0 && in_column < s->width_in) {
        gather(x + in_row * s->width_in + in_column, to, s->channels_in, plane);
      } else {
        const int16x8_t border = vdupq_n_s16((int16_t)s->zero_in);
        for (int32_t c = 0; c < s->channels_in; c += GATHER) vstrbq_s16(to + c, border);
      }
      to += s->channels_in;
      in_column += s->dilation_width;
    }
    in_row += s->dilation_height;
  }
}

typedef struct {
  int32_t w0x0, w0x1, w1x0, w1x1;
} dots;

/* Two channels at two positions that are two columns apart. What is left over comes first, so that
 * no address is needed after the loop. */
static inline dots dot_2x2(const int8_t *x0, const int8_t *w, int32_t depth) {
  const int32_t whole = depth & ~15, tail = depth & 15;
  const int8_t *x1 = x0 + 2 * ((depth + 15) & ~15);
  dots sums = {0, 0, 0, 0};
  if (tail > 0) {
    const mve_pred16_t lanes = vctp8q((uint32_t)tail);
    const int8x16_t w0 = vldrbq_z_s8(w + 2 * whole, lanes);
    const int8x16_t w1 = vldrbq_z_s8(w + 2 * whole + tail, lanes);
    const int8x16_t q0 = vldrbq_s8(x0 + whole), q1 = vldrbq_s8(x1 + whole);
    sums.w0x0 = vmladavq_s8(q0, w0);
    sums.w0x1 = vmladavq_s8(q1, w0);
    sums.w1x0 = vmladavq_s8(q0, w1);
    sums.w1x1 = vmladavq_s8(q1, w1);
  }
  for (int32_t k = whole >> 4; k > 0; --k) {
    const int8x16_t w0 = vldrbq_s8(w), w1 = vldrbq_s8(w + 16);
    const int8x16_t q0 = vldrbq_s8(x0), q1 = vldrbq_s8(x1);
    sums.w0x0 = vmladavaq_s8(sums.w0x0, q0, w0);
    sums.w0x1 = vmladavaq_s8(sums.w0x1, q1, w0);
    sums.w1x0 = vmladavaq_s8(sums.w1x0, q0, w1);
    sums.w1x1 = vmladavaq_s8(sums.w1x1, q1, w1);
    w += 32;
    x0 += 16;
    x1 += 16;
  }
  return sums;
}

/* Sums of two channels (the two vectors) at four positions (the lanes). */
static MLOPSC_MVE_APART int32x4x2_t dot_2x4(const int8_t *columns, const int8_t *w, int32_t depth) {
  int32x4x2_t sums = {{vdupq_n_s32(0), vdupq_n_s32(0)}};
  const dots even = dot_2x2(columns, w, depth);
  sums.val[0] = vsetq_lane_s32(even.w0x1, vsetq_lane_s32(even.w0x0, sums.val[0], 0), 2);
  sums.val[1] = vsetq_lane_s32(even.w1x1, vsetq_lane_s32(even.w1x0, sums.val[1], 0), 2);
  const dots odd = dot_2x2(columns + ((depth + 15) & ~15), w, depth);
  sums.val[0] = vsetq_lane_s32(odd.w0x1, vsetq_lane_s32(odd.w0x0, sums.val[0], 1), 3);
  sums.val[1] = vsetq_lane_s32(odd.w1x1, vsetq_lane_s32(odd.w1x0, sums.val[1], 1), 3);
  return sums;
}

/* All channels of `valid` positions, at most four. */
static MLOPSC_MVE_APART void multiply(const int8_t *columns, const int8_t *w, const int32_t *bias,
                                      const int32_t *multiplier, int8_t *y, int32_t valid,
                                      const mlopsc_conv_shape *s) {
  const mlopsc_mve_output output =
      mlopsc_mve_output_of(s->left_shift, s->zero_out, s->low, s->high);
  const int32_t depth = s->kernel_height * s->kernel_width * s->channels_in;
  const int32_t positions = s->height_out * s->width_out;
  const mve_pred16_t stored = vctp32q((uint32_t)valid);
  for (int32_t left = s->channels_out; left > 0; left -= 2) {
    const int32x4x2_t sums = dot_2x4(columns, w, depth);
    w += 2 * depth;
    const int32x4_t first = mlopsc_mve_result(vaddq_n_s32(sums.val[0], bias[0]),
                                              vdupq_n_s32(multiplier[0]), output);
    vstrbq_p_s32(y, first, stored);
    y += positions;
    if (left > 1) {
      const int32x4_t second = mlopsc_mve_result(vaddq_n_s32(sums.val[1], bias[1]),
                                                 vdupq_n_s32(multiplier[1]), output);
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
  int8_t *columns = (int8_t *)scratch;
  const int32_t depth = shape->kernel_height * shape->kernel_width * shape->channels_in;
  const int32_t pitch = (depth + 15) & ~15;
  const int32_t positions = shape->height_out * shape->width_out;
  int32_t row = 0, column = 0;
  for (int32_t first = 0; first < positions; first += POSITIONS) {
    const int32_t valid = positions - first < POSITIONS ? positions - first : POSITIONS;
    for (int32_t p = 0; p < valid; ++p) {
      gather_position(x, columns + p * pitch, row, column, shape);
      if (++column == shape->width_out) {
        column = 0;
        ++row;
      }
    }
    multiply(columns, w, bias, multiplier, y + first, valid, shape);
  }
}

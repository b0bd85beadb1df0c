/* Gathers the columns of a block for mlopsc_conv_s8_dsp.c, which describes them. */
#ifndef MLOPSC_GATHER_DSP_H
#define MLOPSC_GATHER_DSP_H

#include "mlopsc_micro_blocks.h"
#include "mlopsc_micro_dsp.h"

/* One k of the four positions: those of positions 0 and 2, and of 1 and 3. */
typedef struct {
  uint32_t even, odd;
} mlopsc_lanes;

/* Neighbours read neighbours, or every second byte: words hold them. */
static inline mlopsc_lanes mlopsc_load1(const int8_t *x) {
  const uint32_t word = mlopsc_word(x);
  const mlopsc_lanes v = {mlopsc_even(word), mlopsc_odd(word)};
  return v;
}

static inline mlopsc_lanes mlopsc_load2(const int8_t *x) {
  const uint32_t first = mlopsc_even(mlopsc_word(x)), second = mlopsc_odd(mlopsc_word(x + 3));
  const mlopsc_lanes v = {mlopsc_low(first, second), mlopsc_high(first, second)};
  return v;
}

static inline mlopsc_lanes mlopsc_load_any(const int8_t *x, int32_t stride) {
  const mlopsc_lanes v = {mlopsc_low((uint32_t)x[0], (uint32_t)x[2 * stride]),
                          mlopsc_low((uint32_t)x[stride], (uint32_t)x[3 * stride])};
  return v;
}

/* Turn two k of the four positions into four pairs. */
static inline uint32_t *mlopsc_put(uint32_t *column, mlopsc_lanes a, mlopsc_lanes b) {
  column[0] = mlopsc_low(a.even, b.even);
  column[1] = mlopsc_low(a.odd, b.odd);
  column[2] = mlopsc_high(a.even, b.even);
  column[3] = mlopsc_high(a.odd, b.odd);
  return column + MLOPSC_LANES;
}

/* Fill up to a multiple of four k. */
static inline void mlopsc_fill_up(uint32_t *column, int32_t pairs) {
  for (int32_t i = 0; pairs % 2 != 0 && i < MLOPSC_LANES; ++i) column[i] = 0;
}

/* One tap of an even number of channels whose positions lie in a row. */
__attribute__((noinline)) static uint32_t *mlopsc_put_inside(const int8_t *x, int32_t plane, int32_t channels,
                                   int32_t stride, uint32_t *column) {
  const int8_t *const end = x + channels * plane;
  if (stride == 1) {
    for (; x != end; x += 2 * plane)
      column = mlopsc_put(column, mlopsc_load1(x), mlopsc_load1(x + plane));
  } else if (stride == 2) {
    for (; x != end; x += 2 * plane)
      column = mlopsc_put(column, mlopsc_load2(x), mlopsc_load2(x + plane));
  } else {
    for (; x != end; x += 2 * plane)
      column =
          mlopsc_put(column, mlopsc_load_any(x, stride), mlopsc_load_any(x + plane, stride));
  }
  return column;
}

/* A 1x1 kernel that sees one row, and a whole block. */
static inline void mlopsc_gather_flat(const int8_t *x, const mlopsc_conv_shape *s,
                                      uint32_t *column) {
  column = mlopsc_put_inside(x, s->height_in * s->width_in, s->channels_in, 1, column);
  mlopsc_fill_up(column, s->channels_in / 2);
}

/* Taps [tap, end) of an even number of channels. */
static void mlopsc_gather_even(const int8_t *x, const mlopsc_conv_shape *s,
                               const mlopsc_block *block, int32_t tap, int32_t end,
                               uint32_t *column) {
  const int32_t plane = s->height_in * s->width_in, pairs = s->channels_in / 2;
  const uint32_t border = mlopsc_low((uint32_t)s->zero_in, (uint32_t)s->zero_in);
  int32_t ky = tap / s->kernel_width, kx = tap - ky * s->kernel_width;
  for (int32_t t = tap; t < end; ++t) {
    const int32_t down = ky * s->dilation_height, right = kx * s->dilation_width;
    if (mlopsc_inside(s, block, down, right, down, right) != 0) {
      const int8_t *const from =
          x + (block->row[0] + down) * s->width_in + block->column[0] + right;
      column = mlopsc_put_inside(from, plane, s->channels_in, s->stride_width, column);
    } else {
      for (int32_t i = 0; i < MLOPSC_LANES; ++i) {
        const int32_t at = mlopsc_find_tap(s, block, down, right, i);
        const int8_t *from = x + (at < 0 ? 0 : at);
        for (int32_t p = 0; p < pairs; ++p, from += 2 * plane)
          column[p * MLOPSC_LANES + i] =
              at < 0 ? border : mlopsc_low((uint32_t)from[0], (uint32_t)from[plane]);
      }
      column += pairs * MLOPSC_LANES;
    }
    if (++kx == s->kernel_width) {
      kx = 0;
      ++ky;
    }
  }
  mlopsc_fill_up(column, (end - tap) * pairs);
}

/* Where each k lies, seen from the first tap; one more if they are odd. */
static inline void mlopsc_list_offsets(const mlopsc_conv_shape *s, int32_t *offset) {
  for (int32_t ky = 0; ky < s->kernel_height; ++ky)
    for (int32_t kx = 0; kx < s->kernel_width; ++kx)
      for (int32_t c = 0; c < s->channels_in; ++c)
        *offset++ = (c * s->height_in + ky * s->dilation_height) * s->width_in +
                    kx * s->dilation_width;
  if (s->kernel_height * s->kernel_width % 2 != 0) *offset = 0;
}

/* One position, tap by tap; `column` is its first pair. */
static void mlopsc_put_position(const int8_t *x, const mlopsc_conv_shape *s, int32_t row,
                                int32_t column, uint8_t *out) {
  const int32_t plane = s->height_in * s->width_in;
  int32_t step = 2; /* to the other half of a pair, and then to the next pair: 14 */
  for (int32_t ky = 0; ky < s->kernel_height; ++ky) {
    const int32_t y = row + ky * s->dilation_height;
    const int8_t *const line = x + y * s->width_in;
    for (int32_t kx = 0; kx < s->kernel_width; ++kx) {
      const int32_t at = column + kx * s->dilation_width;
      const int32_t found = y >= 0 && y < s->height_in && at >= 0 && at < s->width_in;
      for (int32_t c = 0; c < s->channels_in; ++c, out += step, step ^= 12) {
        const int16_t value = (int16_t)(found != 0 ? line[at + c * plane] : s->zero_in);
        __builtin_memcpy(out, &value, sizeof value);
      }
    }
  }
  for (int32_t k = s->kernel_height * s->kernel_width * s->channels_in; k % 4 != 0;
       ++k, out += step, step ^= 12) {
    const int16_t value = 0;
    __builtin_memcpy(out, &value, sizeof value);
  }
}

/* All taps of an odd number of channels. */
static void mlopsc_gather_odd(const int8_t *x, const mlopsc_conv_shape *s,
                              const mlopsc_block *block, const int32_t *offset,
                              uint32_t *column) {
  const int32_t pairs = (s->kernel_height * s->kernel_width * s->channels_in + 1) / 2;
  if (mlopsc_inside(s, block, 0, 0, (s->kernel_height - 1) * s->dilation_height,
                    (s->kernel_width - 1) * s->dilation_width) == 0) {
    for (int32_t i = 0; i < MLOPSC_LANES; ++i)
      mlopsc_put_position(x, s, block->row[i], block->column[i], (uint8_t *)(column + i));
    return;
  }
  x += block->row[0] * s->width_in + block->column[0];
  if (s->stride_width == 1) {
    for (int32_t p = 0; p < pairs; ++p, offset += 2)
      column = mlopsc_put(column, mlopsc_load1(x + offset[0]), mlopsc_load1(x + offset[1]));
  } else if (s->stride_width == 2) {
    for (int32_t p = 0; p < pairs; ++p, offset += 2)
      column = mlopsc_put(column, mlopsc_load2(x + offset[0]), mlopsc_load2(x + offset[1]));
  } else {
    for (int32_t p = 0; p < pairs; ++p, offset += 2)
      column = mlopsc_put(column, mlopsc_load_any(x + offset[0], s->stride_width),
                          mlopsc_load_any(x + offset[1], s->stride_width));
  }
  mlopsc_fill_up(column, pairs);
}

#endif

/* Gathers the columns of a block for mlopsc_conv_dsp_any.h, which describes them. */
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

/* Fill up to the k of a word of weights. */
static inline void mlopsc_fill_up(uint32_t *column, int32_t pairs) {
  for (; pairs % (MLOPSC_WORD_WEIGHTS / 2) != 0; ++pairs, column += MLOPSC_LANES)
    for (int32_t i = 0; i < MLOPSC_LANES; ++i) column[i] = 0;
}

/* One tap of an even number of channels whose positions are neighbours in memory: 14 instructions for
 * eight elements. */
static inline uint32_t *mlopsc_put_run(const int8_t *x, int32_t plane, int32_t channels,
                                       uint32_t *column) {
  const int8_t *const end = x + channels * plane;
  uint32_t a, b, c, d;
  __asm__ volatile(
      "1:\n\t"
      "ldr %[a], [%[x]]\n\t"
      "ldr %[b], [%[x], %[plane]]\n\t"
      "sxtb16 %[c], %[a]\n\t"
      "sxtb16 %[d], %[b]\n\t"
      "sxtb16 %[a], %[a], ror #8\n\t"
      "sxtb16 %[b], %[b], ror #8\n\t"
      "add %[x], %[x], %[plane], lsl #1\n\t"
      "pkhbt r8, %[c], %[d], lsl #16\n\t"
      "pkhbt r9, %[a], %[b], lsl #16\n\t"
      "pkhtb r10, %[d], %[c], asr #16\n\t"
      "pkhtb r12, %[b], %[a], asr #16\n\t"
      "cmp %[x], %[end]\n\t"
      "stmia %[column]!, {r8, r9, r10, r12}\n\t"
      "bne 1b\n\t"
      : [x] "+r"(x), [column] "+r"(column), [a] "=&r"(a), [b] "=&r"(b), [c] "=&r"(c), [d] "=&r"(d)
      : [plane] "r"(plane), [end] "r"(end)
      : "r8", "r9", "r10", "r12", "cc", "memory");
  return column;
}

/* The same with strides. */
__attribute__((noinline)) static uint32_t *mlopsc_put_strided(const int8_t *x, int32_t plane,
                                                              int32_t channels, int32_t stride,
                                                              uint32_t *column) {
  const int8_t *const end = x + channels * plane;
  if (stride == 2) {
    for (; x != end; x += 2 * plane)
      column = mlopsc_put(column, mlopsc_load2(x), mlopsc_load2(x + plane));
  } else {
    for (; x != end; x += 2 * plane)
      column =
          mlopsc_put(column, mlopsc_load_any(x, stride), mlopsc_load_any(x + plane, stride));
  }
  return column;
}

/* The same where the run begins `missing` elements before the row at x, or (less than 0) ends behind
 * it: `border` holds four elements of the border. */
__attribute__((noinline)) static uint32_t *mlopsc_put_edge(const int8_t *x, int32_t plane,
                                                           int32_t channels, int32_t missing,
                                                           uint32_t border, uint32_t *column) {
  const int8_t *const end = x + channels * plane;
  const int32_t left = missing > 0 ? 8 * missing : 0, right = missing < 0 ? -8 * missing : 0;
  const uint32_t kept = UINT32_MAX << left >> right;
  const uint32_t fill = border & ~kept;
  for (; x != end; x += 2 * plane) {
    const uint32_t a = (mlopsc_word(x) << left >> right) | fill;
    const uint32_t b = (mlopsc_word(x + plane) << left >> right) | fill;
    const mlopsc_lanes v = {mlopsc_even(a), mlopsc_odd(a)}, w = {mlopsc_even(b), mlopsc_odd(b)};
    column = mlopsc_put(column, v, w);
  }
  return column;
}

/* A 1x1 kernel that sees one row, and a whole block. */
static inline void mlopsc_gather_flat(const int8_t *x, const mlopsc_conv_shape *s,
                                      uint32_t *column) {
  column = mlopsc_put_run(x, s->height_in * s->width_in, s->channels_in, column);
  mlopsc_fill_up(column, s->channels_in / 2);
}

/* One tap of an even number of channels, position by position. */
static uint32_t *mlopsc_put_mixed(const int8_t *x, const mlopsc_conv_shape *s,
                                  const mlopsc_block *block, int32_t down, int32_t right,
                                  uint32_t *column) {
  const int32_t plane = s->height_in * s->width_in;
  const uint32_t border = mlopsc_low((uint32_t)s->zero_in, (uint32_t)s->zero_in);
  uint32_t *const end = column + s->channels_in / 2 * MLOPSC_LANES;
  for (int32_t i = 0; i < MLOPSC_LANES; ++i) {
    const int32_t at = mlopsc_find_tap(s, block, down, right, i);
    if (at < 0) {
      for (uint32_t *out = column + i; out < end; out += MLOPSC_LANES) *out = border;
    } else {
      const int8_t *from = x + at;
      for (uint32_t *out = column + i; out < end; out += MLOPSC_LANES, from += 2 * plane)
        *out = mlopsc_low((uint32_t)from[0], (uint32_t)from[plane]);
    }
  }
  return end;
}

/* Taps [tap, end) of an even number of channels. */
__attribute__((noinline)) static void mlopsc_gather_even(const int8_t *x,
                                                         const mlopsc_conv_shape *s,
                                                         const mlopsc_block *block, int32_t tap,
                                                         int32_t end, uint32_t *column) {
  const int32_t plane = s->height_in * s->width_in, channels = s->channels_in;
  const int32_t width = s->width_in, stride = s->stride_width;
  const uint32_t border = (uint8_t)s->zero_in * 0x01010101U;
  const int32_t span = (MLOPSC_LANES - 1) * stride;
  const int32_t pairs = (end - tap) * channels / 2;
  int32_t ky = tap / s->kernel_width, kx = tap - ky * s->kernel_width;
  for (; tap < end; ++tap) {
    const int32_t down = ky * s->dilation_height, right = kx * s->dilation_width;
    const int32_t row = block->row[0] + down, first = block->column[0] + right;
    const int32_t over = first + span - (width - 1); /* elements behind the row */
    const int32_t found = block->neighbours != 0 && row >= 0 && row < s->height_in;
    const int8_t *const line = x + (found != 0 ? row * width : 0);
    if (found == 0)
      column = mlopsc_put_mixed(x, s, block, down, right, column);
    else if (first >= 0 && over <= 0)
      column = stride == 1 ? mlopsc_put_run(line + first, plane, channels, column)
                           : mlopsc_put_strided(line + first, plane, channels, stride, column);
    else if (stride == 1 && width >= MLOPSC_LANES && first < 0 && first > -MLOPSC_LANES)
      column = mlopsc_put_edge(line, plane, channels, -first, border, column);
    else if (stride == 1 && width >= MLOPSC_LANES && over > 0 && over < MLOPSC_LANES)
      column = mlopsc_put_edge(line + width - MLOPSC_LANES, plane, channels, -over, border, column);
    else
      column = mlopsc_put_mixed(x, s, block, down, right, column);
    if (++kx == s->kernel_width) {
      kx = 0;
      ++ky;
    }
  }
  mlopsc_fill_up(column, pairs);
}

/* Where each k lies, seen from the first tap; one more if they are odd. */
static inline void mlopsc_list_offsets(const mlopsc_conv_shape *s, int32_t *offset) {
  for (int32_t c = 0; c < s->channels_in; ++c)
    for (int32_t ky = 0; ky < s->kernel_height; ++ky)
      for (int32_t kx = 0; kx < s->kernel_width; ++kx)
        *offset++ = (c * s->height_in + ky * s->dilation_height) * s->width_in +
                    kx * s->dilation_width;
  if (s->kernel_height * s->kernel_width % 2 != 0) *offset = 0;
}

/* The next half of a position's pairs: the other half, and then that of the next pair. */
typedef struct {
  uint8_t *at;
  int32_t step;
} mlopsc_half;

static inline void mlopsc_put_half(mlopsc_half *out, int32_t value) {
  const int16_t half = (int16_t)value;
  __builtin_memcpy(out->at, &half, sizeof half);
  out->at += out->step;
  out->step ^= 12; /* 2 and 14 */
}

/* All k of one position, the first tap of which lies at (row, column). */
static void mlopsc_put_position(const int8_t *x, const mlopsc_conv_shape *s, int32_t row,
                                int32_t column, uint32_t *first) {
  const int32_t width = s->width_in, across = s->dilation_width, border = s->zero_in;
  const int32_t end = column + s->kernel_width * across;
  mlopsc_half out = {(uint8_t *)first, 2};
  for (int32_t c = 0; c < s->channels_in; ++c, x += s->height_in * width)
    for (int32_t ky = 0; ky < s->kernel_height; ++ky) {
      const int32_t y = row + ky * s->dilation_height;
      if (y >= 0 && y < s->height_in) {
        const int8_t *const line = x + y * width;
        for (int32_t at = column; at != end; at += across)
          mlopsc_put_half(&out, at >= 0 && at < width ? line[at] : border);
      } else {
        for (int32_t at = column; at != end; at += across) mlopsc_put_half(&out, border);
      }
    }
  for (int32_t k = s->kernel_height * s->kernel_width * s->channels_in; k % MLOPSC_WORD_WEIGHTS != 0; ++k)
    mlopsc_put_half(&out, 0);
}

/* All taps of an odd number of channels. */
__attribute__((noinline)) static void mlopsc_gather_odd(const int8_t *x,
                                                        const mlopsc_conv_shape *s,
                                                        const mlopsc_block *block,
                                                        const int32_t *offset, uint32_t *column) {
  const int32_t pairs = (s->kernel_height * s->kernel_width * s->channels_in + 1) / 2;
  const int32_t *const end = offset + 2 * pairs;
  if (mlopsc_inside(s, block, 0, 0, (s->kernel_height - 1) * s->dilation_height,
                    (s->kernel_width - 1) * s->dilation_width) == 0) {
    for (int32_t i = 0; i < MLOPSC_LANES; ++i)
      mlopsc_put_position(x, s, block->row[i], block->column[i], column + i);
    return;
  }
  x += block->row[0] * s->width_in + block->column[0];
  if (s->stride_width == 1) {
    for (; offset != end; offset += 2)
      column = mlopsc_put(column, mlopsc_load1(x + offset[0]), mlopsc_load1(x + offset[1]));
  } else if (s->stride_width == 2) {
    for (; offset != end; offset += 2)
      column = mlopsc_put(column, mlopsc_load2(x + offset[0]), mlopsc_load2(x + offset[1]));
  } else {
    for (; offset != end; offset += 2)
      column = mlopsc_put(column, mlopsc_load_any(x + offset[0], s->stride_width),
                          mlopsc_load_any(x + offset[1], s->stride_width));
  }
  mlopsc_fill_up(column, pairs);
}

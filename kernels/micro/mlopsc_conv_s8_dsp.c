/* Convolution with the DSP extension: see mlopsc_micro.h.
 *
 * Columns: for every two k (tap first, then channel) and every position of the block the pair
 * {x[k], x[k + 1]}, so four words; the k are filled up with zeros to a multiple of four. Weights:
 * [channels_out][k], each four in the order 0, 2, 1, 3, which one instruction widens to the pairs
 * (0, 1) and (2, 3). The scratch holds the columns and, where the taps do not fit at once, the sums
 * of all channels of the block. */
#include "mlopsc_conv_dsp.h"
#include "mlopsc_micro_blocks.h"
#include "mlopsc_micro_dsp.h"

/* One k of the four positions: those of positions 0 and 2, and of 1 and 3. */
typedef struct {
  uint32_t even, odd;
} lanes;

/* Where neighbours read neighbours, or every second byte, words hold them. */
static inline lanes load_inside(const int8_t *x, int32_t stride) {
  lanes v;
  if (stride == 1) {
    const uint32_t word = mlopsc_word(x);
    v.even = mlopsc_even(word);
    v.odd = mlopsc_odd(word);
  } else if (stride == 2) {
    const uint32_t first = mlopsc_even(mlopsc_word(x)), second = mlopsc_odd(mlopsc_word(x + 3));
    v.even = mlopsc_low(first, second);
    v.odd = mlopsc_high(first, second);
  } else {
    v.even = mlopsc_low((uint32_t)(int32_t)x[0], (uint32_t)(int32_t)x[2 * stride]);
    v.odd = mlopsc_low((uint32_t)(int32_t)x[stride], (uint32_t)(int32_t)x[3 * stride]);
  }
  return v;
}

static inline uint32_t pick(const int8_t *x, int32_t at, int32_t border) {
  return (uint32_t)(at < 0 ? border : x[at]);
}

/* Some positions are in the border, or in another row. */
static inline lanes load_mixed(const int8_t *x, const int32_t at[MLOPSC_LANES], int32_t border) {
  lanes v;
  v.even = mlopsc_low(pick(x, at[0], border), pick(x, at[2], border));
  v.odd = mlopsc_low(pick(x, at[1], border), pick(x, at[3], border));
  return v;
}

/* Turn two k of the four positions into four pairs. */
static inline uint32_t *put(uint32_t *column, lanes a, lanes b) {
  column[0] = mlopsc_low(a.even, b.even);
  column[1] = mlopsc_low(a.odd, b.odd);
  column[2] = mlopsc_high(a.even, b.even);
  column[3] = mlopsc_high(a.odd, b.odd);
  return column + MLOPSC_LANES;
}

/* One tap of an even number of channels. */
static uint32_t *put_inside(const int8_t *x, int32_t plane, int32_t channels, int32_t stride,
                            uint32_t *column) {
  if (stride == 1) {
    for (; channels > 0; channels -= 2, x += 2 * plane)
      column = put(column, load_inside(x, 1), load_inside(x + plane, 1));
    return column;
  }
  for (; channels > 0; channels -= 2, x += 2 * plane)
    column = put(column, load_inside(x, stride), load_inside(x + plane, stride));
  return column;
}

/* Write the columns of taps [tap, end) and return how many groups of four k there are. */
static int32_t gather(const int8_t *x, const mlopsc_conv_shape *s, const mlopsc_block *block,
                      int32_t tap, int32_t end, uint32_t *column) {
  const int32_t plane = s->height_in * s->width_in;
  const lanes none = {0, 0};
  uint32_t *const start = column;
  lanes waiting = none; /* an odd k waits for its partner */
  int32_t odd = 0;
  int32_t ky = tap / s->kernel_width, kx = tap - ky * s->kernel_width;
  for (; tap < end; ++tap) {
    const int32_t down = ky * s->dilation_height, right = kx * s->dilation_width;
    const int32_t inside = mlopsc_inside(s, block, down, right);
    const int8_t *from = x;
    int32_t at[MLOPSC_LANES];
    if (inside != 0)
      from += (block->row[0] + down) * s->width_in + block->column[0] + right;
    else
      mlopsc_find_tap(s, block, down, right, at);
    if (inside != 0 && s->channels_in % 2 == 0) {
      column = put_inside(from, plane, s->channels_in, s->stride_width, column);
    } else {
      for (int32_t c = 0; c < s->channels_in; ++c, from += plane, odd ^= 1) {
        const lanes next =
            inside != 0 ? load_inside(from, s->stride_width) : load_mixed(from, at, s->zero_in);
        if (odd != 0)
          column = put(column, waiting, next);
        else
          waiting = next;
      }
    }
    if (++kx == s->kernel_width) {
      kx = 0;
      ++ky;
    }
  }
  if (odd != 0) column = put(column, waiting, none);
  if ((column - start) % (2 * MLOPSC_LANES) != 0) column = put(column, none, none);
  return (int32_t)((column - start) / (2 * MLOPSC_LANES));
}

/* Requantise the sums of one channel in the general way. */
static void finish(const mlopsc_conv_shape *s, const int32_t sum[MLOPSC_LANES],
                   int32_t multiplier, int32_t count, int8_t *y) {
  for (int32_t i = 0; i < count; ++i)
    y[i] = mlopsc_requantize(sum[i], multiplier, s->left_shift, s->zero_out, s->low, s->high);
}

void mlopsc_conv_s8(const int8_t *x, const int8_t *w, const int32_t *bias,
                    const int32_t *multiplier, int8_t *y, void *scratch,
                    const mlopsc_conv_shape *shape) {
  const mlopsc_conv_shape s = mlopsc_flatten(shape);
  const int32_t positions = s.height_out * s.width_out;
  const int32_t taps = s.kernel_height * s.kernel_width;
  const int32_t depth = (taps * s.channels_in + 3) & ~3;
  const int32_t parts = s.taps < taps;
  const int32_t plain = s.left_shift == 0 && s.low == -128 && s.high == 127;
  int32_t *const sums = (int32_t *)scratch;
  uint32_t *const columns = (uint32_t *)scratch + (parts != 0 ? s.channels_out * MLOPSC_LANES : 0);
  int32_t row = 0, column = 0;
  for (int32_t first = 0; first < positions; first += MLOPSC_LANES) {
    mlopsc_block block;
    mlopsc_place_block(&s, first, row, column, &block);
    for (column += MLOPSC_LANES; column >= s.width_out; column -= s.width_out) ++row;
    const int32_t whole = plain != 0 && block.count == MLOPSC_LANES;
    for (int32_t n = 0; parts != 0 && n < s.channels_out; ++n)
      for (int32_t i = 0; i < MLOPSC_LANES; ++i) sums[n * MLOPSC_LANES + i] = bias[n];
    for (int32_t tap = 0; tap < taps; tap += s.taps) {
      const int32_t end = tap + s.taps < taps ? tap + s.taps : taps;
      const int32_t bytes = 4 * gather(x, &s, &block, tap, end, columns);
      if (parts != 0) {
        mlopsc_add_products(columns, bytes, w + tap * s.channels_in, depth, sums, s.channels_out);
      } else if (whole != 0) {
        mlopsc_outputs(columns, bytes, w, bias, multiplier, s.zero_out, y + first, positions,
                       s.channels_out);
      } else {
        for (int32_t n = 0; n < s.channels_out; ++n) {
          int32_t sum[MLOPSC_LANES] = {bias[n], bias[n], bias[n], bias[n]};
          mlopsc_add_products(columns, bytes, w + n * depth, depth, sum, 1);
          finish(&s, sum, multiplier[n], block.count, y + first + n * positions);
        }
      }
    }
    for (int32_t n = 0; parts != 0 && n < s.channels_out; ++n)
      finish(&s, sums + n * MLOPSC_LANES, multiplier[n], block.count, y + first + n * positions);
  }
}

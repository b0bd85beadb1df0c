/* Convolution in portable C: see mlopsc_micro.h.
 *
 * Columns: of every tap and channel (tap first) the four bytes that the block multiplies with one
 * weight. Weights: [channels_out][tap][channels_in]. The scratch holds the columns and, where the
 * taps do not fit at once, the sums of all channels of the block. */
#include "mlopsc_micro_blocks.h"
#include "mlopsc_micro_requantize.h"

/* Write the columns of taps [tap, end) and return how many there are. */
static int32_t gather(const int8_t *x, const mlopsc_conv_shape *s, const mlopsc_block *block,
                      int32_t tap, int32_t end, int8_t *column) {
  const int32_t plane = s->height_in * s->width_in;
  int8_t *const start = column;
  int32_t ky = tap / s->kernel_width, kx = tap - ky * s->kernel_width;
  for (; tap < end; ++tap) {
    int32_t at[MLOPSC_LANES];
    for (int32_t i = 0; i < MLOPSC_LANES; ++i)
      at[i] = mlopsc_find_tap(s, block, ky * s->dilation_height, kx * s->dilation_width, i);
    const int8_t *from = x;
    for (int32_t c = 0; c < s->channels_in; ++c, from += plane)
      for (int32_t i = 0; i < MLOPSC_LANES; ++i)
        *column++ = (int8_t)(at[i] < 0 ? s->zero_in : from[at[i]]);
    if (++kx == s->kernel_width) {
      kx = 0;
      ++ky;
    }
  }
  return (int32_t)((column - start) / MLOPSC_LANES);
}

/* Add the products of `count` columns with the weights of one output channel. */
static inline void multiply(const int8_t *column, const int8_t *w, int32_t count,
                            int32_t sum[MLOPSC_LANES]) {
  int32_t a = sum[0], b = sum[1], c = sum[2], d = sum[3];
  for (int32_t k = 0; k < count; ++k, column += MLOPSC_LANES) {
    const int32_t weight = w[k];
    a += weight * column[0];
    b += weight * column[1];
    c += weight * column[2];
    d += weight * column[3];
  }
  sum[0] = a;
  sum[1] = b;
  sum[2] = c;
  sum[3] = d;
}

void mlopsc_conv_s8(const int8_t *x, const int8_t *w, const int32_t *bias,
                    const int32_t *multiplier, int8_t *y, void *scratch,
                    const mlopsc_conv_shape *shape) {
  const mlopsc_conv_shape s = mlopsc_flatten(shape);
  const int32_t positions = s.height_out * s.width_out;
  const int32_t taps = s.kernel_height * s.kernel_width;
  const int32_t held = s.taps < taps ? s.channels_out : 1;
  int32_t *const sums = (int32_t *)scratch;
  int8_t *const columns = (int8_t *)(sums + held * MLOPSC_LANES);
  int32_t row = 0, column = 0;
  for (int32_t first = 0; first < positions; first += MLOPSC_LANES) {
    mlopsc_block block;
    mlopsc_place_block(&s, first, row, column, &block);
    for (column += MLOPSC_LANES; column >= s.width_out; column -= s.width_out) ++row;
    for (int32_t tap = 0; tap < taps; tap += s.taps) {
      const int32_t end = tap + s.taps < taps ? tap + s.taps : taps;
      const int32_t count = gather(x, &s, &block, tap, end, columns);
      const int8_t *weights = w + tap * s.channels_in;
      for (int32_t n = 0; n < s.channels_out; ++n, weights += taps * s.channels_in) {
        int32_t *const sum = held > 1 ? sums + n * MLOPSC_LANES : sums;
        for (int32_t i = 0; tap == 0 && i < MLOPSC_LANES; ++i) sum[i] = bias[n];
        multiply(columns, weights, count, sum);
        for (int32_t i = 0; end == taps && i < block.count; ++i)
          y[n * positions + first + i] = mlopsc_requantize(
              sum[i], multiplier[n], s.left_shift, s.zero_out, s.low, s.high);
      }
    }
  }
}

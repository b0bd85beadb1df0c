/* Convolution with the DSP extension: see mlopsc_micro.h.
 *
 * Columns: for every two k (tap first, then channel; the other way round if
 * channels_in is odd, because pairs are of neighbours then) and every position of the block the pair
 * {x[k], x[k + 1]}, so four words; the k are filled up with zeros to
 * those of a word of weights. Weights: [channels_out][k], each four in the order 0, 2, 1, 3, which one
 * instruction widens to the pairs (0, 1) and (2, 3); of 4 bits, the second four of each eight in the lower
 * halves of the bytes. The scratch holds the columns, before them the sums of all channels of the block
 * where the taps do not fit at once, and behind them where each k lies if channels_in is odd. */
#include "mlopsc_micro_blocks.h"
#include "mlopsc_micro_dsp.h"
#include "mlopsc_micro_weights.h"
/* after the weights */
#include "mlopsc_conv_dsp.h"
#include "mlopsc_gather_dsp.h"

static void start_sums(const int32_t *bias, int32_t channels, int32_t *sum) {
  for (const int32_t *const end = bias + channels; bias != end; ++bias, sum += MLOPSC_LANES)
    sum[0] = sum[1] = sum[2] = sum[3] = *bias;
}

/* Requantise the sums of `channels` channels; y[n + 1] is `pitch` bytes behind y[n]. */
static void finish_sums(const mlopsc_conv_shape *s, const int32_t *sum, const int32_t *multiplier,
                        int32_t count, int8_t *y, int32_t pitch, int32_t channels) {
  const int32_t shift = s->left_shift, zero = s->zero_out;
  for (; channels > 0; --channels, sum += MLOPSC_LANES, ++multiplier, y += pitch) {
    if (shift == 0 && count == MLOPSC_LANES) {
      const int32_t a = sum[0], b = sum[1], c = sum[2], d = sum[3], m = *multiplier;
      y[0] = mlopsc_scale(a, m, zero);
      y[1] = mlopsc_scale(b, m, zero);
      y[2] = mlopsc_scale(c, m, zero);
      y[3] = mlopsc_scale(d, m, zero);
    } else {
      for (int32_t i = 0; i < count; ++i)
        y[i] = mlopsc_requantize(sum[i], *multiplier, shift, zero, -128, 127);
    }
  }
}

/* The sum of the first position alone. */
static int32_t one_output(const uint32_t *column, const int8_t *w, int32_t bytes, int32_t sum) {
  int32_t products = mlopsc_begin_sum(sum);
  for (const int8_t *const end = w + bytes; w != end; w += 4) {
    uint32_t word = mlopsc_word(w);
    for (int32_t four = 0; four < MLOPSC_WORD_WEIGHTS; four += 4, column += 2 * MLOPSC_LANES) {
      const uint32_t weights = mlopsc_four_weights(word);
      products = mlopsc_dot(mlopsc_even(weights), column[0], products);
      products = mlopsc_dot(mlopsc_odd(weights), column[MLOPSC_LANES], products);
      word <<= 4;
    }
  }
  return mlopsc_end_sum(sum, products);
}

/* The outputs of a block in the general way, some channels at a time. */
static void outputs_in_groups(const mlopsc_conv_shape *s, const uint32_t *columns, int32_t bytes,
                              const int8_t *w, const int32_t *bias, const int32_t *multiplier,
                              int32_t count, int8_t *y) {
  const int32_t pitch = s->height_out * s->width_out;
  int32_t sums[8 * MLOPSC_LANES], group;
  for (int32_t left = s->channels_out; left > 0; left -= group) {
    group = left < 8 ? left : 8;
    start_sums(bias, group, sums);
    if (count == 1) {
      for (int32_t n = 0; n < group; ++n)
        sums[n * MLOPSC_LANES] = one_output(columns, w + n * bytes, bytes, sums[n * MLOPSC_LANES]);
    } else {
      mlopsc_add_products(columns, bytes, w, bytes, sums, group);
    }
    finish_sums(s, sums, multiplier, count, y, pitch, group);
    w += group * bytes;
    bias += group;
    multiplier += group;
    y += group * pitch;
  }
}

void NAME(const int8_t *x, const int8_t *w, const int32_t *bias,
                                    const int32_t *multiplier, int8_t *y, void *scratch,
                                    const mlopsc_conv_shape *shape) {
  const mlopsc_conv_shape s = mlopsc_flatten(shape);
  const int32_t positions = s.height_out * s.width_out;
  const int32_t taps = s.kernel_height * s.kernel_width;
  const int32_t word = MLOPSC_WORD_WEIGHTS;
  const int32_t depth = (taps * s.channels_in + word - 1) & -word;
  const int32_t parts = s.taps < taps;
  const int32_t flat = taps == 1 && s.height_in == 1 && s.stride_width == 1 && s.pad_left == 0 &&
                       s.width_in == s.width_out && s.channels_in % 2 == 0;
  int32_t *const sums = (int32_t *)scratch;
  uint32_t *const columns = (uint32_t *)scratch + (parts != 0 ? s.channels_out * MLOPSC_LANES : 0);
  int32_t *const offsets = (int32_t *)(columns + depth / 2 * MLOPSC_LANES);
  mlopsc_block block = {{0}, {0}, 0, 0};
  int32_t row = 0, column = 0;
  if (s.channels_in % 2 != 0) mlopsc_list_offsets(&s, offsets);
  for (int32_t first = 0; first < positions; first += MLOPSC_LANES) {
    block.count = positions - first < MLOPSC_LANES ? positions - first : MLOPSC_LANES;
    if (flat == 0 || block.count < MLOPSC_LANES)
      mlopsc_place_block(&s, first, row, column, &block);
    for (column += MLOPSC_LANES; column >= s.width_out; column -= s.width_out) ++row;
    if (parts != 0) start_sums(bias, s.channels_out, sums);
    for (int32_t tap = 0; tap < taps; tap += s.taps) {
      const int32_t end = tap + s.taps < taps ? tap + s.taps : taps;
      const int32_t bytes =
          MLOPSC_WEIGHT_BYTES(((end - tap) * s.channels_in + word - 1) & -word);
      if (flat != 0 && block.count == MLOPSC_LANES)
        mlopsc_gather_flat(x + first, &s, columns);
      else if (s.channels_in % 2 != 0)
        mlopsc_gather_odd(x, &s, &block, offsets, columns);
      else
        mlopsc_gather_even(x, &s, &block, tap, end, columns);
      if (parts != 0) {
        mlopsc_add_products(columns, bytes, w + MLOPSC_WEIGHT_BYTES(tap * s.channels_in),
                            MLOPSC_WEIGHT_BYTES(depth), sums, s.channels_out);
      } else if (s.left_shift == 0 && block.count == MLOPSC_LANES) {
        mlopsc_outputs(columns, bytes, w, bias, multiplier, s.zero_out, y + first, positions,
                       s.channels_out);
      } else {
        outputs_in_groups(&s, columns, bytes, w, bias, multiplier, block.count, y + first);
      }
    }
    if (parts != 0)
      finish_sums(&s, sums, multiplier, block.count, y + first, positions, s.channels_out);
  }
  mlopsc_clamp(y, s.channels_out * positions, s.low, s.high);
}

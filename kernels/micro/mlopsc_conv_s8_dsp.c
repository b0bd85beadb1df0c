/* Convolution with the DSP extension: see mlopsc_micro.h.
 *
 * Columns: for every two k (tap first, then channel) and every position of the block the pair
 * {x[k], x[k + 1]}, so four words; the k are filled up with zeros to a multiple of four. Weights:
 * [channels_out][k], each four in the order 0, 2, 1, 3, which one instruction widens to the pairs
 * (0, 1) and (2, 3). The scratch holds the columns and, where the taps do not fit at once, the sums
 * of all channels of the block. */
#include "mlopsc_micro_blocks.h"
#include "mlopsc_micro_dsp.h"

/* One k of all positions, as bytes of a word. */
static uint32_t pick(const int8_t *plane, const int32_t at[MLOPSC_LANES], int32_t zero) {
  uint32_t word = 0;
  for (uint32_t i = 0; i < MLOPSC_LANES; ++i)
    word |= (uint32_t)(uint8_t)(at[i] < 0 ? zero : plane[at[i]]) << (8 * i);
  return word;
}

/* Turn two k of four positions into four pairs. */
static inline uint32_t *put(uint32_t *column, uint32_t even_a, uint32_t odd_a, uint32_t even_b,
                            uint32_t odd_b) {
  column[0] = mlopsc_low(even_a, even_b);
  column[1] = mlopsc_low(odd_a, odd_b);
  column[2] = mlopsc_high(even_a, even_b);
  column[3] = mlopsc_high(odd_a, odd_b);
  return column + MLOPSC_LANES;
}

static inline uint32_t *put_words(uint32_t *column, uint32_t a, uint32_t b) {
  return put(column, mlopsc_even(a), mlopsc_odd(a), mlopsc_even(b), mlopsc_odd(b));
}

/* The columns of one tap, of an even number of channels whose positions are neighbours. */
static uint32_t *put_run(const int8_t *x, int32_t plane, int32_t channels, uint32_t *column) {
  for (; channels > 0; channels -= 2, x += 2 * plane)
    column = put_words(column, mlopsc_word(x), mlopsc_word(x + plane));
  return column;
}

/* Write the columns of taps [tap, end) and return how many groups of four k there are. */
static int32_t gather(const int8_t *x, const mlopsc_conv_shape *s, const mlopsc_block *block,
                      int32_t tap, int32_t end, uint32_t *column) {
  const int32_t plane = s->height_in * s->width_in;
  uint32_t *const start = column;
  uint32_t word = 0, odd = 0; /* an odd k waits for its partner */
  int32_t ky = tap / s->kernel_width, kx = tap - ky * s->kernel_width;
  for (; tap < end; ++tap) {
    int32_t at[MLOPSC_LANES];
    const mlopsc_reach reach =
        mlopsc_reach_tap(s, block, ky * s->dilation_height, kx * s->dilation_width, at);
    if (reach == MLOPSC_INSIDE && s->stride_width == 1 && s->channels_in % 2 == 0) {
      column = put_run(x + at[0], plane, s->channels_in, column);
    } else {
      const int8_t *from = x;
      for (int32_t c = 0; c < s->channels_in; ++c, from += plane, odd ^= 1U) {
        const uint32_t next = pick(from, at, s->zero_in);
        if (odd != 0)
          column = put_words(column, word, next);
        else
          word = next;
      }
    }
    if (++kx == s->kernel_width) {
      kx = 0;
      ++ky;
    }
  }
  if (odd != 0) column = put_words(column, word, 0);
  if ((column - start) % (2 * MLOPSC_LANES) != 0) column = put(column, 0, 0, 0, 0);
  return (int32_t)((column - start) / (2 * MLOPSC_LANES));
}

/* The products of four k of one output channel with the block: 13 instructions for 16 products.
 * Compilers do not find the loads of four registers. */
#define MLOPSC_FOUR                     \
  "ldr %[low], [%[w]], #4\n\t"          \
  "ldmia %[x]!, {r8, r9, r10, r12}\n\t" \
  "sxtb16 %[high], %[low], ror #8\n\t"  \
  "sxtb16 %[low], %[low]\n\t"           \
  "smlad %[a], %[low], r8, %[a]\n\t"    \
  "smlad %[b], %[low], r9, %[b]\n\t"    \
  "smlad %[c], %[low], r10, %[c]\n\t"   \
  "smlad %[d], %[low], r12, %[d]\n\t"   \
  "ldmia %[x]!, {r8, r9, r10, r12}\n\t" \
  "smlad %[a], %[high], r8, %[a]\n\t"   \
  "smlad %[b], %[high], r9, %[b]\n\t"   \
  "smlad %[c], %[high], r10, %[c]\n\t"  \
  "smlad %[d], %[high], r12, %[d]\n\t"

/* Repeat `steps` until the weights are at `end`; not for none. */
#define MLOPSC_REPEAT(steps, end)                                                            \
  __asm__ volatile("1:\n\t" steps                                                            \
                   "cmp %[w], %[stop]\n\t"                                                   \
                   "bne 1b\n"                                                                \
                   : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d), [w] "+r"(w),        \
                     [x] "+r"(column), [low] "=&r"(low), [high] "=&r"(high)                  \
                   : [stop] "r"(end)                                                         \
                   : "r8", "r9", "r10", "r12", "cc", "memory")

/* Add the products of `groups` times four k of one output channel. */
static inline void multiply(const uint32_t *column, const int8_t *w, int32_t groups,
                            int32_t sum[MLOPSC_LANES]) {
  const int8_t *const end = w + 4 * groups, *const ragged = w + 4 * (groups % 4);
  int32_t a = sum[0], b = sum[1], c = sum[2], d = sum[3];
  uint32_t low, high;
  if (w != ragged) MLOPSC_REPEAT(MLOPSC_FOUR, ragged);
  if (w != end) MLOPSC_REPEAT(MLOPSC_FOUR MLOPSC_FOUR MLOPSC_FOUR MLOPSC_FOUR, end);
  sum[0] = a;
  sum[1] = b;
  sum[2] = c;
  sum[3] = d;
}

static inline void finish(const mlopsc_conv_shape *s, const int32_t sum[MLOPSC_LANES],
                          int32_t multiplier, int32_t count, int32_t plain, int8_t *y) {
  if (plain != 0 && count == MLOPSC_LANES) {
    y[0] = mlopsc_scale(sum[0], multiplier, s->zero_out);
    y[1] = mlopsc_scale(sum[1], multiplier, s->zero_out);
    y[2] = mlopsc_scale(sum[2], multiplier, s->zero_out);
    y[3] = mlopsc_scale(sum[3], multiplier, s->zero_out);
    return;
  }
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
  const int32_t held = s.taps < taps ? s.channels_out : 0;
  const int32_t plain = s.left_shift == 0 && s.low == -128 && s.high == 127;
  int32_t *const sums = (int32_t *)scratch;
  uint32_t *const columns = (uint32_t *)scratch + held * MLOPSC_LANES;
  int32_t row = 0, column = 0;
  for (int32_t first = 0; first < positions; first += MLOPSC_LANES) {
    mlopsc_block block;
    mlopsc_place_block(&s, first, row, column, &block);
    for (column += MLOPSC_LANES; column >= s.width_out; column -= s.width_out) ++row;
    for (int32_t tap = 0; tap < taps; tap += s.taps) {
      const int32_t end = tap + s.taps < taps ? tap + s.taps : taps;
      const int32_t groups = gather(x, &s, &block, tap, end, columns);
      const int8_t *weights = w + tap * s.channels_in;
      int8_t *out = y + first;
      for (int32_t n = 0; n < s.channels_out; ++n, weights += depth, out += positions) {
        int32_t sum[MLOPSC_LANES] = {bias[n], bias[n], bias[n], bias[n]};
        if (tap != 0) __builtin_memcpy(sum, sums + n * MLOPSC_LANES, sizeof sum);
        multiply(columns, weights, groups, sum);
        if (end != taps)
          __builtin_memcpy(sums + n * MLOPSC_LANES, sum, sizeof sum);
        else
          finish(&s, sum, multiplier[n], block.count, plain, out);
      }
    }
  }
}

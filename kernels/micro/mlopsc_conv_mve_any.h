/* Convolution with Helium: see mlopsc_micro.h. Four positions of the output at a time.
 *
 * Columns: of each position the k (tap first, then channel). Weights: [channels_out][k]; of 4 bits,
 * the first half of the k in the upper halves of the bytes, the second half in the lower ones. The scratch
 * holds the columns of four positions, each at a multiple of 16 bytes (32 where weights are of 4 bits). shape->taps is not used: the
 * kernel is gathered at once. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_mve.h"
#include "mlopsc_micro_weights.h"

#define POSITIONS 4
#define VECTOR_WEIGHTS (4 * MLOPSC_WORD_WEIGHTS)
#define GATHER 8
#define GATHER_REACH (65535 / (GATHER - 1)) /* elements between channels that 16 bits can address */

/* Taps of the kernel that lie inside the input: rows [top, bottom), columns [left, right). */
typedef struct {
  int32_t top, bottom, left, right;
} taps;

/* The first of `count` taps `step` apart that is not below 0, where tap 0 lies at `at`. */
static int32_t first_inside(int32_t at, int32_t step, int32_t count) {
  const int32_t first = at < 0 ? (step - 1 - at) / step : 0;
  return first < count ? first : count;
}

/* One past the last of them that is below `size`. */
static int32_t end_inside(int32_t at, int32_t step, int32_t count, int32_t size) {
  const int32_t end = at < size ? (size - 1 - at) / step + 1 : 0;
  return end < count ? end : count;
}

static void fill(int8_t *to, int32_t value, int32_t count) {
  const int8x16_t values = vdupq_n_s8((int8_t)value);
  for (int32_t left = count; left > 0; left -= 16) {
    vstrbq_p_s8(to, values, vctp8q((uint32_t)left));
    to += 16;
  }
}

static void copy(const int8_t *from, int8_t *to, int32_t count) {
  for (int32_t left = count; left > 0; left -= 16) {
    const mve_pred16_t lanes = vctp8q((uint32_t)left);
    vstrbq_p_s8(to, vldrbq_z_s8(from, lanes), lanes);
    from += 16;
    to += 16;
  }
}

/* Write the k of one tap: a byte of every channel. `offsets` are those of GATHER channels. */
static inline void gather_tap(const int8_t *x, int8_t *to, int32_t channels, int32_t plane,
                              uint16x8_t offsets) {
  for (int32_t left = channels; left > 0; left -= GATHER) {
    const mve_pred16_t lanes = vctp16q((uint32_t)left);
    vstrbq_p_s16(to, vldrbq_gather_offset_z_s16(x, offsets, lanes), lanes);
    x += GATHER * plane;
    to += GATHER;
  }
}

/* Write the k of some taps; `at` is the element of x where tap (0, 0) lies or would lie. Lanes are
 * channels. */
static MLOPSC_MVE_APART void gather_deep(const int8_t *x, int32_t at, int8_t *to, const taps *t,
                                         const mlopsc_conv_shape *s) {
  const int32_t channels = s->channels_in, plane = s->height_in * s->width_in;
  const int32_t down = s->dilation_height * s->width_in, right = s->dilation_width;
  const int32_t skipped = (s->kernel_width - (t->right - t->left)) * channels;
  const uint16x8_t offsets = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)plane);
  if (t->bottom <= t->top || t->right <= t->left) return;
  x += at + t->top * down + t->left * right;
  to += (t->top * s->kernel_width + t->left) * channels;
  for (int32_t i = t->bottom - t->top; i > 0; --i) {
    const int8_t *tap = x;
    for (int32_t j = t->right - t->left; j > 0; --j) {
      gather_tap(tap, to, channels, plane, offsets);
      tap += right;
      to += channels;
    }
    x += down;
    to += skipped;
  }
}

/* The same where channels are few or too far apart. Lanes are taps of a row. */
static MLOPSC_MVE_APART void gather_shallow(const int8_t *x, int32_t at, int8_t *to, const taps *t,
                                            const mlopsc_conv_shape *s) {
  const int32_t channels = s->channels_in, plane = s->height_in * s->width_in;
  const int32_t down = s->dilation_height * s->width_in, row = s->kernel_width * channels;
  const uint16x8_t count = vidupq_n_u16(0, 1);
  const uint16x8_t apart = vmulq_n_u16(count, (uint16_t)s->dilation_width);
  const uint16x8_t into = vmulq_n_u16(count, (uint16_t)channels);
  if (t->bottom <= t->top || t->right <= t->left) return;
  x += at + t->top * down + t->left * s->dilation_width;
  to += t->top * row + t->left * channels;
  for (int32_t left = t->right - t->left; left > 0; left -= GATHER) {
    const mve_pred16_t lanes = vctp16q((uint32_t)left);
    const int8_t *from = x;
    int8_t *column = to;
    for (int32_t i = t->bottom - t->top; i > 0; --i) {
      const int8_t *tap = from;
      int8_t *put = column;
      for (int32_t c = channels; c > 0; --c) {
        vstrbq_scatter_offset_p_s16(put, into, vldrbq_gather_offset_z_s16(tap, apart, lanes), lanes);
        tap += plane;
        ++put;
      }
      from += down;
      column += row;
    }
    x += GATHER * s->dilation_width;
    to += GATHER * channels;
  }
}

/* Products of two columns with two rows of weights, the rest of k by predication. In assembly because
 * compilers copy registers in this loop. `n`: bytes of a row of weights. */
#if MLOPSC_WEIGHT_BITS == 4
/* Eight in 21 instructions; the second half of the k of a column lies `n` bytes behind the first one. */
#define DOT_2X2                      \
  "movs %[a], #0\n\t"                \
  "mov %[b], #0\n\t"                 \
  "mov %[c], #0\n\t"                 \
  "mov %[d], #0\n\t"                 \
  "dlstp.8 lr, %[n]\n"               \
  "1:\n\t"                           \
  "vldrb.u8 q2, [%[w0]], #16\n\t"    \
  "add %[t], %[x0], %[n]\n\t"        \
  "vldrb.u8 q3, [%[w1]], #16\n\t"    \
  "vand q4, q2, %q[upper]\n\t"       \
  "vldrb.u8 q6, [%[x0]], #16\n\t"    \
  "vmladava.s8 %[a], q4, q6\n\t"     \
  "vand q5, q3, %q[upper]\n\t"       \
  "vmladava.s8 %[c], q5, q6\n\t"     \
  "vldrb.u8 q6, [%[t]]\n\t"          \
  "vshl.i8 q2, q2, #4\n\t"           \
  "vmladava.s8 %[a], q2, q6\n\t"     \
  "vshl.i8 q3, q3, #4\n\t"           \
  "vmladava.s8 %[c], q3, q6\n\t"     \
  "add %[t], %[x1], %[n]\n\t"        \
  "vldrb.u8 q6, [%[x1]], #16\n\t"    \
  "vmladava.s8 %[b], q4, q6\n\t"     \
  "vmladava.s8 %[d], q5, q6\n\t"     \
  "vldrb.u8 q6, [%[t]]\n\t"          \
  "vmladava.s8 %[b], q2, q6\n\t"     \
  "vmladava.s8 %[d], q3, q6\n\t"     \
  "letp lr, 1b\n\t"
/* Columns are twice as long as the rows of weights. */
#define NEXT_COLUMNS                 \
  "add %[x0], %[x0], %[passed]\n\t"  \
  "add %[x1], %[x1], %[passed]\n\t"
#else
/* Four in nine instructions. */
#define DOT_2X2                      \
  "movs %[a], #0\n\t"                \
  "mov %[b], #0\n\t"                 \
  "mov %[c], #0\n\t"                 \
  "mov %[d], #0\n\t"                 \
  "dlstp.8 lr, %[n]\n"               \
  "1:\n\t"                           \
  "vldrb.u8 q2, [%[w0]], #16\n\t"    \
  "vldrb.u8 q3, [%[x0]], #16\n\t"    \
  "vmladava.s8 %[a], q2, q3\n\t"     \
  "vldrb.u8 q4, [%[x1]], #16\n\t"    \
  "vmladava.s8 %[b], q2, q4\n\t"     \
  "vldrb.u8 q2, [%[w1]], #16\n\t"    \
  "vmladava.s8 %[c], q2, q3\n\t"     \
  "vmladava.s8 %[d], q2, q4\n\t"     \
  "letp lr, 1b\n\t"
#define NEXT_COLUMNS
#endif

/* Sums of two channels (first and second) at four positions (the lanes). Columns follow each other: after
 * 0 and 2 both addresses are those of 1 and 3. `passed`: n, rounded up to whole vectors. */
#define DOT_2X4                                           \
  DOT_2X2                                                 \
  "vmov %q[first][2], %q[first][0], %[a], %[b]\n\t"       \
  "vmov %q[second][2], %q[second][0], %[c], %[d]\n\t"     \
  "subs %[w0], %[w0], %[passed]\n\t"                      \
  "subs %[w1], %[w1], %[passed]\n\t" NEXT_COLUMNS DOT_2X2 \
  "vmov %q[first][3], %q[first][1], %[a], %[b]\n\t"       \
  "vmov %q[second][3], %q[second][1], %[c], %[d]\n\t"

static inline int32x4x2_t dot_2x4(const int8_t *columns, const int8_t *w0, const int8_t *w1,
                                  int32_t bytes, int32_t pitch) {
  const int8_t *x0 = columns, *x1 = columns + 2 * pitch;
  int32x4_t first, second;
  int32_t a, b, c, d;
#if MLOPSC_WEIGHT_BITS == 4
  const uint8x16_t upper = vdupq_n_u8(0xf0);
  int32_t t;
  __asm__ volatile(DOT_2X4
          : [first] "=&w"(first), [second] "=&w"(second), [a] "=&Te"(a), [b] "=&Te"(b),
            [c] "=&Te"(c), [d] "=&Te"(d), [x0] "+r"(x0), [x1] "+r"(x1), [w0] "+r"(w0),
            [w1] "+r"(w1), [t] "=&r"(t)
          : [n] "r"(bytes), [passed] "r"(pitch / 2), [upper] "w"(upper)
          : "lr", "q2", "q3", "q4", "q5", "q6", "cc", "memory");
  const int32x4x2_t sums = {{vshrq_n_s32(first, 4), vshrq_n_s32(second, 4)}};
#else
  __asm__ volatile(DOT_2X4
          : [first] "=&w"(first), [second] "=&w"(second), [a] "=&Te"(a), [b] "=&Te"(b),
            [c] "=&Te"(c), [d] "=&Te"(d), [x0] "+r"(x0), [x1] "+r"(x1), [w0] "+r"(w0),
            [w1] "+r"(w1)
          : [n] "r"(bytes), [passed] "r"(pitch)
          : "lr", "q2", "q3", "q4", "cc", "memory");
  const int32x4x2_t sums = {{first, second}};
#endif
  return sums;
}

/* All channels of `valid` positions, at most four. Two channels at a time: the last one of an odd
 * number comes with the one before it, which is there already; a single one with itself. */
static MLOPSC_MVE_APART void multiply(const int8_t *columns, const int8_t *w, const int32_t *bias,
                                      const int32_t *multiplier, int8_t *y, int32_t valid,
                                      const mlopsc_conv_shape *s) {
  const mlopsc_mve_output output =
      mlopsc_mve_output_of(s->left_shift, s->zero_out, s->low, s->high);
  const int32_t single[4] = {bias[0], bias[0], multiplier[0], multiplier[0]};
  const int32_t depth = s->kernel_height * s->kernel_width * s->channels_in;
  const int32_t bytes = MLOPSC_WEIGHT_BYTES(depth), vector = VECTOR_WEIGHTS;
  const int32_t pitch = (depth + vector - 1) & -vector;
  const mve_pred16_t stored = vctp32q((uint32_t)valid);
  int32_t row = bytes, plane = s->height_out * s->width_out; /* from a channel to its partner */
  if (s->channels_out == 1) {
    bias = single;
    multiplier = single + 2;
    row = plane = 0;
  }
  for (int32_t left = s->channels_out; left > 0; left -= 2) {
    if (left == 1 && row > 0) {
      w -= row;
      y -= plane;
      --bias;
      --multiplier;
    }
    const int32x4x2_t sums = dot_2x4(columns, w, w + row, bytes, pitch);
    const int32x4_t first = mlopsc_mve_result(vaddq_n_s32(sums.val[0], bias[0]),
                                              vdupq_n_s32(multiplier[0]), output);
    const int32x4_t second = mlopsc_mve_result(vaddq_n_s32(sums.val[1], bias[1]),
                                               vdupq_n_s32(multiplier[1]), output);
    vstrbq_p_s32(y, first, stored);
    vstrbq_p_s32(y + plane, second, stored);
    w += 2 * row;
    y += 2 * plane;
    bias += 2;
    multiplier += 2;
  }
}

void NAME(const int8_t *x, const int8_t *w, const int32_t *bias,
                                    const int32_t *multiplier, int8_t *y, void *scratch,
                                    const mlopsc_conv_shape *shape) {
  const mlopsc_conv_shape s = *shape;
  int8_t *const columns = (int8_t *)scratch;
  const int32_t plane = s.height_in * s.width_in;
  const int32_t depth = s.kernel_height * s.kernel_width * s.channels_in;
  const int32_t vector = VECTOR_WEIGHTS, pitch = (depth + vector - 1) & -vector;
  const int32_t shift = s.stride_width * s.channels_in;
  const int32_t deep = s.channels_in >= GATHER && plane <= GATHER_REACH;
  const int32_t single = deep && depth == s.channels_in;
  /* taps that the left neighbour has, `stride_width` taps further; few channels come as fast anew */
  const int32_t shared = deep && s.dilation_width == 1 ? s.kernel_width - s.stride_width : 0;
  const int32_t below = s.height_in - (s.kernel_height - 1) * s.dilation_height;
  const int32_t beyond = s.width_in - (s.kernel_width - 1) * s.dilation_width;
  const uint16x8_t offsets = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)plane);
  int32_t held = 0, y_in = -s.pad_top;
  for (int32_t row = 0; row < s.height_out; ++row, y_in += s.stride_height) {
    const int32_t inside = y_in >= 0 && y_in < below;
    const int8_t *neighbour = 0;
    int32_t x_in = -s.pad_left;
    for (int32_t column = 0; column < s.width_out; ++column, x_in += s.stride_width) {
      const int32_t at = y_in * s.width_in + x_in;
      int8_t *const to = columns + held * pitch;
      taps t = {0, s.kernel_height, 0, s.kernel_width};
      if (inside == 0 || x_in < 0 || x_in >= beyond) {
        t.top = first_inside(y_in, s.dilation_height, s.kernel_height);
        t.bottom = end_inside(y_in, s.dilation_height, s.kernel_height, s.height_in);
        t.left = first_inside(x_in, s.dilation_width, s.kernel_width);
        t.right = end_inside(x_in, s.dilation_width, s.kernel_width, s.width_in);
        fill(to, s.zero_in, depth);
      } else if (shared > 0 && neighbour != 0) {
        copy(neighbour + shift, to, depth - shift);
        t.left = shared;
      }
      neighbour = to;
      if (single && t.right > t.left && t.bottom > t.top) {
        gather_tap(x + at, to, s.channels_in, plane, offsets);
      } else if (deep) {
        gather_deep(x, at, to, &t, &s);
      } else {
        gather_shallow(x, at, to, &t, &s);
      }
      if (++held == POSITIONS) {
        multiply(columns, w, bias, multiplier, y, held, &s);
        y += held;
        held = 0;
      }
    }
  }
  if (held > 0) multiply(columns, w, bias, multiplier, y, held, &s);
}

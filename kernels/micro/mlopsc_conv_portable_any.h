/* Convolution in portable C: see mlopsc_micro.h.
 *
 * Columns: of every tap and channel (tap first) the four bytes that the block multiplies with one
 * weight. Weights: of each four channels_out [tap][channels_in][4], of what is left over
 * [tap][channels_in]. Of 4 bits: the first of two in the lower half of a byte, each channels_out at a
 * byte of its own. The scratch holds the sums of four channels, or of all where the taps do not
 * fit at once, and the columns. */
#include "mlopsc_micro_apart.h"
#include "mlopsc_micro_blocks.h"
#include "mlopsc_micro_requantize.h"
#include "mlopsc_micro_weights.h"

/* Write the columns of the tap (down, right). */
static MLOPSC_APART int8_t *gather_tap(const int8_t *x, const mlopsc_conv_shape *s,
                                       const mlopsc_block *block, int32_t down, int32_t right,
                                       int8_t *column) {
  const int32_t plane = s->height_in * s->width_in, channels = s->channels_in;
  if (s->stride_width == 1 && mlopsc_inside(s, block, down, right, down, right) != 0) {
    x += (block->row[0] + down) * s->width_in + block->column[0] + right;
    for (int32_t c = channels; c > 0; --c, x += plane, column += MLOPSC_LANES)
      __builtin_memcpy(column, x, MLOPSC_LANES);
  } else {
    for (int32_t i = 0; i < MLOPSC_LANES; ++i) {
      const int32_t at = mlopsc_find_tap(s, block, down, right, i);
      const int8_t border = (int8_t)s->zero_in, *from = at < 0 ? &border : x + at;
      const int32_t step = at < 0 ? 0 : plane;
      int8_t *to = column + i;
      for (int32_t c = channels; c > 0; --c, from += step, to += MLOPSC_LANES) *to = *from;
    }
    column += MLOPSC_LANES * channels;
  }
  return column;
}

/* Write the columns of taps [tap, end) and return how many there are. */
static int32_t gather(const int8_t *x, const mlopsc_conv_shape *s, const mlopsc_block *block,
                      int32_t tap, int32_t end, int8_t *column) {
  const int32_t count = (end - tap) * s->channels_in;
  int32_t ky = tap / s->kernel_width, kx = tap - ky * s->kernel_width;
  for (; tap < end; ++tap) {
    column = gather_tap(x, s, block, ky * s->dilation_height, kx * s->dilation_width, column);
    if (++kx == s->kernel_width) {
      kx = 0;
      ++ky;
    }
  }
  return count;
}

/* Add the products of `count` columns with the weights of one output channel. */
static MLOPSC_APART void multiply_one(const int8_t *column, const int8_t *w, int32_t count,
                                      int32_t sum[MLOPSC_LANES]) {
  int32_t a = sum[0], b = sum[1];
  int32_t c = sum[2], d = sum[3];
  for (int32_t k = 0; k < count; ++k, column += MLOPSC_LANES) {
    const int32_t weight = mlopsc_weight(w, k);
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

#if defined(__arm__)
/* Two channels and two positions, the sums, addresses and operands of which fit 13 registers. */
#if defined(__ARM_ARCH_6M__) && defined(__GNUC__)
/* The weights of two channels, at t = 0 and t = 1 bytes, and bytes from one k to the next. */
#if MLOPSC_WEIGHT_BITS == 4
#define MLOPSC_LOAD_FIRST "ldrsb %[w1], [%[w], %[t]]\n\t"
#define MLOPSC_LOAD_SECOND       \
  "lsls %[w0], %[w1], #28\n\t"   \
  "asrs %[w0], %[w0], #28\n\t"   \
  "asrs %[w1], %[w1], #4\n\t"
#define MLOPSC_LOADED "2"
#else
#define MLOPSC_LOAD_FIRST "ldrsb %[w0], [%[w], %[t]]\n\t"
#define MLOPSC_LOAD_SECOND "ldrsb %[w1], [%[w], %[t]]\n\t"
#define MLOPSC_LOADED "4"
#endif

/* Compilers leave the upper registers empty, which take the sums, their address and the end. */
static MLOPSC_APART void multiply_part(const int8_t *column, const int8_t *w, int32_t count,
                                       int32_t *sum) {
  const int8_t *end = w + MLOPSC_WEIGHT_BYTES(4) * count;
  int32_t x1, w0, w1;
  if (w == end) return;
  __asm__ volatile(
      ".syntax unified\n\t"
      "mov lr, %[t]\n\t"
      "mov r12, %[x0]\n\t"
      "ldr %[t], [%[x0]]\n\t"
      "mov r8, %[t]\n\t"
      "ldr %[t], [%[x0], #4]\n\t"
      "mov r9, %[t]\n\t"
      "ldr %[t], [%[x0], #16]\n\t"
      "mov r10, %[t]\n\t"
      "ldr %[t], [%[x0], #20]\n\t"
      "mov r11, %[t]\n"
      "1:\n\t"
      "movs %[t], #0\n\t"
      "ldrsb %[x0], [%[x], %[t]]\n\t"
      MLOPSC_LOAD_FIRST
      "movs %[t], #1\n\t"
      "ldrsb %[x1], [%[x], %[t]]\n\t"
      MLOPSC_LOAD_SECOND
      "movs %[t], %[x0]\n\t"
      "muls %[t], %[w0], %[t]\n\t"
      "add r8, %[t]\n\t"
      "muls %[x0], %[w1], %[x0]\n\t"
      "add r10, %[x0]\n\t"
      "muls %[w0], %[x1], %[w0]\n\t"
      "add r9, %[w0]\n\t"
      "muls %[x1], %[w1], %[x1]\n\t"
      "add r11, %[x1]\n\t"
      "adds %[x], #4\n\t"
      "adds %[w], #" MLOPSC_LOADED "\n\t"
      "cmp %[w], lr\n\t"
      "bne 1b\n\t"
      "mov %[x0], r12\n\t"
      "mov %[t], r8\n\t"
      "str %[t], [%[x0]]\n\t"
      "mov %[t], r9\n\t"
      "str %[t], [%[x0], #4]\n\t"
      "mov %[t], r10\n\t"
      "str %[t], [%[x0], #16]\n\t"
      "mov %[t], r11\n\t"
      "str %[t], [%[x0], #20]\n"
      : [x] "+l"(column), [w] "+l"(w), [t] "+l"(end), [x0] "+l"(sum), [x1] "=&l"(x1),
        [w0] "=&l"(w0), [w1] "=&l"(w1)
      :
      : "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}
#else
static MLOPSC_APART void multiply_part(const int8_t *column, const int8_t *w, int32_t count,
                                       int32_t *sum) {
  const int8_t *const end = w + MLOPSC_WEIGHT_BYTES(4) * count;
  int32_t a = sum[0], b = sum[1], c = sum[MLOPSC_LANES], d = sum[MLOPSC_LANES + 1];
  for (; w != end; w += MLOPSC_WEIGHT_BYTES(4), column += MLOPSC_LANES) {
    const int32_t x0 = column[0], x1 = column[1], w0 = mlopsc_first(w), w1 = mlopsc_second(w);
    a += w0 * x0;
    b += w0 * x1;
    c += w1 * x0;
    d += w1 * x1;
  }
  sum[0] = a;
  sum[1] = b;
  sum[MLOPSC_LANES] = c;
  sum[MLOPSC_LANES + 1] = d;
}
#endif

/* Add the products of `count` columns with the weights of four output channels. */
static MLOPSC_APART void multiply_four(const int8_t *column, const int8_t *w, int32_t count, int32_t *sum) {
  multiply_part(column, w, count, sum);
  multiply_part(column + 2, w, count, sum + 2);
  w += MLOPSC_WEIGHT_BYTES(2);
  multiply_part(column, w, count, sum + 2 * MLOPSC_LANES);
  multiply_part(column + 2, w, count, sum + 2 * MLOPSC_LANES + 2);
}
#else
/* Add the products of `count` columns with the weights of four output channels: all sums stay in
 * registers where there are some 30. */
static MLOPSC_APART void multiply_four(const int8_t *column, const int8_t *w, int32_t count, int32_t *sum) {
  const int8_t *const end = w + MLOPSC_WEIGHT_BYTES(4) * count;
  int32_t a0 = sum[0], a1 = sum[1];
  int32_t a2 = sum[2], a3 = sum[3];
  int32_t b0 = sum[4], b1 = sum[5];
  int32_t b2 = sum[6], b3 = sum[7];
  int32_t c0 = sum[8], c1 = sum[9];
  int32_t c2 = sum[10], c3 = sum[11];
  int32_t d0 = sum[12], d1 = sum[13];
  int32_t d2 = sum[14], d3 = sum[15];
  for (; w != end; w += MLOPSC_WEIGHT_BYTES(4), column += MLOPSC_LANES) {
    const int32_t x0 = column[0], x1 = column[1], x2 = column[2], x3 = column[3];
    int32_t weight = mlopsc_first(w);
    a0 += weight * x0;
    a1 += weight * x1;
    a2 += weight * x2;
    a3 += weight * x3;
    weight = mlopsc_second(w);
    MLOPSC_AFTER(a3, weight);
    b0 += weight * x0;
    b1 += weight * x1;
    b2 += weight * x2;
    b3 += weight * x3;
    weight = mlopsc_first(w + MLOPSC_WEIGHT_BYTES(2));
    MLOPSC_AFTER(b3, weight);
    c0 += weight * x0;
    c1 += weight * x1;
    c2 += weight * x2;
    c3 += weight * x3;
    weight = mlopsc_second(w + MLOPSC_WEIGHT_BYTES(2));
    MLOPSC_AFTER(c3, weight);
    d0 += weight * x0;
    d1 += weight * x1;
    d2 += weight * x2;
    d3 += weight * x3;
  }
  sum[0] = a0;
  sum[1] = a1;
  sum[2] = a2;
  sum[3] = a3;
  sum[4] = b0;
  sum[5] = b1;
  sum[6] = b2;
  sum[7] = b3;
  sum[8] = c0;
  sum[9] = c1;
  sum[10] = c2;
  sum[11] = c3;
  sum[12] = d0;
  sum[13] = d1;
  sum[14] = d2;
  sum[15] = d3;
}
#endif

/* The results of one channel of a block. */
static MLOPSC_APART void finish(const mlopsc_conv_shape *s, const int32_t *sum, int32_t multiplier,
                   int32_t count, int8_t *y) {
  const int32_t left_shift = s->left_shift, zero = s->zero_out, low = s->low, high = s->high;
  for (int32_t i = 0; i < count; ++i)
    y[i] = mlopsc_requantize(sum[i], multiplier, left_shift, zero, low, high);
}

void NAME(const int8_t *x, const int8_t *w, const int32_t *bias,
                                    const int32_t *multiplier, int8_t *y, void *scratch,
                                    const mlopsc_conv_shape *shape) {
  const mlopsc_conv_shape s = mlopsc_flatten(shape);
  const int32_t positions = s.height_out * s.width_out;
  const int32_t taps = s.kernel_height * s.kernel_width;
  const int32_t depth = taps * s.channels_in;
  const int32_t held = s.taps < taps ? (s.channels_out + 3) & ~3 : 4; /* channels with sums */
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
      const int8_t *weights = w;
      for (int32_t n = 0, group; n < s.channels_out; n += group) {
        const int32_t skip = MLOPSC_WEIGHT_BYTES(tap * s.channels_in);
        int32_t *const sum = held > 4 ? sums + n * MLOPSC_LANES : sums;
        group = s.channels_out - n < 4 ? 1 : 4;
        for (int32_t i = 0; tap == 0 && i < group * MLOPSC_LANES; ++i)
          sum[i] = bias[n + i / MLOPSC_LANES];
        if (group == 4)
          multiply_four(columns, weights + 4 * skip, count, sum);
        else
          multiply_one(columns, weights + skip, count, sum);
        weights += MLOPSC_WEIGHT_BYTES(group * depth);
        for (int32_t i = 0; end == taps && i < group; ++i)
          finish(&s, sum + i * MLOPSC_LANES, multiplier[n + i], block.count,
                 y + (n + i) * positions + first);
      }
    }
  }
}

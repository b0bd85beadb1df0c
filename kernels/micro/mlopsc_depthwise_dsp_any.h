/* Depthwise convolution with the DSP extension: see mlopsc_micro.h.
 *
 * The scratch holds one plane of the input with its border, so that no tap is checked and the output
 * may replace the input, and one row and three bytes that are read and not used. Weights:
 * [channels_out][kernel_height][kernel_width]. Of 4 bits: the first of two in the lower half of a byte;
 * those of a channel are widened to the end of the scratch. */
#include "mlopsc_micro_dsp.h"
#include "mlopsc_micro_plane.h"
#include "mlopsc_micro_weights.h"

/* How sums become bytes. */
typedef struct {
  int32_t multiplier, left_shift, zero;
} output_scale;

static inline int8_t finish(int32_t sum, const output_scale *scale) {
  return mlopsc_requantize(sum, scale->multiplier, scale->left_shift, scale->zero, -128, 127);
}

/* A row of a 3x3 kernel: the pair of its outer columns, and its middle column in the low half; what
 * is in the high half does not count. */
typedef struct {
  uint32_t outer, middle;
} row3;

static inline row3 row3_of(uint32_t word) {
  const row3 row = {mlopsc_even(word), mlopsc_odd(word)};
  return row;
}

/* Three rows of two outputs in each of two rows: 36 products in 61 instructions. The first words of
 * the row above the outputs, then of each below, are at x, x + pitch, ... */
#define MLOPSC_UNPACK                  \
  "sxtb16 %[o], %[e], ror #8\n\t"      \
  "sxtb16 %[e], %[e]\n\t"
#define MLOPSC_LEFT(sum, outer, middle, half)                   \
  "smlad %[" sum "], %[e], %[" outer "], %[" sum "]\n\t"        \
  "smlab" half " %[" sum "], %[o], %[" middle "], %[" sum "]\n\t"
#define MLOPSC_RIGHT(sum, outer, middle, half)                  \
  "smlad %[" sum "], %[o], %[" outer "], %[" sum "]\n\t"        \
  "smlat" half " %[" sum "], %[e], %[" middle "], %[" sum "]\n\t"
#define MLOPSC_ROW(left, right, outer, middle, half) \
  MLOPSC_LEFT(left, outer, middle, half) MLOPSC_RIGHT(right, outer, middle, half)

/* A plane with a 3x3 kernel, strides of one and at least two columns, without a left
 * shift. Two outputs of two rows at a time: in an odd row the last but one is computed
 * twice, of an odd number of rows the last is followed by one that is overwritten. */
static void plane3(const int8_t *x, int32_t width, const int8_t *weights, int32_t bias,
                   const mlopsc_conv_shape *s, const output_scale *scale, int8_t *y) {
  const row3 first = row3_of(mlopsc_word(weights)), second = row3_of(mlopsc_word(weights + 3));
  const row3 third = row3_of(mlopsc_word(weights + 5) >> 8); /* nothing is read behind the kernel */
  const uint32_t middle = mlopsc_low(first.middle, second.middle);
  const struct {
    int32_t bias, multiplier, zero;
    uint32_t x_to_y;
    int32_t pitch; /* of y; 0 where the second row does not count */
    const int8_t *last;
    int32_t rows, unused;
  } task = {bias,
            scale->multiplier,
            scale->zero,
            (uint32_t)y - (uint32_t)x,
            s->height_out == 1 ? 0 : s->width_out,
            x + s->width_out - 1,
            s->height_out,
            0};
  uint32_t e = (uint32_t)&task, o;
  int32_t a, b, c, d;
  __asm__ volatile(
      "ldrd %[a], %[b], [%[e], #24]\n\t"
      "strd %[a], %[b], [sp, #-8]!\n\t"
      "ldrd %[a], %[b], [%[e], #16]\n\t"
      "strd %[a], %[b], [sp, #-8]!\n\t"
      "ldrd %[a], %[b], [%[e], #8]\n\t"
      "strd %[a], %[b], [sp, #-8]!\n\t"
      "ldrd %[a], %[b], [%[e]]\n\t"
      "strd %[a], %[b], [sp, #-8]!\n"
      "1:\n\t"
      "ldr %[a], [sp]\n\t"
      "ldr %[e], [%[x]]\n\t"
      "mov %[b], %[a]\n\t"
      "mov %[c], %[a]\n\t"
      "mov %[d], %[a]\n\t" MLOPSC_UNPACK MLOPSC_ROW("a", "b", "outer0", "middle", "b")
      "ldr %[e], [%[x], %[width]]\n\t" MLOPSC_UNPACK MLOPSC_ROW("a", "b", "outer1", "middle", "t")
          MLOPSC_ROW("c", "d", "outer0", "middle", "b")
      "ldr %[e], [%[x], %[width], lsl #1]\n\t" MLOPSC_UNPACK MLOPSC_ROW(
          "a", "b", "outer2", "middle2", "b") MLOPSC_ROW("c", "d", "outer1", "middle", "t")
      "add %[e], %[x], %[width], lsl #1\n\t"
      "ldr %[e], [%[e], %[width]]\n\t" MLOPSC_UNPACK MLOPSC_ROW("c", "d", "outer2", "middle2", "b")
      "ldrd %[e], %[o], [sp, #4]\n\t"
      "smmlar %[a], %[a], %[e], %[o]\n\t"
      "smmlar %[b], %[b], %[e], %[o]\n\t"
      "smmlar %[c], %[c], %[e], %[o]\n\t"
      "smmlar %[d], %[d], %[e], %[o]\n\t"
      "ldrd %[e], %[o], [sp, #12]\n\t"
      "ssat %[a], #8, %[a]\n\t"
      "ssat %[b], #8, %[b]\n\t"
      "ssat %[c], #8, %[c]\n\t"
      "ssat %[d], #8, %[d]\n\t"
      "add %[e], %[x]\n\t"
      "strb %[c], [%[e], %[o]]\n\t"
      "add %[o], #1\n\t"
      "strb %[d], [%[e], %[o]]\n\t"
      "strb %[a], [%[e]]\n\t"
      "strb %[b], [%[e], #1]\n\t"
      "add %[x], #2\n\t"
      "ldr %[e], [sp, #20]\n\t"
      "cmp %[x], %[e]\n\t"
      "blo 1b\n\t"
      "bne 2f\n\t" /* an odd row: once more for its last output */
      "sub %[x], #1\n\t"
      "b 1b\n"
      "2:\n\t"
      "ldr %[o], [sp, #24]\n\t"
      "subs %[o], #2\n\t"
      "ble 3f\n\t"
      "str %[o], [sp, #24]\n\t"
      "add %[e], %[e], %[width], lsl #1\n\t"
      "str %[e], [sp, #20]\n\t"
      "mov %[e], #0\n\t"
      "cmp %[o], #1\n\t"
      "it eq\n\t"
      "streq %[e], [sp, #16]\n\t"
      "ldr %[e], [sp, #12]\n\t" /* rows of y are two shorter than rows of x */
      "sub %[e], #4\n\t"
      "str %[e], [sp, #12]\n\t"
      "add %[x], %[width]\n\t"
      "add %[x], #2\n\t"
      "b 1b\n"
      "3:\n\t"
      "add sp, #32\n\t"
      : [a] "=&r"(a), [b] "=&r"(b), [c] "=&r"(c), [d] "=&r"(d), [x] "+r"(x), [e] "+r"(e),
        [o] "=&r"(o)
      : [outer0] "r"(first.outer), [outer1] "r"(second.outer), [outer2] "r"(third.outer),
        [middle] "r"(middle), [middle2] "r"(third.middle), [width] "r"(width)
      : "cc", "memory");
}

/* A plane with a 3x3 kernel and any strides, without a left shift: one output in 24 instructions. */
static void plane3_strided(const int8_t *x, int32_t width, const int8_t *weights, int32_t bias,
                           const mlopsc_conv_shape *s, const output_scale *scale, int8_t *y) {
  const row3 first = row3_of(mlopsc_word(weights)), second = row3_of(mlopsc_word(weights + 3));
  const row3 third = row3_of(mlopsc_word(weights + 5) >> 8); /* nothing is read behind the kernel */
  const uint32_t middle = mlopsc_low(first.middle, second.middle);
  const struct {
    int32_t bias, step;
    const int8_t *last, *end; /* of the outputs: of a row, of all */
    int32_t columns, skip;    /* outputs in a row, and what lies between rows of the input */
  } task = {bias,
            s->stride_width,
            y + s->width_out,
            y + s->height_out * s->width_out,
            s->width_out,
            s->stride_height * width - s->stride_width * s->width_out};
  uint32_t e = (uint32_t)&task, o;
  int32_t a;
  __asm__ volatile(
      "ldrd %[a], %[o], [%[e], #16]\n\t"
      "strd %[a], %[o], [sp, #-8]!\n\t"
      "ldrd %[a], %[o], [%[e], #8]\n\t"
      "strd %[a], %[o], [sp, #-8]!\n\t"
      "ldrd %[a], %[o], [%[e]]\n\t"
      "strd %[a], %[o], [sp, #-8]!\n"
      "1:\n\t"
      "ldr %[a], [sp]\n\t"
      "ldr %[e], [%[x]]\n\t" MLOPSC_UNPACK MLOPSC_LEFT("a", "outer0", "middle", "b")
      "ldr %[e], [%[x], %[width]]\n\t" MLOPSC_UNPACK MLOPSC_LEFT("a", "outer1", "middle", "t")
      "ldr %[e], [%[x], %[width], lsl #1]\n\t" MLOPSC_UNPACK
          MLOPSC_LEFT("a", "outer2", "middle2", "b")
      "ldrd %[e], %[o], [sp, #4]\n\t"
      "smmlar %[a], %[a], %[multiplier], %[zero]\n\t"
      "add %[x], %[e]\n\t"
      "ssat %[a], #8, %[a]\n\t"
      "strb %[a], [%[y]], #1\n\t"
      "cmp %[y], %[o]\n\t"
      "bne 1b\n\t"
      "ldr %[e], [sp, #12]\n\t"
      "cmp %[y], %[e]\n\t"
      "beq 2f\n\t"
      "ldr %[e], [sp, #16]\n\t"
      "add %[o], %[e]\n\t"
      "str %[o], [sp, #8]\n\t"
      "ldr %[e], [sp, #20]\n\t"
      "add %[x], %[e]\n\t"
      "b 1b\n"
      "2:\n\t"
      "add sp, #24\n\t"
      : [a] "=&r"(a), [x] "+r"(x), [y] "+r"(y), [e] "+r"(e), [o] "=&r"(o)
      : [outer0] "r"(first.outer), [outer1] "r"(second.outer), [outer2] "r"(third.outer),
        [middle] "r"(middle), [middle2] "r"(third.middle), [width] "r"(width),
        [multiplier] "r"(scale->multiplier), [zero] "r"(scale->zero)
      : "cc", "memory");
}

/* Any kernel, tap by tap. */
static void plane_any(const int8_t *plane, int32_t width, const int8_t *weights, int32_t bias,
                      const mlopsc_conv_shape *s, const output_scale *scale, int8_t *y) {
  for (int32_t row = 0; row < s->height_out; ++row, plane += s->stride_height * width)
    for (int32_t column = 0; column < s->width_out; ++column) {
      const int8_t *x = plane + column * s->stride_width, *w = weights;
      int32_t sum = bias;
      for (int32_t ky = 0; ky < s->kernel_height; ++ky, x += s->dilation_height * width)
        for (int32_t kx = 0; kx < s->kernel_width; ++kx) sum += *w++ * x[kx * s->dilation_width];
      *y++ = finish(sum, scale);
    }
}

/* The scale of one channel of a 3x3 kernel. Returns whether it does without a left shift: that is one of
 * the layer, and goes into the multipliers of all channels that are not the largest, where no sum can
 * saturate. */
static inline int32_t fold_shift(int32_t bias, int32_t multiplier, const mlopsc_conv_shape *s,
                                 output_scale *scale) {
  const int32_t limit = INT32_MAX >> s->left_shift, room = limit - 9 * 128 * 128;
  const int32_t folded =
      s->left_shift == 0 || (multiplier <= limit && bias <= room && bias >= -room);
  scale->multiplier = folded != 0 ? multiplier << s->left_shift : multiplier;
  scale->left_shift = folded != 0 ? 0 : s->left_shift;
  scale->zero = s->zero_out;
  return folded;
}

void NAME(const int8_t *x, const int8_t *w, const int32_t *bias,
                                         const int32_t *multiplier, int8_t *y, void *scratch,
                                         const mlopsc_conv_shape *shape) {
  const mlopsc_conv_shape s = *shape;
  const int32_t width = mlopsc_plane_width(&s), repeat = s.channels_out / s.channels_in;
  const int32_t is3 = s.kernel_height == 3 && s.kernel_width == 3 && s.dilation_height == 1 &&
                      s.dilation_width == 1;
  const int32_t taps = s.kernel_height * s.kernel_width;
  const int32_t size = s.height_out * s.width_out;
  output_scale scale;
  int8_t *const plane = (int8_t *)scratch;
  int8_t *const buffer = plane + (mlopsc_plane_height(&s) + 1) * width + 3;
  const int32_t dense = s.stride_height == 1 && s.stride_width == 1 && s.width_out > 1;
  mlopsc_plane_border(&s, plane);
  for (int32_t n = 0; n < s.channels_out; ++n, y += size) {
    const int8_t *const weights = mlopsc_wide_weights(w, n * taps, taps, buffer);
    if (n % repeat == 0) mlopsc_plane_fill(&s, x + n / repeat * s.height_in * s.width_in, plane);
    const int32_t folded = fold_shift(bias[n], multiplier[n], &s, &scale);
    if (is3 != 0 && folded != 0 && dense != 0)
      plane3(plane, width, weights, bias[n], &s, &scale, y);
    else if (is3 != 0 && folded != 0)
      plane3_strided(plane, width, weights, bias[n], &s, &scale, y);
    else
      plane_any(plane, width, weights, bias[n], &s, &scale, y);
    mlopsc_clamp(y, size, s.low, s.high);
  }
}

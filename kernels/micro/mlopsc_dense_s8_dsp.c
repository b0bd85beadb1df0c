/* Product with constant weights with the DSP extension: see mlopsc_micro.h.
 *
 * Weights: of every four outputs [columns_in / 4][4 outputs][4], then of the outputs that are left
 * [columns_in]; columns_in is filled up with zeros to a multiple of four. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_dsp.h"

/* Four k of four outputs, 20 instructions for 16 products: the weights of four outputs are loaded at
 * once, which compilers do not find. */
#define MLOPSC_STEP                         \
  "ldr %[even], [%[x]], #4\n\t"             \
  "ldmia %[w]!, {r8, r9, r10, r12}\n\t"     \
  "sxtb16 %[odd], %[even], ror #8\n\t"      \
  "sxtb16 %[even], %[even]\n\t"             \
  MLOPSC_OUTPUT("a", "r8")                  \
  MLOPSC_OUTPUT("b", "r9")                  \
  MLOPSC_OUTPUT("c", "r10")                 \
  MLOPSC_OUTPUT("d", "r12")
#define MLOPSC_OUTPUT(sum, weight)                                \
  "sxtb16 %[t], " weight "\n\t"                                   \
  "sxtb16 " weight ", " weight ", ror #8\n\t"                     \
  "smlad %[" sum "], %[t], %[even], %[" sum "]\n\t"               \
  "smlad %[" sum "], " weight ", %[odd], %[" sum "]\n\t"

/* Repeat `steps` until x is at `end`; not for none. One register is missing: the end waits on the
 * stack. */
#define MLOPSC_REPEAT(steps, end)                                                            \
  t = (uintptr_t)(end);                                                                      \
  __asm__ volatile("push {%[t]}\n"                                                           \
                   "1:\n\t" steps                                                            \
                   "ldr %[t], [sp]\n\t"                                                      \
                   "cmp %[x], %[t]\n\t"                                                      \
                   "bne 1b\n\t"                                                              \
                   "add sp, #4\n\t"                                                          \
                   : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d), [w] "+r"(w),        \
                     [x] "+r"(x), [even] "=&r"(even), [odd] "=&r"(odd), [t] "+r"(t)          \
                   :                                                                         \
                   : "r8", "r9", "r10", "r12", "cc", "memory")

/* Add the products of `columns` k, a multiple of four, of four outputs; returns the next weights. */
static inline const int8_t *multiply(const int8_t *x, const int8_t *w, int32_t columns,
                                     int32_t sum[4]) {
  const int8_t *const end = x + columns, *const ragged = x + columns % 16;
  int32_t a = sum[0], b = sum[1], c = sum[2], d = sum[3];
  uint32_t even, odd;
  uintptr_t t;
  if (x != ragged) {
    MLOPSC_REPEAT(MLOPSC_STEP, ragged);
  }
  if (x != end) {
    MLOPSC_REPEAT(MLOPSC_STEP MLOPSC_STEP MLOPSC_STEP MLOPSC_STEP, end);
  }
  sum[0] = a;
  sum[1] = b;
  sum[2] = c;
  sum[3] = d;
  return w;
}

static inline int32_t dot(uint32_t x, uint32_t w, int32_t sum) {
  sum = mlopsc_dot(mlopsc_even(x), mlopsc_even(w), sum);
  return mlopsc_dot(mlopsc_odd(x), mlopsc_odd(w), sum);
}

void mlopsc_dense_s8(const int8_t *x, const int8_t *w, const int32_t *bias,
                     const int32_t *multiplier, int8_t *y, void *scratch,
                     const mlopsc_dense_shape *shape) {
  const mlopsc_dense_shape s = *shape;
  const int32_t whole = s.columns_in & ~3, left = s.columns_in & 3;
  const int32_t plain = s.left_shift == 0 && s.low == -128 && s.high == 127;
  (void)scratch;
  for (int32_t row = 0; row < s.rows; ++row, x += s.columns_in) {
    const int8_t *weight = w;
    uint32_t rest = 0;
    for (int32_t k = 0; k < left; ++k) rest |= (uint32_t)(uint8_t)x[whole + k] << (8 * k);
    for (int32_t n = 0; n < s.columns_out;) {
      const int32_t outputs = s.columns_out - n >= 4 ? 4 : 1;
      int32_t sum[4] = {bias[n], 0, 0, 0};
      if (outputs == 4) {
        for (int32_t i = 1; i < 4; ++i) sum[i] = bias[n + i];
        weight = multiply(x, weight, whole, sum);
      } else {
        for (int32_t k = 0; k < whole; k += 4, weight += 4)
          sum[0] = dot(mlopsc_word(x + k), mlopsc_word(weight), sum[0]);
      }
      for (int32_t i = 0; left != 0 && i < outputs; ++i, weight += 4)
        sum[i] = dot(rest, mlopsc_word(weight), sum[i]);
      for (int32_t i = 0; i < outputs; ++i, ++n)
        *y++ = plain != 0 ? mlopsc_scale(sum[i], multiplier[n], s.zero_out)
                          : mlopsc_requantize(sum[i], multiplier[n], s.left_shift, s.zero_out,
                                              s.low, s.high);
    }
  }
}

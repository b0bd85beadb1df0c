/* Product with constant weights with the DSP extension: see mlopsc_micro.h.
 *
 * Weights: of every four outputs [columns_in / n][4 outputs][n], where n are in a word, then of the outputs
 * that are left [columns_in]; columns_in is filled up with zeros to a multiple of n. Of 4 bits, the first
 * four of each eight in the upper halves of the bytes. */
#ifndef MLOPSC_DENSE_DSP_ANY_H
#define MLOPSC_DENSE_DSP_ANY_H

#include "mlopsc_micro.h"
#include "mlopsc_micro_dsp.h"
#include "mlopsc_micro_weights.h"

/* Words of weights of four outputs, in instructions of four bytes each; none waits for the one before
 * it. */
#define MLOPSC_EVEN(sum) "smlad %[" sum "], %[t], %[even], %[" sum "]\n\t"
#define MLOPSC_INPUT                     \
  "ldr %[even], [%[x]], #4\n\t"          \
  "sxtb16 %[odd], %[even], ror #8\n\t"   \
  "sxtb16 %[even], %[even]\n\t"
#if MLOPSC_WEIGHT_BITS == 4
/* Eight k: 55 instructions for 32 products. */
#define MLOPSC_UPPER(weight, sum)                         \
  "sxtb16 %[t], " weight "\n\t"                           \
  "bic %[t], %[t], #0x000f000f\n\t"                       \
  MLOPSC_EVEN(sum)                                        \
  "sxtb16 %[t], " weight ", ror #8\n\t"                   \
  "bic %[t], %[t], #0x000f000f\n\t"                       \
  "smlad %[" sum "], %[t], %[odd], %[" sum "]\n\t"
#define MLOPSC_LOWER(weight, sum)                         \
  "lsl " weight ", " weight ", #4\n\t"                    \
  "and " weight ", " weight ", #0xf0f0f0f0\n\t"           \
  "sxtb16 %[t], " weight "\n\t"                           \
  "sxtb16 " weight ", " weight ", ror #8\n\t"             \
  MLOPSC_EVEN(sum)                                        \
  "smlad %[" sum "], " weight ", %[odd], %[" sum "]\n\t"
#define MLOPSC_STEP                                       \
  "ldmia %[w]!, {r8, r9, r10, r12}\n\t"                   \
  MLOPSC_INPUT                                            \
  MLOPSC_UPPER("r8", "a") MLOPSC_UPPER("r9", "b")         \
  MLOPSC_UPPER("r10", "c") MLOPSC_UPPER("r12", "d")       \
  MLOPSC_INPUT                                            \
  MLOPSC_LOWER("r8", "a") MLOPSC_LOWER("r9", "b")         \
  MLOPSC_LOWER("r10", "c") MLOPSC_LOWER("r12", "d")
#define MLOPSC_STEP_CODE 220
#define MLOPSC_STEPS MLOPSC_STEP MLOPSC_STEP
#define MLOPSC_START             \
  "ldr %[x], [sp, #4]\n\t"       \
  "mov %[a], #0\n\t"             \
  "mov %[b], #0\n\t"             \
  "mov %[c], #0\n\t"             \
  "mov %[d], #0\n\t"
#define MLOPSC_STOP                        \
  "ldr %[t], [sp]\n\t"                     \
  "ldmia %[t]!, {r8, r9, r10, r12}\n\t"    \
  "str %[t], [sp]\n\t"                     \
  "add %[a], r8, %[a], asr #4\n\t"         \
  "add %[b], r9, %[b], asr #4\n\t"         \
  "add %[c], r10, %[c], asr #4\n\t"        \
  "add %[d], r12, %[d], asr #4\n\t"
#else
/* Four k: 20 instructions for 16 products. */
#define MLOPSC_WIDEN(weight)         \
  "sxtb16 %[t], " weight "\n\t"      \
  "sxtb16 " weight ", " weight ", ror #8\n\t"
#define MLOPSC_ODD(sum, weight) "smlad %[" sum "], " weight ", %[odd], %[" sum "]\n\t"
#define MLOPSC_STEP                                       \
  "ldr %[even], [%[x]], #4\n\t"                           \
  "ldmia %[w]!, {r8, r9, r10, r12}\n\t"                   \
  "sxtb16 %[odd], %[even], ror #8\n\t"                    \
  "sxtb16 %[even], %[even]\n\t"                           \
  MLOPSC_WIDEN("r8") MLOPSC_EVEN("a")                     \
  MLOPSC_WIDEN("r9") MLOPSC_EVEN("b") MLOPSC_ODD("a", "r8")  \
  MLOPSC_WIDEN("r10") MLOPSC_EVEN("c") MLOPSC_ODD("b", "r9") \
  MLOPSC_WIDEN("r12") MLOPSC_EVEN("d") MLOPSC_ODD("c", "r10") MLOPSC_ODD("d", "r12")
#define MLOPSC_STEP_CODE 80
#define MLOPSC_STEPS MLOPSC_STEP MLOPSC_STEP MLOPSC_STEP MLOPSC_STEP
#define MLOPSC_START             \
  "ldrd r8, %[x], [sp]\n\t"      \
  "ldrd %[a], %[b], [r8], #8\n\t" \
  "ldrd %[c], %[d], [r8], #8\n\t" \
  "str r8, [sp]\n\t"
#define MLOPSC_STOP
#endif

/* All outputs in fours, of columns_in in whole words, without a left shift. In assembly, because compilers
 * do not find the loads of four registers, and because thirteen registers are in use and no other is
 * left: what is needed once for four outputs waits on the stack. */
static inline void outputs(const int8_t *x, const int8_t *w, const int32_t *bias,
                           const int32_t *multiplier, int8_t *y, int32_t columns, int32_t fours,
                           int32_t zero) {
  const struct {
    const int32_t *bias;
    const int8_t *x, *end;
    int32_t begin; /* where the first of the turns begins, so that the last one is whole */
    const int32_t *multiplier;
    int8_t *y;
    int32_t zero;
    const int8_t *last; /* output */
  } task = {bias, x,    x + columns,  (16 - columns % 16) % 16 / MLOPSC_WORD_WEIGHTS * MLOPSC_STEP_CODE,
            multiplier, y,    zero, y + 4 * fours};
  uintptr_t t = (uintptr_t)&task;
  int32_t a, b, c, d;
  uint32_t even, odd;
  __asm__ volatile(
      "ldmia %[t]!, {r8, r9, r10, r12}\n\t"
      "ldrd %[a], %[b], [%[t], #8]\n\t"
      "strd %[a], %[b], [sp, #-8]!\n\t"
      "ldrd %[a], %[b], [%[t]]\n\t"
      "strd %[a], %[b], [sp, #-8]!\n\t"
      "strd r10, r12, [sp, #-8]!\n\t"
      "strd r8, r9, [sp, #-8]!\n"
      "1:\n\t"
      MLOPSC_START
      "ldr %[t], [sp, #12]\n\t"
      "add pc, %[t]\n\t" /* pc is the label: four bytes ahead */
      "nop\n"
      "2:\n\t" MLOPSC_STEPS
      "ldr %[t], [sp, #8]\n\t"
      "cmp %[x], %[t]\n\t"
      "bne 2b\n\t" MLOPSC_STOP
      "ldrd %[t], %[x], [sp, #16]\n\t"
      "ldrd %[even], %[odd], [sp, #24]\n\t"
      "ldmia %[t]!, {r8, r9, r10, r12}\n\t"
      "smmlar %[a], %[a], r8, %[even]\n\t"
      "smmlar %[b], %[b], r9, %[even]\n\t"
      "smmlar %[c], %[c], r10, %[even]\n\t"
      "smmlar %[d], %[d], r12, %[even]\n\t"
      "ssat %[a], #8, %[a]\n\t"
      "ssat %[b], #8, %[b]\n\t"
      "ssat %[c], #8, %[c]\n\t"
      "ssat %[d], #8, %[d]\n\t"
      "strb %[a], [%[x]], #1\n\t"
      "strb %[b], [%[x]], #1\n\t"
      "strb %[c], [%[x]], #1\n\t"
      "strb %[d], [%[x]], #1\n\t"
      "strd %[t], %[x], [sp, #16]\n\t"
      "cmp %[x], %[odd]\n\t"
      "bne 1b\n\t"
      "add sp, #32\n\t"
      : [a] "=&r"(a), [b] "=&r"(b), [c] "=&r"(c), [d] "=&r"(d), [w] "+r"(w), [x] "=&r"(x),
        [even] "=&r"(even), [odd] "=&r"(odd), [t] "+r"(t)
      :
      : "r8", "r9", "r10", "r12", "cc", "memory");
}

static inline int32_t add_products(uint32_t x, uint32_t w, int32_t sum) {
  sum = mlopsc_dot(mlopsc_even(x), mlopsc_even(w), sum);
  return mlopsc_dot(mlopsc_odd(x), mlopsc_odd(w), sum);
}

/* One output, a word of whose weights is every `pitch` bytes. */
static int32_t output(const int8_t *x, const int8_t *w, int32_t columns, int32_t pitch,
                      int32_t sum) {
  int32_t products = mlopsc_begin_sum(sum);
  for (; columns > 0; columns -= MLOPSC_WORD_WEIGHTS, w += pitch) {
    uint32_t word = mlopsc_word(w);
    for (int32_t k = 0; k < MLOPSC_WORD_WEIGHTS; k += 4, x += 4, word <<= 4) {
      if (columns - k >= 4) {
        products = add_products(mlopsc_word(x), mlopsc_four_weights(word), products);
      } else {
        for (int32_t i = 0; i < columns - k; ++i)
          products += x[i] * (int8_t)(mlopsc_four_weights(word) >> 8 * i);
      }
    }
  }
  return mlopsc_end_sum(sum, products);
}

void MLOPSC_OF_WEIGHTS(mlopsc_dense)(const int8_t *x, const int8_t *w, const int32_t *bias,
                                     const int32_t *multiplier, int8_t *y, void *scratch,
                                     const mlopsc_dense_shape *shape) {
  const mlopsc_dense_shape s = *shape;
  const int32_t word = MLOPSC_WORD_WEIGHTS, fours = s.columns_out / 4;
  const int32_t depth = (s.columns_in + word - 1) & -word;
  (void)scratch;
  for (int32_t row = 0; row < s.rows; ++row, x += s.columns_in, y += s.columns_out) {
    int32_t n = 0;
    if (s.left_shift == 0 && depth == s.columns_in && fours != 0) {
      outputs(x, w, bias, multiplier, y, s.columns_in, fours, s.zero_out);
      n = 4 * fours;
    }
    for (; n < s.columns_out; ++n) {
      const int32_t whole = n / 4 < fours;
      const int8_t *const weights = w + MLOPSC_WEIGHT_BYTES(n / 4 * 4 * depth) +
                                    n % 4 * (whole != 0 ? 4 : MLOPSC_WEIGHT_BYTES(depth));
      const int32_t sum = output(x, weights, s.columns_in, whole != 0 ? 16 : 4, bias[n]);
      y[n] = mlopsc_requantize(sum, multiplier[n], s.left_shift, s.zero_out, -128, 127);
    }
    mlopsc_clamp(y, s.columns_out, s.low, s.high);
  }
}

#endif

/* Product with constant weights with the DSP extension: see mlopsc_micro.h.
 *
 * Weights: of every four outputs [columns_in / n][4 outputs][n], where n are in a word, then of the outputs
 * that are left [columns_in]; columns_in is filled up with zeros to a multiple of n. Of 4 bits: 8 is added
 * to each, so that masks alone make pairs of them, and eight k lie in the order 0, 1, 4, 5, 2, 3, 6, 7 from
 * the lowest bits on. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_dsp.h"
#include "mlopsc_micro_weights.h"

/* Words of weights of four outputs, in instructions of four bytes each; none waits for the one before
 * it. */
#if MLOPSC_WEIGHT_BITS == 4
/* Eight k: 47 instructions for 32 products. Pairs in the lower halves of bytes are multiplied with 16 times
 * the input, so that all products are 16 times as large; sums start at what cancels the added 8. */
#define MLOPSC_INPUT                       \
  "ldr %[even], [%[x]], #4\n\t"            \
  "sxtb16 %[odd], %[even], ror #8\n\t"     \
  "sxtb16 %[even], %[even]\n\t"            \
  "lsl %[even], %[even], #4\n\t"           \
  "bic %[even], %[even], #0x000f0000\n\t"
#define MLOPSC_FOUR(weight, sum)                          \
  "and %[t], " weight ", #0x000f000f\n\t"                 \
  "smlad %[" sum "], %[t], %[even], %[" sum "]\n\t"       \
  "and %[t], " weight ", #0x00f000f0\n\t"                 \
  "smlad %[" sum "], %[t], %[odd], %[" sum "]\n\t"
#define MLOPSC_NEXT_FOUR(weight, sum) \
  "lsr " weight ", " weight ", #8\n\t" MLOPSC_FOUR(weight, sum)
#define MLOPSC_STEP                                           \
  "ldmia %[w]!, {r8, r9, r10, r12}\n\t"                       \
  MLOPSC_INPUT                                                \
  MLOPSC_FOUR("r8", "a") MLOPSC_FOUR("r9", "b")               \
  MLOPSC_FOUR("r10", "c") MLOPSC_FOUR("r12", "d")             \
  MLOPSC_INPUT                                                \
  MLOPSC_NEXT_FOUR("r8", "a") MLOPSC_NEXT_FOUR("r9", "b")     \
  MLOPSC_NEXT_FOUR("r10", "c") MLOPSC_NEXT_FOUR("r12", "d")
#define MLOPSC_STEP_CODE 188
#define MLOPSC_STEPS MLOPSC_STEP MLOPSC_STEP
#define MLOPSC_PUSH_START              \
  "ldrd %[a], %[b], [%[t], #16]\n\t"   \
  "strd %[a], %[b], [sp, #-8]!\n\t"
#define MLOPSC_POP "add sp, #40\n\t"
#define MLOPSC_START             \
  "ldr %[x], [sp, #4]\n\t"       \
  "ldr %[a], [sp, #32]\n\t"      \
  "mov %[b], %[a]\n\t"           \
  "mov %[c], %[a]\n\t"           \
  "mov %[d], %[a]\n\t"
#define MLOPSC_STOP                        \
  "ldr %[t], [sp]\n\t"                     \
  "ldmia %[t]!, {r8, r9, r10, r12}\n\t"    \
  "str %[t], [sp]\n\t"                     \
  "add %[a], r8, %[a], asr #4\n\t"         \
  "add %[b], r9, %[b], asr #4\n\t"         \
  "add %[c], r10, %[c], asr #4\n\t"        \
  "add %[d], r12, %[d], asr #4\n\t"

/* -16 * 8 times the sum of the input. */
static inline int32_t start_of_sums(const int8_t *x, int32_t columns) {
  int32_t sum = 0;
  for (const int8_t *const end = x + columns; x != end; x += 4) {
    const uint32_t word = mlopsc_word(x);
    sum = mlopsc_dot(mlopsc_even(word), 0x00010001U, sum);
    sum = mlopsc_dot(mlopsc_odd(word), 0x00010001U, sum);
  }
  return -128 * sum;
}
#else
/* Four k: 20 instructions for 16 products. */
#define MLOPSC_WIDEN(weight)         \
  "sxtb16 %[t], " weight "\n\t"      \
  "sxtb16 " weight ", " weight ", ror #8\n\t"
#define MLOPSC_EVEN(sum) "smlad %[" sum "], %[t], %[even], %[" sum "]\n\t"
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
#define MLOPSC_PUSH_START
#define MLOPSC_POP "add sp, #32\n\t"
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
#if MLOPSC_WEIGHT_BITS == 4
    int32_t start, unused;
#endif
  } task = {bias, x,    x + columns,  (16 - columns % 16) % 16 / MLOPSC_WORD_WEIGHTS * MLOPSC_STEP_CODE,
            multiplier, y,    zero, y + 4 * fours,
#if MLOPSC_WEIGHT_BITS == 4
            start_of_sums(x, columns), 0
#endif
  };
  uintptr_t t = (uintptr_t)&task;
  int32_t a, b, c, d;
  uint32_t even, odd;
  __asm__ volatile(
      "ldmia %[t]!, {r8, r9, r10, r12}\n\t"
      MLOPSC_PUSH_START
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
      MLOPSC_POP
      : [a] "=&r"(a), [b] "=&r"(b), [c] "=&r"(c), [d] "=&r"(d), [w] "+r"(w), [x] "=&r"(x),
        [even] "=&r"(even), [odd] "=&r"(odd), [t] "+r"(t)
      :
      : "r8", "r9", "r10", "r12", "cc", "memory");
}

/* Four k of x, or as many as there are. */
static inline uint32_t input_word(const int8_t *x, int32_t count) {
  uint32_t word = 0;
  if (count >= 4) return mlopsc_word(x);
  for (int32_t i = 0; i < count; ++i) word |= (uint32_t)(uint8_t)x[i] << 8 * i;
  return word;
}

/* One output, a word of whose weights is every `pitch` bytes. */
static int32_t output(const int8_t *x, const int8_t *w, int32_t columns, int32_t pitch,
                      int32_t sum) {
#if MLOPSC_WEIGHT_BITS == 4
  int32_t products = 0;
  for (; columns > 0; columns -= 8, w += pitch) {
    uint32_t word = mlopsc_word(w) ^ 0x88888888U; /* the weights themselves */
    for (int32_t k = 0; k < 8; k += 4, x += 4, word >>= 8) {
      const uint32_t input = input_word(x, columns - k);
      const uint32_t even = mlopsc_even(word << 4 & 0xf0f0f0f0U);
      products = mlopsc_dot(mlopsc_even(input), even, products);
      products = mlopsc_dot(mlopsc_odd(input), mlopsc_even(word & 0xf0f0f0f0U), products);
    }
  }
  return sum + mlopsc_shift_down(products, 4);
#else
  for (; columns > 0; columns -= 4, x += 4, w += pitch) {
    const uint32_t input = input_word(x, columns), word = mlopsc_word(w);
    sum = mlopsc_dot(mlopsc_even(input), mlopsc_even(word), sum);
    sum = mlopsc_dot(mlopsc_odd(input), mlopsc_odd(word), sum);
  }
  return sum;
#endif
}

void NAME(const int8_t *x, const int8_t *w, const int32_t *bias,
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

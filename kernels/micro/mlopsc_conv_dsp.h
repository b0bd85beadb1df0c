/* Sums of products of a block's columns with the weights of all channels: the inner loops of
 * mlopsc_conv_dsp_any.h, which describes both. In assembly, because compilers do not find the loads
 * of four registers, and because thirteen registers are in use and no other is left. */
#include <stdint.h>

/* Two k of one output channel at four positions: `weights` holds the pair. */
#define MLOPSC_TWO(weights)                    \
  "ldmia %[x]!, {r8, r9, r10, r12}\n\t"        \
  "smlad %[a], %[" weights "], r8, %[a]\n\t"   \
  "smlad %[b], %[" weights "], r9, %[b]\n\t"   \
  "smlad %[c], %[" weights "], r10, %[c]\n\t"  \
  "smlad %[d], %[" weights "], r12, %[d]\n\t"

/* A word of weights, in instructions of four bytes each. */
#if MLOPSC_WEIGHT_BITS == 4
/* Eight k: 29 instructions for 32 products. */
#define MLOPSC_WORD                            \
  "ldr %[low], [%[w]], #4\n\t"                 \
  "sxtb16 %[high], %[low]\n\t"                 \
  "bic %[high], %[high], #0x000f000f\n\t"      \
  MLOPSC_TWO("high")                           \
  "sxtb16 %[high], %[low], ror #8\n\t"         \
  "bic %[high], %[high], #0x000f000f\n\t"      \
  MLOPSC_TWO("high")                           \
  "lsl %[low], %[low], #4\n\t"                 \
  "and %[low], %[low], #0xf0f0f0f0\n\t"        \
  "sxtb16 %[high], %[low], ror #8\n\t"         \
  "sxtb16 %[low], %[low]\n\t"                  \
  MLOPSC_TWO("low") MLOPSC_TWO("high")
#define MLOPSC_WORD_CODE 116
#define MLOPSC_WORDS MLOPSC_WORD MLOPSC_WORD
#else
/* Four k: 13 instructions for 16 products. */
#define MLOPSC_WORD                    \
  "ldr %[low], [%[w]], #4\n\t"         \
  "sxtb16 %[high], %[low], ror #8\n\t" \
  "sxtb16 %[low], %[low]\n\t"          \
  MLOPSC_TWO("low") MLOPSC_TWO("high")
#define MLOPSC_WORD_CODE 52
#define MLOPSC_WORDS MLOPSC_WORD MLOPSC_WORD MLOPSC_WORD MLOPSC_WORD
#endif
#define MLOPSC_WORDS_BYTES (2 * MLOPSC_WEIGHT_BITS) /* 16 k */

/* All k of one output channel, sixteen in a turn; the first turn begins so far in that the last one is
 * whole. Takes columns, bytes of weights and where to begin from [r8, #4]; leaves r8 as it was: the first
 * word on the stack. */
#define MLOPSC_CHANNEL                                     \
  "ldrd %[x], %[t], [r8, #4]\n\t"                          \
  "ldr r9, [r8, #12]\n\t"                                  \
  "add %[t], %[w]\n\t"                                     \
  "add pc, r9\n\t" /* pc is the label: four bytes ahead */ \
  "nop\n"                                                  \
  "2:\n\t" MLOPSC_WORDS                                    \
  "cmp %[w], %[t]\n\t"                                     \
  "bne 2b\n\t"                                             \
  "ldr r8, [sp]\n\t"

/* Where the first turn begins, in bytes of instructions. */
static inline int32_t mlopsc_begin(int32_t bytes) {
  const int32_t turn = MLOPSC_WORDS_BYTES;
  return (turn - bytes % turn) % turn / 4 * MLOPSC_WORD_CODE;
}

/* How the sums of a channel start and stop: bias or sums of before are what the first word on the stack
 * points to. */
#define MLOPSC_NEXT_BIAS(to) \
  "ldr r9, [r8]\n\t"         \
  "ldr " to ", [r9], #4\n\t" \
  "str r9, [r8]\n\t"
#if MLOPSC_WEIGHT_BITS == 4
#define MLOPSC_START      \
  "mov %[a], #0\n\t"      \
  "mov %[b], #0\n\t"      \
  "mov %[c], #0\n\t"      \
  "mov %[d], #0\n\t"
#define MLOPSC_STOP                    \
  MLOPSC_NEXT_BIAS("r10")              \
  "add %[a], r10, %[a], asr #4\n\t"    \
  "add %[b], r10, %[b], asr #4\n\t"    \
  "add %[c], r10, %[c], asr #4\n\t"    \
  "add %[d], r10, %[d], asr #4\n\t"
#define MLOPSC_START_SUMS MLOPSC_START
#define MLOPSC_STOP_SUMS               \
  "ldrd r10, r12, [r9]\n\t"            \
  "add %[a], r10, %[a], asr #4\n\t"    \
  "add %[b], r12, %[b], asr #4\n\t"    \
  "ldrd r10, r12, [r9, #8]\n\t"        \
  "add %[c], r10, %[c], asr #4\n\t"    \
  "add %[d], r12, %[d], asr #4\n\t"
#else
#define MLOPSC_START         \
  MLOPSC_NEXT_BIAS("%[a]")   \
  "mov %[b], %[a]\n\t"       \
  "mov %[c], %[a]\n\t"       \
  "mov %[d], %[a]\n\t"
#define MLOPSC_STOP
#define MLOPSC_START_SUMS         \
  "ldr r9, [r8]\n\t"              \
  "ldrd %[a], %[b], [r9]\n\t"     \
  "ldrd %[c], %[d], [r9, #8]\n\t"
#define MLOPSC_STOP_SUMS
#endif

/* y[n][0..3] = requantised bias[n] + products, of all channels n; y[n + 1] is `pitch` bytes behind
 * y[n]. For outputs of full range without a left shift. `bytes`: of the weights of one channel. */
static inline void mlopsc_outputs(const uint32_t *columns, int32_t bytes, const int8_t *w,
                                  const int32_t *bias, const int32_t *multiplier, int32_t zero,
                                  int8_t *y, int32_t pitch, int32_t channels) {
  struct {
    const int32_t *bias;
    const uint32_t *columns;
    int32_t bytes, begin;
    const int32_t *multiplier;
    int32_t zero;
    int8_t *y;
    int32_t pitch;
    int8_t *end;
  } task = {bias, columns, bytes, mlopsc_begin(bytes), multiplier, zero, y, pitch,
            y + channels * pitch};
  uintptr_t t = (uintptr_t)&task;
  int32_t a, b, c, d;
  uint32_t low, high;
  const uint32_t *x;
  __asm__ volatile(
      "push {%[t]}\n\t"
      "mov r8, %[t]\n"
      "1:\n\t" MLOPSC_START MLOPSC_CHANNEL MLOPSC_STOP
      "ldrd r9, r12, [r8, #16]\n\t"
      "ldr r10, [r9], #4\n\t"
      "str r9, [r8, #16]\n\t"
      "smmlar %[a], %[a], r10, r12\n\t"
      "smmlar %[b], %[b], r10, r12\n\t"
      "smmlar %[c], %[c], r10, r12\n\t"
      "smmlar %[d], %[d], r10, r12\n\t"
      "ldrd r9, r10, [r8, #24]\n\t"
      "ldr r12, [r8, #32]\n\t"
      "ssat %[a], #8, %[a]\n\t"
      "ssat %[b], #8, %[b]\n\t"
      "ssat %[c], #8, %[c]\n\t"
      "ssat %[d], #8, %[d]\n\t"
      "strb %[b], [r9, #1]\n\t"
      "strb %[c], [r9, #2]\n\t"
      "strb %[d], [r9, #3]\n\t"
      "strb %[a], [r9]\n\t"
      "add r9, r10\n\t"
      "str r9, [r8, #24]\n\t"
      "cmp r9, r12\n\t"
      "bne 1b\n\t"
      "add sp, #4\n\t"
      : [a] "=&r"(a), [b] "=&r"(b), [c] "=&r"(c), [d] "=&r"(d), [w] "+r"(w), [x] "=&r"(x),
        [low] "=&r"(low), [high] "=&r"(high), [t] "+r"(t)
      :
      : "r8", "r9", "r10", "r12", "cc", "memory");
}

/* sum[n][0..3] += products, of all channels n. The weights of the next channel lie `depth` bytes
 * behind; `bytes` of them count. */
__attribute__((noinline)) static void mlopsc_add_products(const uint32_t *columns, int32_t bytes,
                                                          const int8_t *w, int32_t depth,
                                                          int32_t *sum, int32_t channels) {
  struct {
    int32_t *sum;
    const uint32_t *columns;
    int32_t bytes, begin, skip;
    int32_t *end;
  } task = {sum, columns, bytes, mlopsc_begin(bytes), depth - bytes, sum + 4 * channels};
  uintptr_t t = (uintptr_t)&task;
  int32_t a, b, c, d;
  uint32_t low, high;
  const uint32_t *x;
  __asm__ volatile(
      "push {%[t]}\n\t"
      "mov r8, %[t]\n"
      "1:\n\t" MLOPSC_START_SUMS MLOPSC_CHANNEL
      "ldr r9, [r8]\n\t" MLOPSC_STOP_SUMS
      "ldrd r10, r12, [r8, #16]\n\t"
      "strd %[c], %[d], [r9, #8]\n\t"
      "strd %[a], %[b], [r9], #16\n\t"
      "str r9, [r8]\n\t"
      "add %[w], r10\n\t"
      "cmp r9, r12\n\t"
      "bne 1b\n\t"
      "add sp, #4\n\t"
      : [a] "=&r"(a), [b] "=&r"(b), [c] "=&r"(c), [d] "=&r"(d), [w] "+r"(w), [x] "=&r"(x),
        [low] "=&r"(low), [high] "=&r"(high), [t] "+r"(t)
      :
      : "r8", "r9", "r10", "r12", "cc", "memory");
}

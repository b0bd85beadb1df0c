/* What the kernels for Helium (Armv8.1-M with integer MVE) have in common: requantisation of four
 * results at once. */
#ifndef MLOPSC_MICRO_MVE_H
#define MLOPSC_MICRO_MVE_H

#include <arm_mve.h>
#include <stdint.h>

/* A function that is not merged into its caller: inner loops keep all registers to themselves. */
#define MLOPSC_MVE_APART __attribute__((noinline))

/* What is the same for all results of a layer, in vector registers, of which kernels have many. */
typedef struct {
  int32x4_t left_shift, zero_out, low, high;
} mlopsc_mve_output;

/* The same value in all lanes, of which the compiler does not know that it is: it would keep it in a
 * general register, of which kernels have few. */
static inline int32x4_t mlopsc_mve_all(int32_t value) {
  int32x4_t lanes = vdupq_n_s32(value);
  __asm__("" : "+w"(lanes));
  return lanes;
}

static inline mlopsc_mve_output mlopsc_mve_output_of(int32_t left_shift, int32_t zero_out,
                                                     int32_t low, int32_t high) {
  const mlopsc_mve_output output = {mlopsc_mve_all(left_shift), mlopsc_mve_all(zero_out),
                                    mlopsc_mve_all(low), mlopsc_mve_all(high)};
  return output;
}

/* clamp(requantize(a, m, l) + z, low, high) of docs/integer-semantics.md. */
static inline int32x4_t mlopsc_mve_result(int32x4_t sum, int32x4_t multiplier,
                                          mlopsc_mve_output output) {
  const int32x4_t scaled = vrmulhq_s32(vqshlq_s32(sum, output.left_shift), multiplier);
  return vminq_s32(vmaxq_s32(vaddq_s32(scaled, output.zero_out), output.low), output.high);
}

#endif

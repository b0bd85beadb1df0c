/* What the kernels for Helium (Armv8.1-M with integer MVE) have in common: requantisation of four
 * results at once. */
#ifndef MLOPSC_MICRO_MVE_H
#define MLOPSC_MICRO_MVE_H

#include <arm_mve.h>
#include <stdint.h>

/* A function that is not merged into its caller: inner loops keep all registers to themselves. */
#define MLOPSC_MVE_APART __attribute__((noinline))

/* What is the same for all results of a layer. */
typedef struct {
  int32_t left_shift, zero_out;
  int32x4_t low, high;
} mlopsc_mve_output;

static inline mlopsc_mve_output mlopsc_mve_output_of(int32_t left_shift, int32_t zero_out,
                                                     int32_t low, int32_t high) {
  const mlopsc_mve_output output = {left_shift, zero_out, vdupq_n_s32(low), vdupq_n_s32(high)};
  return output;
}

/* clamp(requantize(a, m, l) + z, low, high) of docs/integer-semantics.md. */
static inline int32x4_t mlopsc_mve_result(int32x4_t sum, int32x4_t multiplier,
                                          mlopsc_mve_output output) {
  const int32x4_t scaled = vrmulhq_s32(vqshlq_r_s32(sum, output.left_shift), multiplier);
  return vminq_s32(vmaxq_s32(vaddq_n_s32(scaled, output.zero_out), output.low), output.high);
}

#endif

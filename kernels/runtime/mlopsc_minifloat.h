/* Floats of 16 bits and less as bit patterns; formats are named by ONNX's TensorProto.DataType.
 *
 * Decoding is exact. Encoding rounds once, to nearest with ties to even. All is integer arithmetic.
 * Sources: the ONNX operator schema "Cast"; IEEE 754; OCP 8-bit floating point 1.0; OCP
 * microscaling formats 1.0.
 */
#ifndef MLOPSC_MINIFLOAT_H
#define MLOPSC_MINIFLOAT_H

#include <stdint.h>

/* 10 float16, 16 bfloat16, 17 to 20 float8 (E4M3FN, E4M3FNUZ, E5M2, E5M2FNUZ), 23 float4 (E2M1).
 * `over` is the pattern, without sign, of what is too large. */
float mlopsc_minifloat_decode(uint32_t pattern, int32_t format);
uint32_t mlopsc_minifloat_encode(float x, int32_t format, uint32_t over);
uint32_t mlopsc_minifloat_encode_double(double x, int32_t format, uint32_t over);

/* FLOAT8E8M0: 2 ** (pattern - 127), 255 is NaN. What is below the least power, zero and negative
 * numbers too, becomes the least if saturating, else NaN. `mode` is 0 up, 1 down, 2 nearest with
 * ties up. */
float mlopsc_power_decode(uint32_t pattern);
uint32_t mlopsc_power_encode(float x, int32_t saturate, int32_t mode);
uint32_t mlopsc_power_encode_double(double x, int32_t saturate, int32_t mode);

/* Bits of the float that x rounds to if whatever is inexact goes to odd: rounding that again, to at
 * most 22 bits of precision, gives what rounding x once does. */
uint32_t mlopsc_round_to_odd(double x);

#endif

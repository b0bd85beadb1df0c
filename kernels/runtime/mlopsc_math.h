/* Mathematics for compiled kernels: float32, portable C11, no tables in RAM, no libm, no errno.
 *
 * Every function computes the same bits on every target whose float arithmetic is IEEE 754 (this
 * file is compiled without contraction). Largest errors, measured by tests/test_math.c over all
 * sampled floats: exp 1 ULP, log 1, log1p 3, tanh 2, erf 2, pow 1, sin 2, cos 2, tan 4, the
 * inverse and hyperbolic functions 1. NaN, infinities and signed zeros follow C99 Annex F;
 * subnormal results are rounded, not flushed.
 */
#ifndef MLOPSC_MATH_H
#define MLOPSC_MATH_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

float mlopsc_expf(float x);
float mlopsc_logf(float x);
float mlopsc_log1pf(float x);
float mlopsc_tanhf(float x);
float mlopsc_erff(float x);
float mlopsc_powf(float x, float y);
float mlopsc_sinf(float x);
float mlopsc_cosf(float x);
float mlopsc_tanf(float x);
float mlopsc_asinf(float x);
float mlopsc_acosf(float x);
float mlopsc_atanf(float x);
float mlopsc_sinhf(float x);
float mlopsc_coshf(float x);
float mlopsc_asinhf(float x);
float mlopsc_acoshf(float x);
float mlopsc_atanhf(float x);
float mlopsc_rintf(float x); /* ties to even; exact */
double mlopsc_rint(double x);
int64_t mlopsc_powi64(int64_t x, int64_t y); /* modulo 2^64; a negative power truncates */

#ifdef __cplusplus
}
#endif

#endif

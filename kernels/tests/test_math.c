/* Compares the functions of mlopsc_math.h with the platform's double-precision libm. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "mlopsc_math.h"

static int failures = 0;

static float from_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

static uint32_t to_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  return u;
}

/* Error of `got` in units in the last place of the float nearest to `exact`. */
static double ulps(float got, double exact) {
  float nearest = (float)exact;
  if (got != got || nearest != nearest) return (got != got) == (nearest != nearest) ? 0.0 : INFINITY;
  if (isinf(got) || isinf(nearest)) return got == nearest ? 0.0 : INFINITY;
  float magnitude = fabsf(nearest);
  double unit = magnitude < 1.17549435e-38f ? 1.401298464e-45
                                            : (double)nextafterf(magnitude, INFINITY) - magnitude;
  return fabs((double)got - exact) / unit;
}

static void check(const char *name, double worst, float at, double limit) {
  printf("%-6s worst error %.3f ULP at %a (limit %.1f)\n", name, worst, (double)at, limit);
  if (!(worst <= limit)) ++failures;
}

/* Every 977th float pattern: about 4.4 million values, all exponents, both signs. */
#define SWEEP(name, own, reference, limit)            \
  do {                                                \
    double worst = 0.0;                               \
    float at = 0.0f;                                  \
    for (uint64_t u = 0; u < 0x100000000ull; u += 977) { \
      float x = from_bits((uint32_t)u);               \
      double e = ulps(own(x), reference((double)x));  \
      if (e > worst) {                                \
        worst = e;                                    \
        at = x;                                       \
      }                                               \
    }                                                 \
    check(name, worst, at, limit);                    \
  } while (0)

static void test_pow(void) {
  double worst = 0.0;
  float at = 0.0f;
  uint32_t state = 1u;
  for (int i = 0; i < 4000000; ++i) {
    state = state * 1664525u + 1013904223u;
    float x = from_bits(state & 0x7fffffffu);
    state = state * 1664525u + 1013904223u;
    float y = from_bits((state & 0x83ffffffu) | 0x3c000000u);
    double e = ulps(mlopsc_powf(x, y), pow((double)x, (double)y));
    if (e > worst) {
      worst = e;
      at = x;
    }
  }
  check("pow", worst, at, 1.0);
  static const float special[] = {0.0f, -0.0f, 1.0f, -1.0f, 2.0f, -2.0f, 3.0f, -3.0f, 0.5f, -0.5f,
                                  1e30f, -1e30f, 16777217.0f, -16777215.0f, INFINITY, -INFINITY, NAN};
  int count = (int)(sizeof special / sizeof *special);
  for (int i = 0; i < count; ++i)
    for (int j = 0; j < count; ++j) {
      float got = mlopsc_powf(special[i], special[j]), want = powf(special[i], special[j]);
      if (!(got != got && want != want) && to_bits(got) != to_bits(want)) {
        printf("pow(%g, %g) = %g, expected %g\n", special[i], special[j], got, want);
        ++failures;
      }
    }
}

static void test_powi(void) {
  static const int64_t cases[][3] = {{3, 4, 81},   {-3, 3, -27}, {0, 0, 1},   {2, 63, INT64_MIN},
                                     {2, 64, 0},   {-1, -3, -1}, {-1, -2, 1}, {1, -9, 1},
                                     {7, -1, 0},   {0, -1, 0}};
  for (int i = 0; i < (int)(sizeof cases / sizeof *cases); ++i)
    if (mlopsc_powi64(cases[i][0], cases[i][1]) != cases[i][2]) {
      printf("powi64 case %d is wrong\n", i);
      ++failures;
    }
}

static void test_zeros(void) {
  float (*const odd[])(float) = {mlopsc_tanhf, mlopsc_erff,  mlopsc_sinf,   mlopsc_rintf,
                                 mlopsc_tanf,  mlopsc_asinf, mlopsc_atanf,  mlopsc_sinhf,
                                 mlopsc_asinhf, mlopsc_atanhf};
  for (int i = 0; i < (int)(sizeof odd / sizeof *odd); ++i)
    if (to_bits(odd[i](-0.0f)) != 0x80000000u) {
      printf("odd function %d loses the sign of zero\n", i);
      ++failures;
    }
}

int main(void) {
  SWEEP("exp", mlopsc_expf, exp, 1.0);
  SWEEP("log", mlopsc_logf, log, 1.0);
  SWEEP("log1p", mlopsc_log1pf, log1p, 3.0);
  SWEEP("tanh", mlopsc_tanhf, tanh, 2.0);
  SWEEP("erf", mlopsc_erff, erf, 2.0);
  SWEEP("sin", mlopsc_sinf, sin, 2.0);
  SWEEP("cos", mlopsc_cosf, cos, 2.0);
  SWEEP("rint", mlopsc_rintf, rint, 0.0);
  SWEEP("tan", mlopsc_tanf, tan, 4.0);
  SWEEP("asin", mlopsc_asinf, asin, 1.0);
  SWEEP("acos", mlopsc_acosf, acos, 1.0);
  SWEEP("atan", mlopsc_atanf, atan, 1.0);
  SWEEP("sinh", mlopsc_sinhf, sinh, 1.0);
  SWEEP("cosh", mlopsc_coshf, cosh, 1.0);
  SWEEP("asinh", mlopsc_asinhf, asinh, 1.0);
  SWEEP("acosh", mlopsc_acoshf, acosh, 1.0);
  SWEEP("atanh", mlopsc_atanhf, atanh, 1.0);
  test_powi();
  test_pow();
  test_zeros();
  if (failures) printf("%d failed\n", failures);
  return failures != 0;
}

/* Bit patterns of floats, for the functions of mlopsc_math.h. */
#ifndef MLOPSC_MATH_BITS_H
#define MLOPSC_MATH_BITS_H

#include <stdint.h>

#include "mlopsc_math.h"

/* The same bits on machines with and without fused multiply-add. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#define INFINITY_BITS 0x7f800000u
#define NAN_BITS 0x7fc00000u

static inline float from_bits(uint32_t u) {
  union {
    uint32_t u;
    float f;
  } v;
  v.u = u;
  return v.f;
}

static inline uint32_t to_bits(float f) {
  union {
    float f;
    uint32_t u;
  } v;
  v.f = f;
  return v.u;
}

static inline double double_from_bits(uint64_t u) {
  union {
    uint64_t u;
    double d;
  } v;
  v.u = u;
  return v.d;
}

static inline uint64_t double_to_bits(double d) {
  union {
    double d;
    uint64_t u;
  } v;
  v.d = d;
  return v.u;
}

#endif

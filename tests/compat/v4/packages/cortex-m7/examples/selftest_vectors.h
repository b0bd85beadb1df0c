/* Test vectors of digits, exact to the bit: generated. */
#ifndef SELFTEST_VECTORS_H
#define SELFTEST_VECTORS_H

#include "digits.h"

#define SELFTEST_MODEL digits_model
#define SELFTEST_ARENA_BYTES DIGITS_ARENA_BYTES
#define SELFTEST_ARENA_ALIGN DIGITS_ARENA_ALIGN
#define SELFTEST_VECTORS 10u
#define SELFTEST_INPUTS 1u
#define SELFTEST_OUTPUTS 1u

static const uint8_t in_image_0[64] = {
  0, 0, 2, 14, 13, 3, 0, 0, 0, 0, 13, 13,
  9, 11, 0, 0, 0, 0, 16, 7, 0, 12, 0, 0,
  0, 3, 16, 5, 0, 10, 5, 0, 0, 5, 16, 1,
  0, 8, 5, 0, 0, 3, 16, 1, 0, 10, 5, 0,
  0, 0, 16, 8, 5, 14, 3, 0, 0, 0, 4, 16,
  16, 9, 1, 0
};
static const float right_out_probabilities_0[10] = {
  0x1.ffded20000000p-1f, 0x1.05ff4c0000000p-18f, 0x1.dd589e0000000p-20f, 0x1.0ebe940000000p-15f, 0x1.2df9b80000000p-18f, 0x1.35f9560000000p-17f, 0x1.ef4f320000000p-14f, 0x1.8fab600000000p-19f, 0x1.321bae0000000p-14f, 0x1.f3577c0000000p-18f
};
static const uint8_t in_image_1[64] = {
  0, 0, 0, 0, 11, 14, 3, 0, 0, 0, 0, 2,
  16, 16, 2, 0, 0, 0, 0, 11, 16, 14, 0, 0,
  0, 0, 3, 16, 16, 15, 0, 0, 0, 1, 13, 16,
  16, 13, 0, 0, 0, 6, 16, 9, 15, 13, 0, 0,
  0, 0, 0, 0, 12, 16, 1, 0, 0, 0, 0, 0,
  9, 14, 1, 0
};
static const float right_out_probabilities_1[10] = {
  0x1.2754380000000p-20f, 0x1.ffcf940000000p-1f, 0x1.53886e0000000p-19f, 0x1.0dadd20000000p-18f, 0x1.5b60a00000000p-12f, 0x1.3c6dec0000000p-21f, 0x1.c31b880000000p-21f, 0x1.2900fc0000000p-16f, 0x1.6f70da0000000p-18f, 0x1.88abce0000000p-18f
};
static const uint8_t in_image_2[64] = {
  0, 0, 7, 16, 14, 3, 0, 0, 0, 0, 9, 14,
  11, 15, 0, 0, 0, 0, 1, 5, 0, 15, 5, 0,
  0, 0, 0, 0, 0, 16, 5, 0, 0, 0, 0, 0,
  3, 16, 4, 0, 0, 0, 0, 1, 12, 14, 1, 0,
  0, 0, 5, 12, 16, 16, 14, 1, 0, 0, 8, 16,
  14, 10, 13, 3
};
static const float right_out_probabilities_2[10] = {
  0x1.efbc6a0000000p-14f, 0x1.5f60ac0000000p-12f, 0x1.fe97aa0000000p-1f, 0x1.4c1a7a0000000p-10f, 0x1.eb04a40000000p-16f, 0x1.4ecbcc0000000p-16f, 0x1.6bb4860000000p-18f, 0x1.f1e1700000000p-11f, 0x1.7d8c000000000p-17f, 0x1.bcfa660000000p-17f
};
static const uint8_t in_image_3[64] = {
  0, 0, 9, 16, 10, 1, 0, 0, 0, 0, 8, 3,
  16, 4, 0, 0, 0, 0, 0, 5, 14, 2, 0, 0,
  0, 0, 2, 16, 15, 7, 0, 0, 0, 0, 0, 0,
  3, 15, 2, 0, 0, 4, 6, 0, 0, 13, 7, 0,
  0, 6, 13, 1, 5, 16, 3, 0, 0, 0, 10, 16,
  15, 5, 0, 0
};
static const float right_out_probabilities_3[10] = {
  0x1.419f580000000p-11f, 0x1.1364620000000p-15f, 0x1.09e24e0000000p-11f, 0x1.fe830c0000000p-1f, 0x1.43e4b60000000p-12f, 0x1.517e900000000p-11f, 0x1.ba5e400000000p-15f, 0x1.1105420000000p-15f, 0x1.ba65b40000000p-13f, 0x1.0846be0000000p-11f
};
static const uint8_t in_image_4[64] = {
  0, 0, 0, 10, 9, 0, 0, 0, 0, 0, 5, 15,
  0, 0, 9, 5, 0, 0, 14, 10, 0, 7, 16, 4,
  0, 5, 16, 7, 5, 16, 6, 0, 0, 11, 16, 16,
  16, 14, 0, 0, 0, 3, 4, 11, 16, 8, 0, 0,
  0, 0, 0, 7, 16, 2, 0, 0, 0, 0, 0, 12,
  12, 0, 0, 0
};
static const float right_out_probabilities_4[10] = {
  0x1.6138d80000000p-19f, 0x1.17f8e80000000p-18f, 0x1.075f720000000p-20f, 0x1.2e4c960000000p-19f, 0x1.fffb900000000p-1f, 0x1.0e9e640000000p-23f, 0x1.f7de940000000p-18f, 0x1.5d5a5e0000000p-17f, 0x1.719e240000000p-18f, 0x1.6a58380000000p-22f
};
static const uint8_t in_image_5[64] = {
  0, 0, 5, 16, 16, 3, 0, 0, 0, 0, 9, 16,
  7, 0, 0, 0, 0, 0, 12, 15, 2, 0, 0, 0,
  0, 1, 15, 16, 15, 4, 0, 0, 0, 0, 9, 13,
  16, 9, 0, 0, 0, 0, 0, 0, 14, 12, 0, 0,
  0, 0, 5, 12, 16, 8, 0, 0, 0, 0, 3, 15,
  15, 1, 0, 0
};
static const float right_out_probabilities_5[10] = {
  0x1.581d700000000p-9f, 0x1.ea86920000000p-8f, 0x1.dfb42a0000000p-12f, 0x1.41caca0000000p-9f, 0x1.c5ec4c0000000p-10f, 0x1.ec024c0000000p-1f, 0x1.db64220000000p-7f, 0x1.2dc9f80000000p-12f, 0x1.0c516e0000000p-7f, 0x1.56868c0000000p-10f
};
static const uint8_t in_image_6[64] = {
  0, 0, 3, 11, 0, 0, 0, 0, 0, 0, 12, 11,
  0, 0, 0, 0, 0, 1, 14, 1, 0, 0, 0, 0,
  0, 2, 15, 0, 0, 0, 0, 0, 0, 4, 15, 15,
  16, 15, 2, 0, 0, 1, 16, 8, 4, 8, 11, 0,
  0, 1, 16, 11, 7, 10, 12, 0, 0, 0, 5, 10,
  12, 15, 7, 0
};
static const float right_out_probabilities_6[10] = {
  0x1.52fa0e0000000p-16f, 0x1.95171c0000000p-13f, 0x1.63043a0000000p-13f, 0x1.45514e0000000p-19f, 0x1.89c53c0000000p-12f, 0x1.ab00980000000p-16f, 0x1.ff954e0000000p-1f, 0x1.58a5820000000p-19f, 0x1.a9691e0000000p-16f, 0x1.3570c80000000p-24f
};
static const uint8_t in_image_7[64] = {
  0, 0, 2, 13, 16, 9, 0, 0, 0, 0, 12, 12,
  7, 16, 3, 0, 0, 1, 14, 3, 0, 16, 4, 0,
  0, 0, 0, 4, 10, 16, 6, 0, 0, 0, 0, 13,
  16, 16, 9, 0, 0, 0, 0, 5, 13, 1, 0, 0,
  0, 0, 0, 11, 9, 0, 0, 0, 0, 0, 1, 16,
  4, 0, 0, 0
};
static const float right_out_probabilities_7[10] = {
  0x1.9740f20000000p-14f, 0x1.10ebc20000000p-12f, 0x1.7bb52e0000000p-10f, 0x1.4f4df80000000p-12f, 0x1.537d360000000p-11f, 0x1.259ca40000000p-13f, 0x1.4c71640000000p-19f, 0x1.fe54ca0000000p-1f, 0x1.592e100000000p-15f, 0x1.3d37a00000000p-12f
};
static const uint8_t in_image_8[64] = {
  0, 0, 0, 3, 12, 10, 0, 0, 0, 0, 1, 14,
  6, 15, 0, 0, 0, 0, 0, 16, 6, 10, 0, 0,
  0, 0, 0, 14, 16, 2, 0, 0, 0, 0, 3, 14,
  15, 3, 0, 0, 0, 1, 16, 4, 9, 9, 0, 0,
  0, 0, 4, 13, 4, 7, 8, 0, 0, 0, 0, 3,
  10, 11, 15, 2
};
static const float right_out_probabilities_8[10] = {
  0x1.4804940000000p-15f, 0x1.0e0e4c0000000p-8f, 0x1.252fa00000000p-13f, 0x1.df64740000000p-14f, 0x1.1d6c0e0000000p-10f, 0x1.5c0ec20000000p-18f, 0x1.6cc7400000000p-10f, 0x1.a061080000000p-18f, 0x1.fc26f20000000p-1f, 0x1.3fa3080000000p-11f
};
static const uint8_t in_image_9[64] = {
  0, 0, 8, 16, 10, 2, 0, 0, 0, 0, 12, 13,
  14, 11, 0, 0, 0, 0, 10, 13, 8, 16, 2, 0,
  0, 0, 4, 15, 15, 16, 8, 0, 0, 0, 0, 3,
  8, 11, 13, 0, 0, 0, 0, 0, 0, 5, 16, 4,
  0, 0, 1, 2, 2, 7, 16, 5, 0, 0, 3, 14,
  16, 16, 11, 1
};
static const float right_out_probabilities_9[10] = {
  0x1.38a3340000000p-19f, 0x1.14ed440000000p-17f, 0x1.41b52a0000000p-19f, 0x1.74ccce0000000p-13f, 0x1.986baa0000000p-15f, 0x1.25355a0000000p-14f, 0x1.936bba0000000p-24f, 0x1.3f68180000000p-17f, 0x1.85199c0000000p-17f, 0x1.ffd4ac0000000p-1f
};
static float out_probabilities[10];
static const void *const selftest_inputs[10][1] = {
  {in_image_0},
  {in_image_1},
  {in_image_2},
  {in_image_3},
  {in_image_4},
  {in_image_5},
  {in_image_6},
  {in_image_7},
  {in_image_8},
  {in_image_9},
};
static const void *const selftest_expected[10][1] = {
  {right_out_probabilities_0},
  {right_out_probabilities_1},
  {right_out_probabilities_2},
  {right_out_probabilities_3},
  {right_out_probabilities_4},
  {right_out_probabilities_5},
  {right_out_probabilities_6},
  {right_out_probabilities_7},
  {right_out_probabilities_8},
  {right_out_probabilities_9},
};
static void *const selftest_outputs[] = {out_probabilities};
static const double selftest_tolerances[] = {1e-05};

#endif

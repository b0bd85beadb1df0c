/* Test vector 0 of digits, exact to the bit: generated. */
#include <stdint.h>

static const uint8_t in_image[64] = {
  0, 0, 2, 14, 13, 3, 0, 0, 0, 0, 13, 13,
  9, 11, 0, 0, 0, 0, 16, 7, 0, 12, 0, 0,
  0, 3, 16, 5, 0, 10, 5, 0, 0, 5, 16, 1,
  0, 8, 5, 0, 0, 3, 16, 1, 0, 10, 5, 0,
  0, 0, 16, 8, 5, 14, 3, 0, 0, 0, 4, 16,
  16, 9, 1, 0
};
static const float expected_out_probabilities[10] = {
  0x1.ffded20000000p-1f, 0x1.05ff4c0000000p-18f, 0x1.dd589e0000000p-20f, 0x1.0ebe940000000p-15f, 0x1.2df9b80000000p-18f, 0x1.35f9560000000p-17f, 0x1.ef4f320000000p-14f, 0x1.8fab600000000p-19f, 0x1.321bae0000000p-14f, 0x1.f3577c0000000p-18f
};
static float out_probabilities[10];

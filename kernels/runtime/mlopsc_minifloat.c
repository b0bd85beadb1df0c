/* Small binary floating-point formats: see mlopsc_minifloat.h. */
#include "mlopsc_minifloat.h"
#include "mlopsc_math_bits.h"

typedef struct {
  uint8_t bits, fraction, bias;
  uint8_t unsigned_zero; /* the pattern of -0 is NaN */
  uint16_t largest;      /* pattern of the largest finite number */
  uint16_t infinity;     /* its pattern, or 0 */
  uint16_t nan;          /* its pattern, or 0 */
} minifloat;

static minifloat layout(int32_t format) {
  static const minifloat formats[] = {
      {16, 10, 15, 0, 0x7bff, 0x7c00, 0x7e00}, {16, 7, 127, 0, 0x7f7f, 0x7f80, 0x7fc0},
      {8, 3, 7, 0, 0x7e, 0, 0x7f},             {8, 3, 8, 1, 0x7f, 0, 0x80},
      {8, 2, 15, 0, 0x7b, 0x7c, 0x7f},         {8, 2, 16, 1, 0x7f, 0, 0x80},
      {4, 1, 1, 0, 0x7, 0, 0}};
  return formats[format == 10 ? 0 : format == 23 ? 6 : format - 15];
}

float mlopsc_minifloat_decode(uint32_t pattern, int32_t format) {
  minifloat f = layout(format);
  uint32_t sign_bit = 1u << (f.bits - 1), magnitude = pattern & (sign_bit - 1u);
  uint32_t sign = (pattern & sign_bit) << (32 - f.bits), shift = 23u - f.fraction, value;
  if (f.unsigned_zero ? pattern == f.nan : (f.nan && !f.infinity && magnitude == f.nan))
    return from_bits(NAN_BITS);
  if (f.infinity && magnitude >= f.infinity) {
    value = INFINITY_BITS | (magnitude << shift);
  } else if (f.bias == 127) { /* bfloat16 has the exponents of float */
    value = magnitude << shift;
  } else if (magnitude < (1u << f.fraction)) { /* its fraction in units in the last place */
    value = magnitude ? to_bits((float)magnitude *
                                from_bits((uint32_t)(128 - f.bias - f.fraction) << 23))
                      : 0u;
  } else {
    value = (magnitude << shift) + ((uint32_t)(127 - f.bias) << 23);
  }
  return from_bits(value | sign);
}

static uint32_t encode(uint32_t bits, int32_t format, uint32_t over) {
  minifloat f = layout(format);
  uint32_t magnitude = bits & 0x7fffffffu, sign = (bits >> 31) << (f.bits - 1);
  if (magnitude > INFINITY_BITS) {
    if (f.unsigned_zero) return f.nan;
    /* A format without NaN gives -0 for it, as ml_dtypes does, which ONNX takes as reference. */
    return f.nan ? f.nan | sign : 1u << (f.bits - 1);
  }
  uint32_t least = 128u - f.bias; /* float's exponent field of the format's least exponent */
  uint32_t field = magnitude >> 23, mantissa = magnitude & 0x007fffffu;
  if (field) {
    mantissa |= 0x00800000u;
  } else {
    field = 1;
  }
  /* Below the least exponent the last place stays where it is: more bits are rounded away. */
  uint32_t low = 23u - f.fraction + (field < least ? least - field : 0u);
  if (low > 25u) low = 25u;
  uint32_t half = 1u << (low - 1u), rest = mantissa & (2u * half - 1u), pattern = mantissa >> low;
  pattern += rest > half || (rest == half && (pattern & 1u));
  if (field > least) pattern += (field - least) << f.fraction;
  if (pattern > f.largest || magnitude == INFINITY_BITS) pattern = over;
  if (f.unsigned_zero && (pattern == 0 || pattern == f.nan)) sign = 0;
  return pattern | sign;
}

uint32_t mlopsc_round_to_odd(double x) {
  uint64_t bits = double_to_bits(x), magnitude = bits & 0x7fffffffffffffffull;
  uint32_t sign = (uint32_t)(bits >> 32) & 0x80000000u, value;
  int32_t field = (int32_t)(magnitude >> 52);
  uint64_t mantissa = (magnitude & 0x000fffffffffffffull) | 0x0010000000000000ull;
  if (magnitude > 0x7ff0000000000000ull) {
    value = NAN_BITS;
  } else if (field == 2047) {
    value = INFINITY_BITS;
  } else if (field > 1150) {
    value = 0x7f7fffffu;
  } else if (field == 0) {
    value = magnitude != 0;
  } else { /* float's least exponent has the field 897 here; below it more bits go */
    int32_t low = 29 + (field < 897 ? 897 - field : 0);
    if (low > 59) low = 59;
    value = (uint32_t)(mantissa >> low);
    value |= (mantissa & ((1ull << low) - 1ull)) != 0;
    if (field > 897) value += (uint32_t)(field - 897) << 23;
  }
  return value | sign;
}

uint32_t mlopsc_minifloat_encode(float x, int32_t format, uint32_t over) {
  return encode(to_bits(x), format, over);
}

uint32_t mlopsc_minifloat_encode_double(double x, int32_t format, uint32_t over) {
  return encode(mlopsc_round_to_odd(x), format, over);
}

float mlopsc_power_decode(uint32_t pattern) {
  if (pattern == 255u) return from_bits(NAN_BITS);
  return from_bits(pattern ? pattern << 23 : 0x00400000u);
}

static uint32_t power(uint32_t bits, int32_t saturate, int32_t mode) {
  uint32_t magnitude = bits & 0x7fffffffu, pattern = magnitude >> 23;
  uint32_t fraction = magnitude & 0x007fffffu;
  if (magnitude > INFINITY_BITS) return 255u;
  if ((bits >> 31) || magnitude < 0x00400000u) return saturate ? 0u : 255u;
  if (mode == 0) pattern += fraction > (pattern ? 0u : 0x00400000u);
  if (mode == 2) pattern += fraction >= (pattern ? 0x00400000u : 0x00600000u);
  return pattern > 254u ? (saturate ? 254u : 255u) : pattern;
}

uint32_t mlopsc_power_encode(float x, int32_t saturate, int32_t mode) {
  return power(to_bits(x), saturate, mode);
}

uint32_t mlopsc_power_encode_double(double x, int32_t saturate, int32_t mode) {
  return power(mlopsc_round_to_odd(x), saturate, mode);
}

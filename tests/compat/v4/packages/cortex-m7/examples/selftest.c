/* Runs a model on its test vectors where it is installed, and prints what came of it:
 *
 *   PASS 4/4
 *
 * or, for the first element of each output that is wrong,
 *
 *   FAIL vector 2 output scores element 7 got -12 expected -11
 *   FAIL 3/4
 *
 * Integers must agree bit for bit, where no tolerance is given; floats are printed as bit patterns.
 * Needs no C library. Prints through mlopsc_putc: define your own, or MLOPSC_UART_DATA, or use a
 * debugger that does semihosting, which is the default. With SELFTEST_NO_MAIN defined, call
 * mlopsc_selftest yourself. */
#include <stddef.h>
#include <stdint.h>

#include "selftest_vectors.h"

void mlopsc_putc(char c);
int mlopsc_selftest(void);

#if defined(__GNUC__)
#define SELFTEST_WEAK __attribute__((weak))
#else
#define SELFTEST_WEAK
#endif

#if defined(MLOPSC_UART_DATA)
/* A UART whose registers are given by their addresses. Write to MLOPSC_UART_DATA while
 * (*MLOPSC_UART_STATUS & MLOPSC_UART_MASK) == MLOPSC_UART_READY; if MLOPSC_UART_CONTROL is given,
 * MLOPSC_UART_ENABLE is written there first. Clocks and pins are set by the board's own code. */
#ifndef MLOPSC_UART_WORD
#define MLOPSC_UART_WORD uint32_t
#endif
#define SELFTEST_REGISTER(address) (*(volatile MLOPSC_UART_WORD *)(uintptr_t)(address))
static void put(char c) {
#if defined(MLOPSC_UART_CONTROL)
  SELFTEST_REGISTER(MLOPSC_UART_CONTROL) = (MLOPSC_UART_WORD)(MLOPSC_UART_ENABLE);
#endif
#if defined(MLOPSC_UART_STATUS)
  while ((SELFTEST_REGISTER(MLOPSC_UART_STATUS) & (MLOPSC_UART_MASK)) != (MLOPSC_UART_READY)) {
  }
#endif
  SELFTEST_REGISTER(MLOPSC_UART_DATA) = (MLOPSC_UART_WORD)(unsigned char)c;
}
#elif defined(__arm__) && defined(__GNUC__)
/* SYS_WRITEC of Arm's semihosting, as processors of the M profile ask for it. */
static void put(char c) {
  register uintptr_t operation __asm__("r0") = 3;
  register const char *address __asm__("r1") = &c;
  __asm__ volatile("bkpt 0xab" : "+r"(operation) : "r"(address) : "memory");
}
#elif defined(__riscv) && defined(__GNUC__)
/* The same by the RISC-V semihosting specification: three instructions, none of them compressed. */
static void put(char c) {
  register uintptr_t operation __asm__("a0") = 3;
  register const char *address __asm__("a1") = &c;
  __asm__ volatile(
      ".option push\n"
      ".option norvc\n"
      ".balign 16\n"
      "slli x0, x0, 0x1f\n"
      "ebreak\n"
      "srai x0, x0, 7\n"
      ".option pop\n"
      : "+r"(operation)
      : "r"(address)
      : "memory");
}
#else
#include <stdio.h>
static void put(char c) { (void)putchar(c); } /* a program of an operating system */
#endif

SELFTEST_WEAK void mlopsc_putc(char c) { put(c); }

static void print(const char *text) {
  while (*text != '\0') mlopsc_putc(*text++);
}

static void print_number(uint64_t value) {
  char digits[20];
  size_t count = 0;
  do {
    digits[count++] = (char)('0' + (int)(value % 10u));
    value /= 10u;
  } while (value != 0u);
  while (count > 0u) mlopsc_putc(digits[--count]);
}

static void print_bits(uint64_t bits, unsigned width) {
  print("0x");
  while (width > 0u) {
    width -= 4u;
    mlopsc_putc("0123456789abcdef"[(bits >> width) & 15u]);
  }
}

/* One element, however it is held. */
typedef struct {
  uint64_t bits; /* as it lies in memory */
  double real;   /* of float32 and float64 */
  int64_t whole; /* of integers */
} element;

static unsigned bytes_of(int32_t dtype) {
  switch (dtype) {
    case MLOPSC_FLOAT64:
    case MLOPSC_INT64:
    case MLOPSC_UINT64:
      return 8;
    case MLOPSC_FLOAT32:
    case MLOPSC_INT32:
    case MLOPSC_UINT32:
      return 4;
    case MLOPSC_FLOAT16:
    case MLOPSC_BFLOAT16:
    case MLOPSC_INT16:
    case MLOPSC_UINT16:
      return 2;
    default:
      return 1;
  }
}

static element element_at(const void *array, int32_t dtype, uint64_t index) {
  element found = {0, 0.0, 0};
  unsigned bytes = bytes_of(dtype);
  const unsigned char *from = (const unsigned char *)array + (size_t)index * bytes;
  union {
    uint32_t bits;
    float real;
  } single;
  union {
    uint64_t bits;
    double real;
  } both;
  for (unsigned i = 0; i < bytes; ++i) found.bits |= (uint64_t)from[i] << (8u * i);
  single.bits = (uint32_t)found.bits;
  both.bits = found.bits;
  if (dtype == MLOPSC_FLOAT32) found.real = (double)single.real;
  if (dtype == MLOPSC_FLOAT64) found.real = both.real;
  found.whole = bytes == 8u   ? (int64_t)found.bits
                : bytes == 4u ? (int32_t)(uint32_t)found.bits
                : bytes == 2u ? (int16_t)(uint16_t)found.bits
                              : (int8_t)(uint8_t)found.bits;
  return found;
}

static int is_signed(int32_t dtype) {
  return dtype == MLOPSC_INT8 || dtype == MLOPSC_INT16 || dtype == MLOPSC_INT32 ||
         dtype == MLOPSC_INT64 || dtype == MLOPSC_INT4 || dtype == MLOPSC_INT2;
}

static int is_real(int32_t dtype) { return dtype == MLOPSC_FLOAT32 || dtype == MLOPSC_FLOAT64; }

static int is_small_float(int32_t dtype) {
  return dtype == MLOPSC_FLOAT16 || dtype == MLOPSC_BFLOAT16 || dtype == MLOPSC_FLOAT4E2M1 ||
         dtype == MLOPSC_FLOAT8E8M0 ||
         (dtype >= MLOPSC_FLOAT8E4M3FN && dtype <= MLOPSC_FLOAT8E5M2FNUZ);
}

static void print_element(element value, int32_t dtype) {
  if (is_real(dtype) || is_small_float(dtype)) {
    print_bits(value.bits, 8u * bytes_of(dtype));
  } else if (is_signed(dtype) && value.whole < 0) {
    print("-");
    print_number(0u - (uint64_t)value.whole);
  } else {
    print_number(value.bits);
  }
}

static double magnitude(double x) { return x < 0.0 ? -x : x; }

/* Whether the pattern of a float of 16 or fewer bits is NaN. */
static int is_small_nan(uint64_t bits, int32_t dtype) {
  switch (dtype) {
    case MLOPSC_FLOAT16:
      return (bits & 0x7fffu) > 0x7c00u;
    case MLOPSC_BFLOAT16:
      return (bits & 0x7fffu) > 0x7f80u;
    case MLOPSC_FLOAT8E4M3FN:
      return (bits & 0x7fu) == 0x7fu;
    case MLOPSC_FLOAT8E5M2:
      return (bits & 0x7fu) > 0x7cu;
    case MLOPSC_FLOAT8E8M0:
      return bits == 0xffu;
    case MLOPSC_FLOAT8E4M3FNUZ:
    case MLOPSC_FLOAT8E5M2FNUZ:
      return bits == 0x80u;
    default:
      return 0;
  }
}

/* Whether the pattern of a float of 16 or fewer bits is zero, of either sign. */
static int is_small_zero(uint64_t bits, int32_t dtype) {
  switch (dtype) {
    case MLOPSC_FLOAT16:
    case MLOPSC_BFLOAT16:
      return (bits & 0x7fffu) == 0u;
    case MLOPSC_FLOAT8E8M0: /* has none */
      return 0;
    case MLOPSC_FLOAT4E2M1:
      return (bits & 0x7u) == 0u;
    default:
      return (bits & 0x7fu) == 0u;
  }
}

/* Whether a float is NaN (2), infinite (1) or a number (0), by its bits. */
static int exceptional(element value, int32_t dtype) {
  uint64_t infinity = dtype == MLOPSC_FLOAT64 ? (uint64_t)0x7ff << 52 : (uint64_t)0xff << 23;
  uint64_t bits = value.bits & (dtype == MLOPSC_FLOAT64 ? UINT64_MAX >> 1 : UINT32_MAX >> 1);
  return bits > infinity ? 2 : bits == infinity ? 1 : 0;
}

/* Whether an element is right: `allowed` is the largest difference. */
static int agrees(element got, element expected, int32_t dtype, double allowed) {
  if (got.bits == expected.bits) return 1;
  if (is_real(dtype)) {
    int odd = exceptional(expected, dtype);
    if (exceptional(got, dtype) != odd) return 0;
    if (odd != 0) return odd == 2; /* infinities of the same sign have the same bits */
    return magnitude(got.real - expected.real) <= allowed;
  }
  if (is_small_float(dtype)) { /* rounded from float32: the next pattern at most */
    if (is_small_nan(got.bits, dtype) || is_small_nan(expected.bits, dtype))
      return is_small_nan(got.bits, dtype) && is_small_nan(expected.bits, dtype);
    if (is_small_zero(got.bits, dtype) && is_small_zero(expected.bits, dtype)) return 1;
    uint64_t apart =
        got.bits > expected.bits ? got.bits - expected.bits : expected.bits - got.bits;
    return allowed > 0.0 && apart <= 1u;
  }
  if (!(allowed > 0.0)) return 0;
  if (is_signed(dtype)) return magnitude((double)got.whole - (double)expected.whole) <= allowed;
  return magnitude((double)got.bits - (double)expected.bits) <= allowed;
}

/* What the tolerance, which is relative to the largest expected value, allows. */
static double allowed_difference(const void *expected, int32_t dtype, uint64_t elements,
                                 double tolerance) {
  double largest = 0.0;
  if (!(tolerance > 0.0)) return 0.0;
  for (uint64_t i = 0; i < elements; ++i) {
    element e = element_at(expected, dtype, i);
    double size = is_real(dtype)     ? magnitude(e.real)
                  : is_signed(dtype) ? magnitude((double)e.whole)
                                     : (double)e.bits;
    if (is_real(dtype) && exceptional(e, dtype) != 0) continue;
    if (size > largest) largest = size;
  }
  return is_small_float(dtype) ? tolerance : tolerance * largest;
}

/* Compares one output and prints the first difference; returns whether there is none. */
static int check(const mlopsc_tensor *output, const void *got, const void *expected,
                 double tolerance, uint32_t vector) {
  uint64_t elements = output->bytes / bytes_of(output->dtype);
  double allowed = allowed_difference(expected, output->dtype, elements, tolerance);
  for (uint64_t i = 0; i < elements; ++i) {
    element g = element_at(got, output->dtype, i), e = element_at(expected, output->dtype, i);
    if (agrees(g, e, output->dtype, allowed)) continue;
    print("FAIL vector ");
    print_number(vector);
    print(" output ");
    print(output->name);
    print(" element ");
    print_number(i);
    print(" got ");
    print_element(g, output->dtype);
    print(" expected ");
    print_element(e, output->dtype);
    print("\n");
    return 0;
  }
  return 1;
}

static void copy(unsigned char *to, const void *from, uint64_t bytes) {
  const unsigned char *source = (const unsigned char *)from;
  for (size_t i = 0; i < (size_t)bytes; ++i) to[i] = source[i];
}

/* Runs the model on one vector; some models have their inputs and outputs in the arena. */
static int run_vector(const mlopsc_model *model, uint32_t vector, unsigned char *arena,
                      void **outputs) {
  const void *inputs[SELFTEST_INPUTS];
  for (uint32_t i = 0; i < model->input_count; ++i) {
    inputs[i] = selftest_inputs[vector][i];
    if (model->input_offsets != 0) {
      unsigned char *place = arena + (size_t)model->input_offsets[i];
      copy(place, inputs[i], model->inputs[i].bytes);
      inputs[i] = place;
    }
  }
  for (uint32_t i = 0; i < model->output_count; ++i)
    outputs[i] = model->output_offsets != 0 ? arena + (size_t)model->output_offsets[i]
                                           : selftest_outputs[i];
  return model->run(inputs, outputs, arena) == MLOPSC_OK;
}

/* Returns how many vectors gave a wrong output. */
int mlopsc_selftest(void) {
  static unsigned char storage[SELFTEST_ARENA_BYTES + SELFTEST_ARENA_ALIGN];
  void *outputs[SELFTEST_OUTPUTS];
  const mlopsc_model *model = SELFTEST_MODEL();
  unsigned char *arena = storage;
  uint32_t right = 0;
  while (((uintptr_t)arena & (SELFTEST_ARENA_ALIGN - 1u)) != 0u) ++arena;
  for (uint32_t v = 0; v < SELFTEST_VECTORS; ++v) {
    int good = 1;
    if (!run_vector(model, v, arena, outputs)) {
      print("FAIL vector ");
      print_number(v);
      print(" the call was refused\n");
      continue;
    }
    for (uint32_t o = 0; o < model->output_count; ++o) {
      good &= check(&model->outputs[o], outputs[o], selftest_expected[v][o],
                    selftest_tolerances[o], v);
    }
    right += good ? 1u : 0u;
  }
  print(right == SELFTEST_VECTORS ? "PASS " : "FAIL ");
  print_number(right);
  print("/");
  print_number(SELFTEST_VECTORS);
  print("\n");
  return (int)(SELFTEST_VECTORS - right);
}

#if !defined(SELFTEST_NO_MAIN)
int main(void) { return mlopsc_selftest() == 0 ? 0 : 1; }
#endif

/* Multiply-adds per second of one core, and its frequency, while both loops run long enough. */
#include <stdint.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

typedef float vector __attribute__((vector_size(BYTES)));

enum { CHAINS = 12 }; /* latency (4 or 5 cycles) times ports (2), and some more */

int32_t fma_lanes(void) { return BYTES / 4; }

/* 2^-20 of what is computed, so that nothing is left out: CHAINS * lanes multiply-adds a round. */
float fma_chains(int64_t rounds, float factor) {
  vector sum[CHAINS];
  for (int c = 0; c < CHAINS; c++) sum[c] = (vector){0} + (float)c;
  const vector a = (vector){0} + factor;
  for (int64_t i = 0; i < rounds; i++) {
#pragma clang loop unroll(full)
    for (int c = 0; c < CHAINS; c++) {
      sum[c] = sum[c] * a + a;
      __asm__ volatile("" : "+v"(sum[c])); /* one after the other, in registers */
    }
  }
  vector total = {0};
  for (int c = 0; c < CHAINS; c++) total += sum[c];
  return total[0];
}

/* One addition a cycle on everything that ships: each needs the one before. */
int64_t cycles(int64_t rounds, int64_t step) {
  int64_t x = 0;
  for (int64_t i = 0; i < rounds; i++) {
#pragma clang loop unroll(full)
    for (int c = 0; c < 32; c++) {
      x += step;
      __asm__ volatile("" : "+r"(x));
    }
  }
  return x;
}

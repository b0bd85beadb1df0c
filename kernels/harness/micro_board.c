/* A program that calls kernels for microcontrollers with every case of "cases.bin" and writes what
 * they computed to the file "results.bin": each output, then one byte that is 1 where a kernel wrote
 * beside its buffers. Built by benchmarks/micro_board.py. */
#include <stddef.h>
#include <stdint.h>

#include "micro_board.h" /* CASES, BUFFER_BYTES, RESULT_BYTES */

enum { INPUT, WEIGHTS, BIAS, MULTIPLIER, OUTPUT, SCRATCH, SHAPE, EXPONENTIALS, PARTS };
enum { GUARD = 64, UNTOUCHED = 0xA5 };

/* Bytes of every part; the contents follow, each at a multiple of 64 bytes, but those of the output
 * and the scratch. */
typedef struct {
  uint32_t operation, in_place, bytes[PARTS], filler[6];
} header;

typedef void (*call)(const void *const *table);
void call_conv(const void *const *table);
void call_depthwise(const void *const *table);
void call_dense(const void *const *table);
void call_conv_s4(const void *const *table);
void call_depthwise_s4(const void *const *table);
void call_dense_s4(const void *const *table);
void call_add(const void *const *table);
void call_mean(const void *const *table);
void call_table(const void *const *table);
void call_softmax(const void *const *table);
int harness_write_file(const char *name, const void *data, size_t bytes);
void harness_begin(void);
void harness_end(void);

static const unsigned char cases[] __attribute__((aligned(64))) = {
#embed "cases.bin"
};
static unsigned char input[BUFFER_BYTES], output[BUFFER_BYTES];
static unsigned char scratch[BUFFER_BYTES] __attribute__((aligned(64)));
static unsigned char results[RESULT_BYTES];

/* Where the counter of instructions begins and ends. */
__attribute__((noinline)) void harness_begin(void) { __asm__ volatile("" ::: "memory"); }
__attribute__((noinline)) void harness_end(void) { __asm__ volatile("" ::: "memory"); }

static void fill(unsigned char *to) {
  for (size_t i = 0; i < BUFFER_BYTES; ++i) to[i] = UNTOUCHED;
}

static int touched(const unsigned char *from) {
  for (size_t i = 0; i < GUARD; ++i) {
    if (from[i] != UNTOUCHED) return 1;
  }
  return 0;
}

int main(void) {
  static const call calls[] = {call_conv,     call_depthwise,    call_dense,    call_conv_s4,
                               call_depthwise_s4, call_dense_s4, call_add,      call_mean,
                               call_table,    call_softmax};
  const unsigned char *at = cases;
  unsigned char *to = results;
  for (uint32_t n = 0; n < CASES; ++n) {
    const header *h = (const header *)(const void *)at;
    const void *table[PARTS];
    const unsigned char *x;
    unsigned char *y = h->in_place ? input + GUARD : output + GUARD;
    size_t used = h->bytes[OUTPUT];
    at += sizeof *h;
    x = at;
    for (size_t i = 0; i < PARTS; ++i) {
      if (i == OUTPUT || i == SCRATCH) continue;
      table[i] = at;
      at += (h->bytes[i] + 63u) & ~63u;
    }
    fill(input);
    fill(output);
    fill(scratch);
    for (size_t i = 0; i < h->bytes[INPUT]; ++i) input[GUARD + i] = x[i];
    if (h->in_place && used < h->bytes[INPUT]) used = h->bytes[INPUT];
    table[INPUT] = input + GUARD;
    table[OUTPUT] = y;
    table[SCRATCH] = scratch + GUARD;
    harness_begin();
    calls[h->operation](table);
    harness_end();
    for (size_t i = 0; i < h->bytes[OUTPUT]; ++i) *to++ = y[i];
    *to++ = touched(y - GUARD) || touched(y + used) || touched(scratch) ||
            touched(scratch + GUARD + h->bytes[SCRATCH]);
  }
  return harness_write_file("results.bin", results, (size_t)(to - results)) ? 4 : 0;
}

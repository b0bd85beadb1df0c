/* Counts executions of basic blocks inside the Unicorn emulator. Compiled for the host and given to
 * Unicorn as the callback of UC_HOOK_BLOCK, because a Python callback per block is a thousand times
 * slower. */
#include "call_sites.h"

typedef struct block_counter {
  uint64_t base;         /* lowest address counted */
  uint64_t end;          /* one past the highest */
  uint64_t *counts;      /* per two bytes of code: executions of the block that starts there */
  uint32_t *lengths;     /* and its number of instructions */
  const uint8_t *code;   /* what lies from base to end */
  const uint8_t *driver; /* per two bytes of code: whether they belong to the driver */
  uint32_t encoding;     /* 0: four bytes each; 1: Thumb; 2: RISC-V with short instructions */
  call_sites sites;
} block_counter;

static uint32_t instructions(const uint8_t *code, uint32_t size, uint32_t encoding) {
  uint32_t count = 0;
  for (uint32_t at = 0; at + 1 < size; ++count) {
    uint32_t half = (uint32_t)code[at] | (uint32_t)code[at + 1] << 8;
    int wide = encoding == 0 || (encoding == 1 ? half >> 11 >= 0x1D : (half & 3) == 3);
    at += wide ? 4 : 2;
  }
  return count;
}

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
void mlopsc_count_block(void *emulator, uint64_t address, uint32_t size, void *user) {
  block_counter *counter = (block_counter *)user;
  (void)emulator;
  if (address < counter->base || address >= counter->end) return;
  uint64_t offset = address - counter->base, slot = offset >> 1;
  if (!counter->counts[slot]++)
    counter->lengths[slot] = instructions(counter->code + offset, size, counter->encoding);
  call_sites_block(&counter->sites, address, address + size, counter->lengths[slot],
                   counter->driver[slot]);
}

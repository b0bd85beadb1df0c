/* Counts executions of basic blocks inside the Unicorn emulator. Compiled for the host and given to
 * Unicorn as the callback of UC_HOOK_BLOCK, because a Python callback per block is a thousand times
 * slower. */
#include <stdint.h>

typedef struct block_counter {
  uint64_t base;    /* lowest address counted */
  uint64_t end;     /* one past the highest */
  uint64_t *counts; /* per two bytes of code: executions of the block that starts there */
  uint32_t *sizes;  /* and its size in bytes */
} block_counter;

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
void mlopsc_count_block(void *emulator, uint64_t address, uint32_t size, void *user) {
  block_counter *counter = (block_counter *)user;
  (void)emulator;
  if (address >= counter->base && address < counter->end) {
    uint64_t slot = (address - counter->base) >> 1;
    ++counter->counts[slot];
    counter->sizes[slot] = size;
  }
}

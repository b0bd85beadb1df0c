/* Counts executions of basic blocks inside the Unicorn emulator, and the instructions of every call
 * that the model's driver makes. Compiled for the host and given to Unicorn as the callback of
 * UC_HOOK_BLOCK, because a Python callback per block is a thousand times slower. */
#include <stddef.h>
#include <stdint.h>

typedef struct call_site {
  uint64_t from;         /* where the call returns to */
  uint64_t function;     /* what is called */
  uint64_t calls;        /* how often */
  uint64_t instructions; /* until it returns, those of the functions that it calls included */
} call_site;

typedef struct block_counter {
  uint64_t base;          /* lowest address counted */
  uint64_t end;           /* one past the highest */
  uint64_t *counts;       /* per two bytes of code: executions of the block that starts there */
  uint32_t *lengths;      /* and its number of instructions */
  const uint8_t *code;    /* what lies from base to end */
  const uint8_t *driver;  /* per two bytes of code: whether they belong to the driver */
  call_site *sites;       /* in the order of the first call */
  uint32_t capacity;      /* number of sites there is room for */
  uint32_t used;          /* number of sites found */
  uint32_t current;       /* place in sites of what runs; capacity in the driver itself */
  uint32_t encoding;      /* 0: four bytes each; 1: Thumb; 2: RISC-V with short instructions */
  int32_t link;           /* number of the register that holds the return address */
  int32_t (*read_register)(void *emulator, int32_t number, void *value);
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

/* The site of the call that the driver has just made of the function at `address`. */
static uint32_t site(block_counter *counter, void *emulator, uint64_t address) {
  uint64_t from = 0;
  counter->read_register(emulator, counter->link, &from);
  for (uint32_t i = counter->used; i-- > 0;) {
    if (counter->sites[i].from == from && counter->sites[i].function == address) return i;
  }
  if (counter->used == counter->capacity) return counter->capacity;
  counter->sites[counter->used].from = from;
  counter->sites[counter->used].function = address;
  return counter->used++;
}

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
void mlopsc_count_block(void *emulator, uint64_t address, uint32_t size, void *user) {
  block_counter *counter = (block_counter *)user;
  if (address < counter->base || address >= counter->end) return;
  uint64_t slot = (address - counter->base) >> 1;
  if (!counter->counts[slot]++)
    counter->lengths[slot] =
        instructions(counter->code + (address - counter->base), size, counter->encoding);
  if (counter->driver[slot]) {
    counter->current = counter->capacity;
    return;
  }
  if (counter->current == counter->capacity) {
    counter->current = site(counter, emulator, address);
    if (counter->current == counter->capacity) return;
    ++counter->sites[counter->current].calls;
  }
  counter->sites[counter->current].instructions += counter->lengths[slot];
}

/* Instructions of every place from which a model's driver calls a function, as an emulator sees
 * them: block by block. The driver's block that ends before another function begins is the one that
 * calls it. */
#ifndef CALL_SITES_H
#define CALL_SITES_H
#include <stdint.h>

typedef struct call_site {
  uint64_t from;         /* where the call returns to */
  uint64_t function;     /* what is called */
  uint64_t calls;        /* how often */
  uint64_t instructions; /* until it returns, those of the functions that it calls included */
} call_site;

typedef struct call_sites {
  call_site *sites;  /* in the order of the first call */
  uint32_t capacity; /* number there is room for; further ones are not recorded */
  uint32_t used;     /* number found */
  uint32_t current;  /* place of the call that runs; capacity while the driver itself does */
  uint64_t from;     /* end of the driver's last block */
} call_sites;

static inline uint32_t call_sites_find(call_sites *all, uint64_t function) {
  for (uint32_t i = all->used; i-- > 0;) {
    if (all->sites[i].from == all->from && all->sites[i].function == function) return i;
  }
  if (all->used >= all->capacity) return all->capacity;
  all->sites[all->used].from = all->from;
  all->sites[all->used].function = function;
  return all->used++;
}

/* Takes the execution of one block: its first address, one past its last, its instructions, and
 * whether it belongs to the driver. */
static inline void call_sites_block(call_sites *all, uint64_t address, uint64_t end,
                                    uint64_t instructions, int driver) {
  if (driver) {
    all->current = all->capacity;
    all->from = end;
    return;
  }
  if (all->current == all->capacity) {
    all->current = call_sites_find(all, address);
    if (all->current == all->capacity) return;
    ++all->sites[all->current].calls;
  }
  all->sites[all->current].instructions += instructions;
}
#endif

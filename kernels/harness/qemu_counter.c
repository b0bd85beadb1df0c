/* Counts executions of basic blocks inside QEMU between two functions of the image. Compiled for the
 * host and given to QEMU as a plugin (docs/devel/tcg-plugins in QEMU's documentation); what is used
 * of its interface is declared here, because QEMU's packages have no header for plugins.
 *
 * Arguments: counts=PATH, sites=PATH, begin=ADDRESS, end=ADDRESS, and driver=FIRST-END for each
 * function of the model's driver. Counting goes on from the execution of the block at begin to that
 * of the block at end. At exit the file of counts holds, per block that was executed, its address and
 * the number of instructions executed in it: two 64-bit integers in this machine's order; that of
 * sites holds what call_sites.h describes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "call_sites.h"

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int,
                                          void *);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

#define PUBLIC __attribute__((visibility("default")))
PUBLIC int qemu_plugin_version = PLUGIN_VERSION;
PUBLIC int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv);

typedef struct block {
  struct block *next;
  uint64_t address, end, length, executed;
  int driver;
} block;

enum { MAX_SITES = 1 << 16, MAX_RANGES = 8 };

static block *blocks;
static uint64_t first, last;
static char path[4096], sites_path[4096];
static int counting, ranges;
static uint64_t driver[MAX_RANGES][2];
static call_site site[MAX_SITES];
static call_sites sites = {site, MAX_SITES, 0, MAX_SITES, 0};

static void count(unsigned processor, void *data) {
  block *b = (block *)data;
  (void)processor;
  if (b->address == first) counting = 1;
  if (b->address == last) counting = 0;
  if (!counting) return;
  ++b->executed;
  call_sites_block(&sites, b->address, b->end, b->length, b->driver);
}

/* A block may be translated again, so that an address may stand in the list more than once. */
static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
  block *b = (block *)calloc(1, sizeof *b);
  (void)id;
  if (!b) abort();
  b->address = qemu_plugin_tb_vaddr(tb);
  b->length = qemu_plugin_tb_n_insns(tb);
  struct qemu_plugin_insn *tail = qemu_plugin_tb_get_insn(tb, b->length - 1);
  b->end = qemu_plugin_insn_vaddr(tail) + qemu_plugin_insn_size(tail);
  for (int i = 0; i < ranges; ++i)
    b->driver |= b->address >= driver[i][0] && b->address < driver[i][1];
  b->next = blocks;
  blocks = b;
  qemu_plugin_register_vcpu_tb_exec_cb(tb, count, 0 /* QEMU_PLUGIN_CB_NO_REGS */, b);
}

static void finish(plugin_id id, void *data) {
  FILE *file = fopen(path, "wb");
  (void)id;
  (void)data;
  if (!file) return;
  for (block *b = blocks; b; b = b->next) {
    uint64_t line[2] = {b->address, b->length * b->executed};
    if (b->executed) fwrite(line, sizeof line, 1, file);
  }
  fclose(file);
  file = fopen(sites_path, "wb");
  if (!file) return;
  fwrite(site, sizeof *site, sites.used, file);
  fclose(file);
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; ++i) {
    if (!strncmp(argv[i], "counts=", 7)) snprintf(path, sizeof path, "%s", argv[i] + 7);
    if (!strncmp(argv[i], "sites=", 6))
      snprintf(sites_path, sizeof sites_path, "%s", argv[i] + 6);
    if (!strncmp(argv[i], "driver=", 7) && ranges < MAX_RANGES) {
      char *rest = 0;
      driver[ranges][0] = strtoull(argv[i] + 7, &rest, 0);
      driver[ranges++][1] = strtoull(rest + 1, 0, 0);
    }
    if (!strncmp(argv[i], "begin=", 6)) first = strtoull(argv[i] + 6, 0, 0);
    if (!strncmp(argv[i], "end=", 4)) last = strtoull(argv[i] + 4, 0, 0);
  }
  if (!path[0] || !first || !last) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, finish, 0);
  return 0;
}

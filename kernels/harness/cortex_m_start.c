/* Start-up of a Cortex-M program without a C library: vectors, FPU, data, main, and the few
 * semihosting calls (Arm Semihosting specification) that print, write a file and exit. */
#include <stddef.h>
#include <stdint.h>

extern uint32_t data_start[], data_end[], data_load[], bss_start[], bss_end[], stack_top[];
int main(void);
void Reset_Handler(void);
void example_write(const char *text);
int harness_write_file(const char *name, const void *data, size_t bytes);

static uintptr_t semihosting(uintptr_t operation, const void *block) {
  register uintptr_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = block;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

void example_write(const char *text) { semihosting(0x04, text); } /* SYS_WRITE0 */

int harness_write_file(const char *name, const void *data, size_t bytes) {
  size_t length = 0;
  while (name[length]) ++length;
  uintptr_t open[3] = {(uintptr_t)name, 5, length}; /* SYS_OPEN, mode "wb" */
  uintptr_t handle = semihosting(0x01, open);
  if (handle == (uintptr_t)-1) return 1;
  uintptr_t write[3] = {handle, (uintptr_t)data, bytes};
  if (semihosting(0x05, write) != 0) return 1; /* SYS_WRITE returns what it left */
  return semihosting(0x02, &handle) != 0;      /* SYS_CLOSE */
}

static void leave(int status) {
  uintptr_t block[2] = {0x20026, (uintptr_t)status}; /* ADP_Stopped_ApplicationExit */
  semihosting(0x20, block);                          /* SYS_EXIT_EXTENDED */
  for (;;) {
  }
}

static void fault(void) {
  example_write("fault\n");
  leave(2);
}

__attribute__((noreturn, used)) void Reset_Handler(void) {
  *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: full access to the FPU */
  __asm__ volatile("dsb\n isb");
  volatile uint32_t *to = data_start;
  const uint32_t *from = data_load;
  while (to < data_end) *to++ = *from++;
  for (to = bss_start; to < bss_end;) *to++ = 0;
  leave(main());
  for (;;) {
  }
}

typedef struct {
  const void *stack;
  void (*handlers[15])(void);
} vector_table;

__attribute__((section(".vectors"), used)) static const vector_table vectors = {
    stack_top, {Reset_Handler, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0,
                fault, fault}};

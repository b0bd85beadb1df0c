/* Start-up of a program without a C library on Cortex-M or RISC-V: the first instructions, FPU,
 * data, main, and the few semihosting calls (Arm Semihosting specification; RISC-V Semihosting) that
 * print, write a file and exit. The section .start lies where the processor starts. */
#include <stddef.h>
#include <stdint.h>

extern uint32_t data_start[], data_end[], data_load[], bss_start[], bss_end[], stack_top[];
int main(void);
void Reset_Handler(void);
void example_write(const char *text);
int harness_write_file(const char *name, const void *data, size_t bytes);

#if defined(__riscv)
static uintptr_t semihosting(uintptr_t operation, const void *block) {
  register uintptr_t a0 __asm__("a0") = operation;
  register const void *a1 __asm__("a1") = block;
  __asm__ volatile(".balign 16\n .option push\n .option norvc\n" /* three words in one page */
                   "slli zero, zero, 0x1f\n ebreak\n srai zero, zero, 7\n .option pop"
                   : "+r"(a0)
                   : "r"(a1)
                   : "memory");
  return a0;
}
#else
static uintptr_t semihosting(uintptr_t operation, const void *block) {
  register uintptr_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = block;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}
#endif

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

__attribute__((aligned(4))) static void fault(void) {
  example_write("fault\n");
  leave(2);
}

__attribute__((noreturn, used)) static void start(void) {
  volatile uint32_t *to = data_start;
  const uint32_t *from = data_load;
  while (to < data_end) *to++ = *from++;
  for (to = bss_start; to < bss_end;) *to++ = 0;
  leave(main());
  for (;;) {
  }
}

#if defined(__riscv)
__attribute__((naked, noreturn, section(".start"), used)) void Reset_Handler(void) {
  __asm__ volatile("la sp, stack_top\n la t0, %0\n csrw mtvec, t0\n la t0, %1\n jr t0" ::"i"(fault),
                   "i"(start));
}
#else
__attribute__((noreturn, used)) void Reset_Handler(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: full access to the FPU and Helium */
  __asm__ volatile("dsb\n isb");
#endif
  start();
}

typedef struct {
  const void *stack;
  void (*handlers[15])(void);
} vector_table;

__attribute__((section(".start"), used)) static const vector_table vectors = {
    stack_top, {Reset_Handler, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0,
                fault, fault}};
#endif

/* A library with a pool can be unloaded while its workers wait, and loaded again. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "mlopsc.h"

static void add(void *const *args, int32_t begin, int32_t end) {
  atomic_fetch_add((atomic_int *)args[0], end - begin);
}

int main(int argc, char **argv) {
  alarm(60); /* workers that lose their code hang or crash */
  for (int round = 0; round < 50; ++round) {
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library) {
      printf("cannot load the library: %s\n", dlerror());
      return 1;
    }
    int32_t (*set_threads)(int32_t);
    void (*parallel)(mlopsc_task, void *const *, int32_t, int32_t);
    *(void **)&set_threads = dlsym(library, "mlopsc_set_threads");
    *(void **)&parallel = dlsym(library, "mlopsc_parallel");
    atomic_int sum = 0;
    void *args[] = {&sum};
    set_threads(4);
    for (int i = 0; i < 10; ++i) parallel(add, args, 100, 1);
    if (sum != 1000) {
      printf("%d tasks ran, expected 1000\n", sum);
      return 1;
    }
    dlclose(library);
  }
  printf("loaded and unloaded\n");
  return 0;
}

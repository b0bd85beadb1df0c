/* Stands in for the thread pool of a library where there are no threads: an emulated processor. */
#include "mlopsc.h"

void mlopsc_parallel(mlopsc_task run, void *const *args, int32_t tasks, int32_t grain) {
  (void)grain;
  run(args, 0, tasks);
}

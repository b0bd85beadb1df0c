/* Threads of a library: mlopsc_parallel runs a range of tasks on the caller and on workers.
 *
 * C11 and POSIX threads. State is static and bounded; nothing is allocated but the workers' stacks,
 * when they start. There is one job at a time: who finds the pool busy (another caller, or a task
 * itself) runs its range alone, so nothing ever waits for a turn and nothing can deadlock.
 *
 * A job is divided into shares of neighbouring tasks, one per thread, so that in a row of kernels each
 * thread finds in its caches what it has written itself; who has done its own helps the others. A
 * share is published by one 64-bit store, the ticket: a generation, and how many chunks nobody has
 * taken yet. Taking one is a compare-and-swap on it, so a worker that wakes late finds either chunks
 * of the job it looks at or nothing; the job's fields are read only after a chunk was taken, and
 * stay as they are until all that were taken are done. Workers wait for a job with a short spin, so
 * that the next of a row of kernels starts in about a microsecond, and then asleep. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "mlopsc.h"

#define SPIN_NS 50000           /* how long who waits keeps its core busy */
#define CHUNKS_PER_THREAD 8     /* enough to even out cores of different speed */
#define STACK_BYTES (1u << 20)  /* of a worker; tasks take up to 64 KiB */
#define LINE 128                /* what one core writes and others watch shares no cache line */

#if defined(__GNUC__)
#define EXPORT __attribute__((visibility("default")))
#define UNLOAD __attribute__((destructor))
#else
#error "the pool needs a compiler with GCC's attributes"
#endif

typedef struct {
  _Alignas(LINE) _Atomic uint64_t ticket; /* generation << 32 | chunks that nobody has taken */
} share;

static struct {
  share shares[MLOPSC_MAX_THREADS];       /* the caller's is the first */
  _Alignas(LINE) atomic_int pending;      /* chunks that are not done */
  _Alignas(LINE) atomic_flag busy;        /* held by the caller whose job it is; guards what follows */
  mlopsc_task run;
  void *const *args;
  int32_t tasks, chunk, chunks;
  uint32_t generation;
  int workers; /* started so far */
  pthread_t threads[MLOPSC_MAX_THREADS];
  _Alignas(LINE) atomic_int members; /* shares of the job */
  atomic_int sleepers;               /* workers that wait in `work` or are about to */
  atomic_bool waiting;               /* the caller waits in `done` or is about to */
  atomic_bool stopped;
  atomic_int limit; /* threads of a job, the caller included; 0: not decided */
  pthread_mutex_t lock;
  pthread_cond_t work, done;
} pool = {
    .busy = ATOMIC_FLAG_INIT,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .work = PTHREAD_COND_INITIALIZER,
    .done = PTHREAD_COND_INITIALIZER,
};

static int clamp(long threads) {
  return threads < 1 ? 1 : threads > MLOPSC_MAX_THREADS ? MLOPSC_MAX_THREADS : (int)threads;
}

/* The processors that this thread may run on. */
static int processors(void) {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    const unsigned char *bytes = (const unsigned char *)&set;
    int count = 0;
    for (size_t i = 0; i < sizeof set; ++i) count += __builtin_popcount(bytes[i]);
    return clamp(count);
  }
#endif
  return clamp(sysconf(_SC_NPROCESSORS_ONLN));
}

static int default_threads(void) {
  const char *text = getenv("MLOPSC_NUM_THREADS");
  if (text && *text) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*end == '\0' && value > 0) return clamp(value);
  }
  return processors();
}

static int threads_of_a_job(void) {
  int limit = atomic_load_explicit(&pool.limit, memory_order_relaxed);
  if (limit == 0) {
    limit = default_threads();
    atomic_store_explicit(&pool.limit, limit, memory_order_relaxed);
  }
  return limit;
}

EXPORT int32_t mlopsc_set_threads(int32_t threads) {
  int limit = threads == 0 ? default_threads() : clamp(threads);
  atomic_store_explicit(&pool.limit, limit, memory_order_relaxed);
  return limit;
}

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Waits a bounded time for `ready(number)`. */
static bool spin_until(bool (*ready)(int), int number) {
  int64_t end = 0;
  for (unsigned round = 1;; ++round) {
    if (ready(number)) return true;
    relax();
    if (round % 32 == 0) {
      int64_t now = now_ns();
      if (end == 0) end = now + SPIN_NS;
      if (now >= end) return false;
    }
  }
}

static bool has_work(int number) {
  return (uint32_t)atomic_load(&pool.shares[number].ticket) != 0;
}

static bool is_called(int number) { return has_work(number) || atomic_load(&pool.stopped); }

static bool is_done(int unused) {
  (void)unused;
  return atomic_load(&pool.pending) <= 0;
}

/* The first chunk of a share; that of the share behind the last is their number. */
static int32_t first_chunk(int number, int members) {
  return (int32_t)((int64_t)pool.chunks * number / members);
}

/* Takes and runs chunks of one share until none is left. */
static void take_chunks(int number) {
  for (;;) {
    uint64_t ticket = atomic_load(&pool.shares[number].ticket);
    do {
      if ((uint32_t)ticket == 0) return;
    } while (!atomic_compare_exchange_weak(&pool.shares[number].ticket, &ticket, ticket - 1));
    int members = atomic_load_explicit(&pool.members, memory_order_relaxed);
    int32_t chunk = first_chunk(number + 1, members) - (int32_t)(uint32_t)ticket;
    int32_t begin = chunk * pool.chunk;
    int32_t end = pool.tasks - begin > pool.chunk ? begin + pool.chunk : pool.tasks;
    pool.run(pool.args, begin, end);
    if (atomic_fetch_sub(&pool.pending, 1) == 1 && atomic_load(&pool.waiting)) {
      pthread_mutex_lock(&pool.lock);
      pthread_cond_signal(&pool.done);
      pthread_mutex_unlock(&pool.lock);
    }
  }
}

/* Does the own share, and then what is left of the others'. */
static void work_from(int number) {
  int members = atomic_load_explicit(&pool.members, memory_order_relaxed);
  for (int i = 0; i < members; ++i) take_chunks((number + i) % members);
}

static void *worker(void *argument) {
  int number = (int)(intptr_t)argument;
  while (!atomic_load(&pool.stopped)) {
    if (has_work(number)) work_from(number);
    if (spin_until(is_called, number)) continue;
    pthread_mutex_lock(&pool.lock);
    /* Before the last look: who publishes looks at the sleepers after. */
    atomic_fetch_add(&pool.sleepers, 1);
    while (!is_called(number)) pthread_cond_wait(&pool.work, &pool.lock);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.lock);
  }
  return NULL;
}

static void wake_workers(void) {
  if (atomic_load(&pool.sleepers) > 0) {
    pthread_mutex_lock(&pool.lock);
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.lock);
  }
}

/* A child has only the thread that forked: the pool starts anew. */
static void after_fork(void) {
  pthread_mutex_init(&pool.lock, NULL);
  pthread_cond_init(&pool.work, NULL);
  pthread_cond_init(&pool.done, NULL);
  for (int i = 0; i < MLOPSC_MAX_THREADS; ++i) atomic_store(&pool.shares[i].ticket, 0);
  atomic_store(&pool.pending, 0);
  atomic_store(&pool.sleepers, 0);
  atomic_store(&pool.waiting, false);
  pool.workers = 0;
  atomic_flag_clear(&pool.busy);
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, after_fork); }

/* Starts workers until there are `wanted`, or as many as the system gives. */
static void start_workers(int wanted) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_attr_t attributes;
  sigset_t all, before;
  if (pool.workers >= wanted) return;
  pthread_once(&once, watch_forks);
  if (pthread_attr_init(&attributes) != 0) return;
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  sigfillset(&all); /* signals are for the program's own threads */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (pool.workers < wanted) {
    void *number = (void *)(intptr_t)(pool.workers + 1);
    if (pthread_create(&pool.threads[pool.workers], &attributes, worker, number) != 0) break;
    ++pool.workers;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
}

/* Publishes a job for `workers` workers and the caller, and returns when it is done. */
static void run_job(mlopsc_task run, void *const *args, int32_t tasks, int32_t grain, int workers) {
  int members = workers + 1;
  int32_t part = tasks / (members * CHUNKS_PER_THREAD);
  pool.run = run;
  pool.args = args;
  pool.tasks = tasks;
  pool.chunk = part > grain ? part : grain;
  pool.chunks = (tasks - 1) / pool.chunk + 1;
  atomic_store_explicit(&pool.members, members, memory_order_relaxed);
  atomic_store_explicit(&pool.pending, pool.chunks, memory_order_relaxed);
  ++pool.generation;
  for (int i = members; i-- > 0;) {
    int32_t chunks = first_chunk(i + 1, members) - first_chunk(i, members);
    atomic_store(&pool.shares[i].ticket, (uint64_t)pool.generation << 32 | (uint32_t)chunks);
  }
  wake_workers();
  work_from(0);
  if (spin_until(is_done, 0)) return;
  pthread_mutex_lock(&pool.lock);
  atomic_store(&pool.waiting, true);
  while (!is_done(0)) pthread_cond_wait(&pool.done, &pool.lock);
  atomic_store(&pool.waiting, false);
  pthread_mutex_unlock(&pool.lock);
}

void mlopsc_parallel(mlopsc_task run, void *const *args, int32_t tasks, int32_t grain) {
  if (tasks <= 0) return;
  if (grain < 1) grain = 1;
  int32_t most = (tasks - 1) / grain + 1; /* threads that would have something to do */
  int threads = threads_of_a_job();
  if (threads > most) threads = (int)most;
  if (threads > 1 && !atomic_flag_test_and_set_explicit(&pool.busy, memory_order_acquire)) {
    if (!atomic_load(&pool.stopped)) start_workers(threads - 1);
    int workers = pool.workers < threads - 1 ? pool.workers : threads - 1;
    if (workers > 0) run_job(run, args, tasks, grain, workers);
    atomic_flag_clear_explicit(&pool.busy, memory_order_release);
    if (workers > 0) return;
  }
  run(args, 0, tasks);
}

/* Ends the workers before their code is unloaded. At exit a call may be interrupted below this one:
 * then they are left to end with the process. */
UNLOAD static void stop_workers(void) {
  if (atomic_flag_test_and_set(&pool.busy)) return;
  atomic_store(&pool.stopped, true);
  wake_workers();
  while (pool.workers > 0) pthread_join(pool.threads[--pool.workers], NULL);
  atomic_flag_clear(&pool.busy);
}

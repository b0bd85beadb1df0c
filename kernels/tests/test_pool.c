/* The thread pool: every task runs exactly once, whoever calls, from wherever, also after a fork. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mlopsc.h"

enum { TASKS = 4096, CALLERS = 6, ROUNDS = 300 };

static atomic_int failures;

static void check(int good, const char *what, long detail) {
  if (!good) {
    printf("%s (%ld)\n", what, detail);
    atomic_fetch_add(&failures, 1);
  }
}

/* Not atomic: a task that runs twice at a time is a race that the thread sanitizer reports. */
static void count(void *const *args, int32_t begin, int32_t end) {
  int *counts = args[0];
  for (int32_t i = begin; i < end; ++i) ++counts[i];
}

static void run_and_check(int32_t tasks, int32_t grain, int *counts) {
  void *args[] = {counts};
  memset(counts, 0, TASKS * sizeof *counts);
  mlopsc_parallel(count, args, tasks, grain);
  for (int32_t i = 0; i < TASKS; ++i) check(counts[i] == (i < tasks), "task run this often", counts[i]);
}

static void test_every_task_runs_once(void) {
  static const int32_t sizes[] = {-1, 0, 1, 2, 3, 7, 64, 1000, TASKS};
  static const int32_t grains[] = {-5, 0, 1, 3, 100, TASKS, INT32_MAX};
  static const int32_t threads[] = {1, 2, 3, 8, MLOPSC_MAX_THREADS};
  static int counts[TASKS];
  for (size_t t = 0; t < sizeof threads / sizeof *threads; ++t) {
    mlopsc_set_threads(threads[t]);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; ++s)
      for (size_t g = 0; g < sizeof grains / sizeof *grains; ++g)
        run_and_check(sizes[s], grains[g], counts);
  }
}

static void last_range(void *const *args, int32_t begin, int32_t end) {
  atomic_llong *sum = args[0];
  atomic_fetch_add(sum, (long long)end - begin);
}

static void test_the_largest_range(void) {
  atomic_llong sum = 0;
  void *args[] = {&sum};
  mlopsc_set_threads(3);
  mlopsc_parallel(last_range, args, INT32_MAX, 1);
  check(sum == INT32_MAX, "tasks of the largest range", (long)sum);
}

/* Returns only when two threads are in it, or after ten seconds. */
static void meet(void *const *args, int32_t begin, int32_t end) {
  atomic_int *present = args[0];
  (void)begin;
  (void)end;
  atomic_fetch_add(present, 1);
  for (time_t late = time(NULL) + 10; atomic_load(present) < 2 && time(NULL) < late;) sched_yield();
}

static void test_two_threads_compute_at_the_same_time(void) {
  mlopsc_set_threads(2);
  for (int i = 0; i < 3; ++i) {
    atomic_int present = 0;
    void *args[] = {&present};
    struct timespec pause = {0, 20000000}; /* the workers fall asleep */
    nanosleep(&pause, NULL);
    mlopsc_parallel(meet, args, 2, 1);
    check(present == 2, "threads that met", present);
  }
}

static void expect_caller(void *const *args, int32_t begin, int32_t end) {
  pthread_t *caller = args[0];
  check(begin == 0 && end == 100, "one thread gets the whole range", end);
  check(pthread_equal(*caller, pthread_self()), "it is the calling thread", 0);
}

static void test_one_thread_is_the_callers(void) {
  pthread_t self = pthread_self();
  void *args[] = {&self};
  mlopsc_set_threads(1);
  mlopsc_parallel(expect_caller, args, 100, 1);
  mlopsc_set_threads(4);
  mlopsc_parallel(expect_caller, args, 100, 100); /* not worth a second */
}

static void *call_often(void *unused) {
  int *counts = malloc(TASKS * sizeof *counts);
  (void)unused;
  for (int round = 0; round < ROUNDS; ++round) run_and_check(1 + round * 7 % 200, 1, counts);
  free(counts);
  return NULL;
}

static void test_many_callers(void) {
  pthread_t callers[CALLERS];
  mlopsc_set_threads(3);
  for (int i = 0; i < CALLERS; ++i) pthread_create(&callers[i], NULL, call_often, NULL);
  for (int i = 0; i < ROUNDS; ++i) mlopsc_set_threads(1 + i % 5); /* also while they compute */
  for (int i = 0; i < CALLERS; ++i) pthread_join(callers[i], NULL);
}

static void nest(void *const *args, int32_t begin, int32_t end) {
  for (int32_t i = begin; i < end; ++i) {
    void *inner[] = {(int *)args[0] + i * 16};
    mlopsc_parallel(count, inner, 16, 1);
  }
}

static void test_nested_calls(void) {
  static int counts[TASKS];
  void *args[] = {counts};
  mlopsc_set_threads(3);
  mlopsc_parallel(nest, args, TASKS / 16, 1);
  for (int i = 0; i < TASKS; ++i) check(counts[i] == 1, "nested task run this often", counts[i]);
}

static void fork_and_compute(void) {
  pid_t child = fork();
  if (child == 0) {
    static int counts[TASKS];
    atomic_int present = 0;
    void *args[] = {&present};
    int before = atomic_load(&failures);
    alarm(60); /* a child that hangs dies */
    mlopsc_set_threads(2);
    mlopsc_parallel(meet, args, 2, 1); /* on workers of its own */
    check(present == 2, "threads that met in a child", present);
    run_and_check(TASKS, 1, counts);
    _exit(atomic_load(&failures) != before);
  }
  int status = -1;
  waitpid(child, &status, 0);
  check(status == 0, "a child ended with status", status);
}

static void test_a_child_starts_anew(void) {
  static int counts[TASKS];
  pthread_t caller;
  mlopsc_set_threads(3);
  run_and_check(TASKS, 1, counts);
  fork_and_compute();
  pthread_create(&caller, NULL, call_often, NULL);
  for (int i = 0; i < 10; ++i) fork_and_compute(); /* while another thread computes */
  pthread_join(caller, NULL);
  run_and_check(TASKS, 1, counts);
}

static void test_numbers_are_clamped(void) {
  int32_t processors = mlopsc_set_threads(0);
  check(processors >= 1 && processors <= MLOPSC_MAX_THREADS, "default", processors);
  check(mlopsc_set_threads(-5) == 1, "negative", 0);
  check(mlopsc_set_threads(INT32_MIN) == 1, "smallest", 0);
  check(mlopsc_set_threads(1000000) == MLOPSC_MAX_THREADS, "large", 0);
  static const struct {
    const char *text;
    int32_t expected; /* 0: as without the variable */
  } cases[] = {{"3", 3}, {"0", 0}, {"-2", 0}, {"", 0}, {"two", 0}, {"3x", 0},
               {"99999999999999999999", MLOPSC_MAX_THREADS}, {"65", MLOPSC_MAX_THREADS}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    setenv("MLOPSC_NUM_THREADS", cases[i].text, 1);
    int32_t found = mlopsc_set_threads(0);
    check(found == (cases[i].expected ? cases[i].expected : processors), cases[i].text, found);
  }
  unsetenv("MLOPSC_NUM_THREADS");
}

int main(void) {
  test_every_task_runs_once();
  test_the_largest_range();
  test_two_threads_compute_at_the_same_time();
  test_one_thread_is_the_callers();
  test_many_callers();
  test_nested_calls();
  test_a_child_starts_anew();
  test_numbers_are_clamped();
  if (!failures) printf("every task ran exactly once\n");
  return failures != 0;
}

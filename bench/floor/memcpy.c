// The memcpy floor: what it costs to copy so many bytes there and back, on pages that are already mapped.
//
//   memcpy BYTES RUNS    prints the median in nanoseconds
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int ascending(const void* a, const void* b) {
  int64_t x = *(const int64_t*)a;
  int64_t y = *(const int64_t*)b;
  return (x > y) - (x < y);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  size_t size = strtoull(argv[1], NULL, 10);
  size_t runs = strtoull(argv[2], NULL, 10);
  char* here = malloc(size);
  char* there = malloc(size);
  char* back = malloc(size);
  int64_t* times = calloc(runs, sizeof *times);
  if (here == NULL || there == NULL || back == NULL || times == NULL || size == 0 || runs == 0) return 1;
  memset(here, 1, size);
  memset(there, 2, size);
  memset(back, 3, size);
  for (size_t run = 0; run < runs; run++) {
    int64_t start = now();
    memcpy(there, here, size);
    // The compiler must not see that nobody reads the copies.
    __asm__ volatile("" : : "r"(there) : "memory");
    memcpy(back, there, size);
    __asm__ volatile("" : : "r"(back) : "memory");
    times[run] = now() - start;
  }
  qsort(times, runs, sizeof *times, ascending);
  printf("%" PRId64 "\n", times[runs / 2]);
  return 0;
}

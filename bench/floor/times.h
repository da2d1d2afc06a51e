// What the floors that time themselves have in common.
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static inline int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static inline int ascending(const void* a, const void* b) {
  int64_t x = *(const int64_t*)a;
  int64_t y = *(const int64_t*)b;
  return (x > y) - (x < y);
}

// Sorts them.
static inline int64_t median(int64_t* times, size_t count) {
  qsort(times, count, sizeof *times, ascending);
  return times[count / 2];
}

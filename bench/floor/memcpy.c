// The memcpy floor: what it costs to copy so many bytes there and back.
//
//   memcpy BYTES RUNS [fresh]    prints the median in nanoseconds
//
// The pages of both copies are mapped already; with `fresh` none of them has ever been touched.
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "times.h"

// Memory of its own pages, which go when it is given back.
static char* take(size_t size) {
  void* at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) {
    perror("memcpy: mmap");
    exit(1);
  }
  return at;
}

static int64_t there_and_back(const char* here, char* there, char* back, size_t size) {
  int64_t start = now();
  memcpy(there, here, size);
  // The compiler must not see that nobody reads the copies.
  __asm__ volatile("" : : "r"(there) : "memory");
  memcpy(back, there, size);
  __asm__ volatile("" : : "r"(back) : "memory");
  return now() - start;
}

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) return 2;
  size_t size = strtoull(argv[1], NULL, 10);
  size_t runs = strtoull(argv[2], NULL, 10);
  bool fresh = argc == 4 && strcmp(argv[3], "fresh") == 0;
  int64_t* times = calloc(runs, sizeof *times);
  if (times == NULL || size == 0 || runs == 0) return 1;
  char* here = take(size);
  char* there = take(size);
  char* back = take(size);
  memset(here, 1, size);
  if (!fresh) {
    memset(there, 2, size);
    memset(back, 3, size);
  }
  for (size_t run = 0; run < runs; run++) {
    times[run] = there_and_back(here, there, back, size);
    if (!fresh) continue;
    munmap(there, size);
    munmap(back, size);
    there = take(size);
    back = take(size);
  }
  printf("%" PRId64 "\n", median(times, runs));
  return 0;
}

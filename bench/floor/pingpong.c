// The ping-pong floor: a word that two threads hand to each other, there and back. No message between two
// cores takes less, whatever carries it.
//
//   pingpong ROUNDS    prints the median of a round trip in nanoseconds, of hundred in a row each
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "times.h"

enum { kInARow = 100 };

static _Alignas(64) atomic_uint there;
static _Alignas(64) atomic_uint back;

static void* answer(void* rounds) {
  unsigned last = (unsigned)(*(size_t*)rounds * kInARow);
  for (unsigned turn = 1; turn <= last; turn++) {
    while (atomic_load_explicit(&there, memory_order_acquire) != turn) {
    }
    atomic_store_explicit(&back, turn, memory_order_release);
  }
  return NULL;
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  size_t rounds = strtoull(argv[1], NULL, 10);
  int64_t* times = calloc(rounds, sizeof *times);
  pthread_t other;
  if (times == NULL || rounds == 0 || pthread_create(&other, NULL, answer, &rounds) != 0) return 1;
  unsigned turn = 0;
  for (size_t round = 0; round < rounds; round++) {
    int64_t start = now();
    for (int i = 0; i < kInARow; i++) {
      turn++;
      atomic_store_explicit(&there, turn, memory_order_release);
      while (atomic_load_explicit(&back, memory_order_acquire) != turn) {
      }
    }
    times[round] = (now() - start) / kInARow;
  }
  pthread_join(other, NULL);
  printf("%" PRId64 "\n", median(times, rounds));
  return 0;
}

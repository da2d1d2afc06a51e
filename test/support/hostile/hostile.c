// The hands of a hostile worker (test/support/py/hostile.py): threads that store into the memory that it
// shares with the BEAM, at the speed of C and whatever Python's main thread does meanwhile. The tests compile
// it with `cc`.
//
// Nothing here synchronises with anybody, on purpose: the other side has to bear it.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { kParts = 5 };
enum { kHeader, kRequestRing, kReplyRing, kRequestArena, kReplyArena };

struct part {
  uint8_t* at;
  uint64_t size;  // of what is stored into; of the arenas only the beginning, or the machine would run out of
                  // memory
};

// Where docs/protocol.md says that things are.
static const uint32_t kWords[] = {64,  128,   192,   256,   320,   384,   448,   512,  576,
                                  640, 33472, 33536, 33600, 33664, 33728, 33792, 33856};
enum {
  kReplyTail = 256,
  kReplyHead = 320,
  kReaderWord = 384,
  kRequestSlots = 704,
  kReplySlots = 17088,
  kSlots = 4096
};

// What a scribbler stores into, bit by bit.
enum {
  kAtWords = 1,
  kAtFrames = 2,
  kAtSlots = 4,
  kAtHeader = 8,
  kAtRings = 16,
  kAtArenas = 32,
  kAtPages = 64,    // takes pages away: they come back as zeros
  kAtFutexes = 128  // wakes who sleeps, or moves him to another word
};

struct scribbler {
  struct part parts[kParts];
  uint64_t random;
  uint32_t targets;
  uint32_t burst;
  uint32_t pause_us;
};

static uint64_t next(uint64_t* state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static void pause_for(uint32_t microseconds) {
  if (microseconds == 0) return;
  const struct timespec time = {microseconds / 1000000, (long)(microseconds % 1000000) * 1000};
  nanosleep(&time, NULL);
}

static uint64_t load64(const uint8_t* at) { return __atomic_load_n((const uint64_t*)at, __ATOMIC_RELAXED); }

static void store(uint8_t* at, unsigned width, uint64_t value) {
  switch (width) {
    case 1:
      __atomic_store_n(at, (uint8_t)value, __ATOMIC_RELAXED);
      break;
    case 4:
      __atomic_store_n((uint32_t*)at, (uint32_t)value, __ATOMIC_RELAXED);
      break;
    default:
      __atomic_store_n((uint64_t*)at, value, __ATOMIC_RELAXED);
  }
}

// A value that somebody who looks for trouble would try, near what lies there or far from it.
static uint64_t value_for(struct scribbler* self, uint64_t old) {
  uint64_t random = next(&self->random);
  switch (random % 10) {
    case 0:
      return next(&self->random);
    case 1:
      return old ^ (1ull << (random >> 8) % 64);
    case 2:
      return old + 8;
    case 3:
      return old - 8;
    case 4:
      return old + (random >> 8) % 4096;
    case 5:
      return old - (random >> 8) % 4096;
    case 6:
      return 0;
    case 7:
      return ~0ull << (random >> 8) % 64;
    case 8:
      return load64(self->parts[kHeader].at + kWords[(random >> 8) % (sizeof kWords / sizeof *kWords)]);
    default:
      return (random >> 8) % 6;
  }
}

static void disturb(struct scribbler* self, uint8_t* at, unsigned width) {
  store(at, width, value_for(self, load64((uint8_t*)((uintptr_t)at & ~(uintptr_t)7))));
}

static void at_random(struct scribbler* self, const struct part* part) {
  static const unsigned widths[] = {1, 4, 8};
  const uint64_t random = next(&self->random);
  const unsigned width = widths[random % 3];
  disturb(self, part->at + ((random >> 8) % (part->size - 8) & ~(uint64_t)(width - 1)), width);
}

// The header of a frame, somewhere between what has been consumed and what has been published, or behind it.
static void at_frame(struct scribbler* self) {
  static const struct {
    uint8_t offset, width;
  } fields[] = {{0, 4},  {4, 1},  {5, 1},  {8, 8},  {16, 8}, {24, 8},
                {32, 8}, {40, 8}, {48, 8}, {56, 8}, {64, 8}, {72, 8}};
  const uint64_t random = next(&self->random);
  const struct part* header = &self->parts[kHeader];
  const struct part* ring = &self->parts[random & 1 ? kReplyRing : kRequestRing];
  const uint64_t tail = load64(header->at + (random & 1 ? kReplyTail : 64));
  const unsigned field = (random >> 8) % (sizeof fields / sizeof *fields);
  const uint64_t from = tail + 128 - (random >> 16) % 64 * 8 + fields[field].offset;
  disturb(self, ring->at + (from & (ring->size - 1) & ~7ull) + fields[field].offset % 8, fields[field].width);
}

static void at_slot(struct scribbler* self) {
  const uint64_t random = next(&self->random);
  // The first slots are those in use.
  const uint64_t slot = random & 2 ? (random >> 8) % 16 : (random >> 8) % kSlots;
  store(self->parts[kHeader].at + (random & 1 ? kRequestSlots : kReplySlots) + 4 * slot, 4,
        (random >> 32) % 4);
}

static void at_page(struct scribbler* self) {
  const uint64_t random = next(&self->random);
  const struct part* part = &self->parts[random % kParts];
  madvise(part->at + ((random >> 8) % part->size & ~4095ull), 4096, MADV_REMOVE);
}

static void at_futex(struct scribbler* self) {
  const uint64_t random = next(&self->random);
  uint8_t* const header = self->parts[kHeader].at;
  const size_t words = sizeof kWords / sizeof *kWords;
  uint8_t* const word = header + (random & 1 ? kReaderWord : kWords[(random >> 8) % words]);
  uint8_t* const other = header + kWords[(random >> 16) % words];
  if (random & 6)
    syscall(SYS_futex, word, FUTEX_WAKE, 1000, NULL, NULL, 0);
  else
    syscall(SYS_futex, word, FUTEX_REQUEUE, 0, 1000, other, 0);
}

static void strike(struct scribbler* self) {
  const uint64_t random = next(&self->random);
  const uint32_t target = 1u << random % 8;
  if ((self->targets & target) == 0) return;
  switch (target) {
    case kAtWords:
      disturb(self, self->parts[kHeader].at + kWords[(random >> 8) % (sizeof kWords / sizeof *kWords)],
              (random >> 16) % 2 ? 8 : 4);
      break;
    case kAtFrames:
      at_frame(self);
      break;
    case kAtSlots:
      at_slot(self);
      break;
    case kAtHeader:
      at_random(self, &self->parts[kHeader]);
      break;
    case kAtRings:
      at_random(self, &self->parts[(random >> 8) % 2 ? kRequestRing : kReplyRing]);
      break;
    case kAtArenas:
      at_random(self, &self->parts[(random >> 8) % 2 ? kRequestArena : kReplyArena]);
      break;
    case kAtPages:
      at_page(self);
      break;
    default:
      at_futex(self);
  }
}

static void* scribble(void* argument) {
  struct scribbler* self = argument;
  for (;;) {
    for (uint32_t i = 0; i < self->burst; ++i) strike(self);
    pause_for(self->pause_us);
  }
  return NULL;
}

static int start(void* (*function)(void*), const void* argument, size_t size) {
  void* copy = malloc(size);
  pthread_t thread;
  if (!copy) return 1;
  memcpy(copy, argument, size);
  return pthread_create(&thread, NULL, function, copy);
}

// Random stores, for ever. `parts`: address and size of each.
int hostile_scribble(const uint64_t* parts, uint64_t seed, uint32_t targets, uint32_t burst,
                     uint32_t pause_us) {
  struct scribbler self = {.random = seed, .targets = targets, .burst = burst, .pause_us = pause_us};
  for (int i = 0; i < kParts; ++i) {
    self.parts[i].at = (uint8_t*)(uintptr_t)parts[2 * i];
    self.parts[i].size = parts[2 * i + 1];
  }
  return start(scribble, &self, sizeof self);
}

struct holder {
  uint8_t* at;
  uint64_t values[2];
  uint32_t count;
  uint32_t width;
  uint32_t pause_us;
};

static void* hold(void* argument) {
  struct holder* self = argument;
  for (;;) {
    for (uint32_t n = 0; n < self->count; ++n)
      store(self->at + (uint64_t)n * self->width, self->width, self->values[0]);
    pause_for(self->pause_us);
    if (self->values[0] == self->values[1]) continue;
    for (uint32_t n = 0; n < self->count; ++n)
      store(self->at + (uint64_t)n * self->width, self->width, self->values[1]);
  }
  return NULL;
}

// Stores a value, or two in turn, into `count` words again and again.
int hostile_hold(uint64_t at, uint32_t width, uint32_t count, uint64_t value, uint64_t other,
                 uint32_t pause_us) {
  const struct holder self = {(uint8_t*)(uintptr_t)at, {value, other}, count, width, pause_us};
  return start(hold, &self, sizeof self);
}

struct waker {
  uint8_t* word;
  uint8_t* other;
};

static void* wake(void* argument) {
  const struct waker* self = argument;
  for (;;) {
    if (self->other)
      syscall(SYS_futex, self->word, FUTEX_REQUEUE, 0, 1000, self->other, 0);
    else
      syscall(SYS_futex, self->word, FUTEX_WAKE, 1000, NULL, NULL, 0);
    sched_yield();
  }
  return NULL;
}

// Wakes whoever sleeps on a word, all the time; or moves him to another word, where nobody else will wake
// him.
int hostile_wake(uint64_t word, uint64_t other) {
  const struct waker self = {(uint8_t*)(uintptr_t)word, (uint8_t*)(uintptr_t)other};
  return start(wake, &self, sizeof self);
}

// What an honest worker does after it has published: wakes the reader if it waits.
void hostile_ring(uint64_t address) {
  static const uint32_t waits[] = {3, 1};  // timed, asleep
  uint32_t* const word = (uint32_t*)(uintptr_t)address;
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  for (unsigned i = 0; i < 2; ++i) {
    uint32_t expected = waits[i];
    if (!__atomic_compare_exchange_n(word, &expected, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) continue;
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
    return;
  }
}

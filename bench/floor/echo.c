// The port floor: a C program behind `{packet, 4}` that sends every packet back as it came.
//
// What an Elixir port to the fastest possible worker costs: the runtime's own port machinery, two pipes and
// two wake-ups, and no work at all. It waits for a whole packet before it answers, as a worker that has to
// look at the term must; it answers all the packets of one read with one write; it copies nothing but the
// rest of a split packet, and its buffer keeps its pages.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kHeader = 4, kInitialCapacity = 1 << 20 };

static uint8_t* buffer;
static size_t capacity;

static void reserve(size_t wanted) {
  if (wanted <= capacity) return;
  while (capacity < wanted) capacity = capacity == 0 ? kInitialCapacity : 2 * capacity;
  buffer = realloc(buffer, capacity);
  if (buffer == NULL) {
    perror("echo: realloc");
    exit(1);
  }
}

static size_t packet_size(const uint8_t* header) {
  return kHeader +
         (((size_t)header[0] << 24) | ((size_t)header[1] << 16) | ((size_t)header[2] << 8) | header[3]);
}

static void write_all(const uint8_t* from, size_t size) {
  while (size > 0) {
    ssize_t written = write(STDOUT_FILENO, from, size);
    if (written < 0) {
      if (errno == EINTR) continue;
      exit(1);
    }
    from += written;
    size -= (size_t)written;
  }
}

int main(void) {
  // Bigger pipes save wake-ups on large packets; refused, they stay as they are.
  (void)fcntl(STDIN_FILENO, F_SETPIPE_SZ, 1 << 20);
  (void)fcntl(STDOUT_FILENO, F_SETPIPE_SZ, 1 << 20);
  reserve(kInitialCapacity);
  size_t filled = 0;
  for (;;) {
    ssize_t got = read(STDIN_FILENO, buffer + filled, capacity - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got < 0;
    filled += (size_t)got;

    size_t whole = 0;  // bytes of complete packets at the front
    while (filled - whole >= kHeader && filled - whole >= packet_size(buffer + whole))
      whole += packet_size(buffer + whole);
    if (whole > 0) {
      write_all(buffer, whole);
      filled -= whole;
      if (filled > 0) memmove(buffer, buffer + whole, filled);
    }
    if (filled >= kHeader) reserve(packet_size(buffer));
  }
}

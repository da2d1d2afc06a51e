// CHECK(condition): what a fuzzer does when a property does not hold. It traps, so that libFuzzer keeps the
// input.
#pragma once

#include <cstdio>

#define CHECK(condition)                                                                 \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
      __builtin_trap();                                                                  \
    }                                                                                    \
  } while (false)

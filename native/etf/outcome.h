// Outcome: what a decoder or writer of ETF says at the end. It never allocates, so that the error path of
// hostile input costs nothing and cannot fail itself; `error()` makes a typhon::Error of it where one is
// wanted.
//
// A plain value; thread-safety as usual for values.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace typhon::etf {

struct [[nodiscard]] Outcome {
  const char* expected = nullptr;  // nullptr: success. Else a static sentence: what was expected at `offset`
  std::uint64_t offset = 0;        // of the first byte of the term at fault
  std::uint64_t used = 0;          // on success: bytes of input that the term took, version byte included
  Code code{};                     // meaningful on failure only
  bool in_inflated = false;        // `offset` counts within the inflated bytes of a compressed term
  bool incomplete = false;         // the bytes end inside of the term; or the inflated ones do

  [[nodiscard]] bool ok() const noexcept { return expected == nullptr; }
  explicit operator bool() const noexcept { return ok(); }

  static Outcome success(std::uint64_t used_bytes) noexcept {
    return {nullptr, 0, used_bytes, Code{}, false, false};
  }
  static Outcome failure(Code code, std::uint64_t offset, const char* expected) noexcept {
    return {expected, offset, 0, code, false, code == Code::kTruncated};
  }

  // Allocates the message: call it outside of code that must not throw.
  [[nodiscard]] Error error() const { return Error{code, offset, expected != nullptr ? expected : ""}; }
};

// Bounds on what hostile input can cost. Sizes that the input claims are besides bounded by the bytes that
// remain.
struct Limits {
  std::uint32_t max_depth = 10'000;           // containers inside one another; funs count as one
  std::uint64_t max_inflated = 256ull << 20;  // bytes that a compressed term may expand to
  std::uint64_t max_atoms = 1ull << 20;  // atoms that the decoder's find_atom did not know (the BEAM's own
                                         // table holds as many); not counted for decoders without find_atom
  std::uint32_t loans = 0;  // that came with the term: a kLent leaf names one of them. None: there are no
                            // such leaves
};

}  // namespace typhon::etf

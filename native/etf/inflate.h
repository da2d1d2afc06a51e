// Compressed terms: 131, 80, u32 size, zlib stream.
//
// Inflating is bounded twice: by the caller's limit, and by what the compressed bytes can yield at all
// (deflate expands at most 1032 to 1), so that a short input cannot make us reserve much.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "etf/outcome.h"
#include "etf/views.h"

namespace typhon::etf {

// Owns inflated bytes; move-only. Moving keeps the address.
class Inflated {
 public:
  Inflated() noexcept = default;
  [[nodiscard]] Bytes bytes() const noexcept { return {data_.get(), size_}; }

 private:
  friend Outcome inflate(Bytes, std::uint64_t, Inflated&) noexcept;
  struct Free {
    void operator()(std::uint8_t* data) const noexcept { std::free(data); }
  };
  std::unique_ptr<std::uint8_t[], Free> data_;
  std::size_t size_ = 0;
};

// `input` starts with the version byte and the tag kCompressed. On success Outcome::used is where the zlib
// stream ends.
Outcome inflate(Bytes input, std::uint64_t max_inflated, Inflated& out) noexcept;

}  // namespace typhon::etf

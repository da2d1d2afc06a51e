// BytesSink: a Sink that ends as a Python bytes object, without a second copy of large results.
//
// Small results are gathered in the sink itself. A larger one is written into a bytes object that nobody else
// has seen yet; while that is so, growing and cutting it is a matter of its memory. Needs the GIL.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include "etf/sink.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace typhon::python {

class BytesSink final : public etf::Sink {
 public:
  BytesSink() noexcept {
    data = inline_;
    capacity = sizeof inline_;
  }

  // False with MemoryError set.
  bool grow(std::size_t at_least) noexcept override;

  // The bytes written, as a new reference; null with MemoryError set. The sink is done.
  [[nodiscard]] PyObject* finish() noexcept;

 private:
  bool resize(std::size_t bytes) noexcept;

  PyRef bytes_;             // holds `capacity` bytes and is shared with nobody; empty: inline_ does
  std::size_t header_ = 0;  // what comes before the bytes in that object
  std::uint8_t inline_[2048];
};

}  // namespace typhon::python

// Sink: the place that a Writer writes to. A frame can be written straight into a ring or a segment, and
// moved to a bigger place when it does not fit.
//
// Contract of grow(at_least): makes capacity >= at_least, keeping the first `size` bytes (data may move), and
// returns true; or returns false and changes nothing. `at_least` is what is needed at once: growing by more
// pays. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "etf/views.h"

namespace typhon::etf {

struct Sink {
  std::uint8_t* data = nullptr;
  std::size_t size = 0;
  std::size_t capacity = 0;
  bool has_large_binary = false;  // of kLargeBinary bytes or more: a reader may want to point into it

  static constexpr std::size_t kLargeBinary = std::size_t{64} * 1024;

  Sink() noexcept = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  virtual ~Sink() = default;

  virtual bool grow(std::size_t at_least) noexcept = 0;
  // Why grow() was false, for whoever made it that large; nullptr when there is nothing to say but that.
  [[nodiscard]] virtual const char* refusal() const noexcept { return nullptr; }
};

// Grows on the heap by doubling, up to `max_size`. Owns its bytes.
struct HeapSink final : Sink {
  explicit HeapSink(std::size_t max_bytes = SIZE_MAX) noexcept : max_size(max_bytes) {}
  HeapSink(const HeapSink&) = delete;
  HeapSink& operator=(const HeapSink&) = delete;
  ~HeapSink() override { std::free(data); }

  bool grow(std::size_t at_least) noexcept override {
    if (at_least <= capacity) return true;
    if (at_least > max_size) return false;
    std::size_t wanted = capacity < 128 ? 256 : capacity > max_size / 2 ? max_size : capacity * 2;
    if (wanted < at_least || wanted > max_size) wanted = at_least;
    auto* const moved = static_cast<std::uint8_t*>(std::realloc(data, wanted));
    if (moved == nullptr) return false;
    data = moved;
    capacity = wanted;
    return true;
  }

  // Hands the bytes to the caller, who frees them with std::free.
  [[nodiscard]] std::uint8_t* release() noexcept {
    std::uint8_t* const bytes = data;
    data = nullptr;
    size = capacity = 0;
    return bytes;
  }

  [[nodiscard]] Bytes bytes() const noexcept { return {data, size}; }

  std::size_t max_size;
};

// Memory of somebody else that never grows.
struct FixedSink final : Sink {
  FixedSink(std::uint8_t* memory, std::size_t bytes) noexcept {
    data = memory;
    capacity = bytes;
  }
  bool grow(std::size_t) noexcept override { return false; }
};

}  // namespace typhon::etf

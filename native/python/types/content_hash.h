// Short byte strings as table keys: two words that, with the length, are the whole content up to 16 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace typhon::python {

struct ContentWords {
  std::uint64_t low;
  std::uint64_t high;
  bool operator==(const ContentWords&) const = default;
};

template <class T>
[[nodiscard]] inline T load_native(const std::uint8_t* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// The first and the last eight bytes (they overlap below 16; below 8 the first word holds everything).
[[nodiscard]] inline ContentWords content_words(const std::uint8_t* bytes, std::size_t size) noexcept {
  if (size >= 8) return {load_native<std::uint64_t>(bytes), load_native<std::uint64_t>(bytes + size - 8)};
  if (size >= 4) {
    const std::uint64_t head = load_native<std::uint32_t>(bytes);
    const std::uint64_t tail = load_native<std::uint32_t>(bytes + size - 4);
    return {head | tail << 32, 0};
  }
  if (size == 0) return {0, 0};
  return {bytes[0] | static_cast<std::uint64_t>(bytes[size / 2]) << 8 |
              static_cast<std::uint64_t>(bytes[size - 1]) << 16,
          0};
}

// A slot for that content. Tables are caches or seeded, so that chosen collisions cost misses only.
[[nodiscard]] inline std::size_t content_hash(ContentWords words, std::size_t size) noexcept {
  std::uint64_t hash = (words.low ^ size) * 0x9E3779B97F4A7C15ULL;
  hash ^= hash >> 32;
  hash = (hash ^ words.high) * 0xD6E8FEB86659FD93ULL;
  return static_cast<std::size_t>(hash ^ hash >> 29);
}

}  // namespace typhon::python

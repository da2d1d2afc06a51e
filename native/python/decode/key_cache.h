// KeyCache: the `str` objects of map keys met lately, found by the bytes of the key.
//
// Maps in a list mostly have the same keys: a hit saves the UTF-8 decoding, the allocation and, as the object
// keeps its hash, the hashing at the dictionary. Direct-mapped and bounded: a collision replaces. One for
// each interpreter; without a GIL one for each long decode (DecodeCaches).
#pragma once

#include "python/cpython.h"
#include "python/ref.h"
#include "python/types/content_hash.h"

#include <array>
#include <cstddef>
#include <cstdint>

namespace typhon::python {

class KeyCache {
 public:
  static constexpr std::size_t kMaxKeySize = 64;  // longer keys are rare and not worth a slot

  // A new reference to the `str` with these UTF-8 bytes; null with UnicodeDecodeError set when they are not.
  [[nodiscard]] PyObject* get(const std::uint8_t* bytes, std::size_t size) noexcept {
    if (size > kMaxKeySize) return make(bytes, size);
    const ContentWords words = content_words(bytes, size);
    Slot& slot = slots_[content_hash(words, size) % kSlots];
    if (slot.words == words && slot.size == size && slot.text) [[likely]] {
      if (size <= 16 || std::memcmp(slot.bytes, bytes, size) == 0) [[likely]]
        return take(slot.text.get());
    }
    return fill(slot, words, bytes, size);
  }

  // The same, made anew.
  static PyObject* make(const std::uint8_t* bytes, std::size_t size) noexcept {
    return PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(bytes), static_cast<Py_ssize_t>(size), nullptr);
  }

  int traverse(visitproc visit, void* arg) noexcept {
    for (Slot& slot : slots_) Py_VISIT(slot.text.get());
    return 0;
  }
  void clear() noexcept {
    for (Slot& slot : slots_) slot = Slot{};
  }

 private:
  struct Slot {
    ContentWords words{};
    PyRef text;
    const char* bytes = nullptr;  // inside text
    std::size_t size = 0;
  };

  [[gnu::noinline]] static PyObject* fill(Slot& slot, ContentWords words, const std::uint8_t* bytes,
                                          std::size_t size) noexcept {
    PyObject* const text = make(bytes, size);
    if (text == nullptr) return nullptr;
    Py_ssize_t utf8_size = 0;
    const char* const utf8 = PyUnicode_AsUTF8AndSize(text, &utf8_size);
    if (utf8 == nullptr) {
      PyErr_Clear();  // no memory for the copy; the key itself is fine
      return text;
    }
    // By the object's own bytes: the input may lie in memory that another process can write.
    const auto* const own = reinterpret_cast<const std::uint8_t*>(utf8);
    if (static_cast<std::size_t>(utf8_size) == size && content_words(own, size) == words) {
      slot = Slot{words, PyRef::borrow(text), utf8, size};
    }
    return text;
  }

  static constexpr std::size_t kSlots = 1024;
  std::array<Slot, kSlots> slots_;
};

}  // namespace typhon::python

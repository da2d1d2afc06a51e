// SmallInts: the `int` objects from -128 to 1023, made when first met. Most integers that cross are that
// small, and a look-up costs a fraction of PyLong_FromLongLong. One for each interpreter; none without a GIL,
// where threads that count references to the same objects hold each other up.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include <array>
#include <cstddef>
#include <cstdint>

namespace typhon::python {

class SmallInts {
 public:
  // A new reference, or null with MemoryError set.
  [[nodiscard]] PyObject* get(std::int64_t value) noexcept {
#ifdef Py_GIL_DISABLED
    return PyLong_FromLongLong(value);
  }

  void clear() noexcept {}
#else
    const std::uint64_t index = static_cast<std::uint64_t>(value) + kBelow;
    if (index >= kCount) return PyLong_FromLongLong(value);
    PyRef& slot = slots_[index];
    if (!slot) [[unlikely]] {
      slot = PyRef::steal(PyLong_FromLongLong(value));
      if (!slot) return nullptr;
    }
    return take(slot.get());
  }

  void clear() noexcept {
    for (PyRef& slot : slots_) slot.reset();
  }

 private:
  static constexpr std::uint64_t kBelow = 128;
  static constexpr std::uint64_t kCount = kBelow + 1024;
  std::array<PyRef, kCount> slots_;
#endif
};

}  // namespace typhon::python

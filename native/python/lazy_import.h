// LazyImports: classes of the standard library and numpy that some values need, imported when the first such
// value comes by. A worker that never sees a date never pays for `datetime`. One for each interpreter. Any
// thread, also without a GIL: what has been found stays for as long as the module does, so it may be
// borrowed.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include <array>
#include <atomic>
#include <cstddef>

namespace typhon::python {

enum class Lazy : std::size_t {
  kDate,
  kTime,
  kDateTime,
  kTimeZone,
  kTimeDelta,
  kUtc,
  kZoneInfo,
  kDecimal,
  kEnum,
  kUuid,
  kUuidText,
  kPurePath,
  kPathLike,
  kFraction,
  kNumpyArray,
  kNumpyGeneric,
  kNumpyFromBuffer,
  kNumpyMasked,
  kPandasNaT,
  kPandasNA,
  kPandasTimedelta,
  kIntFromBytes,
  kIntToBytes,
  kIter,
  kApply,
  kCount,
};

class LazyImports {
 public:
  // Imports it if need be. Null with an exception set when that fails. May run Python code (an import).
  [[nodiscard]] PyBorrowed get(Lazy which) noexcept;

  // Only when its module has been imported by somebody: an object of a class whose module was never imported
  // does not exist. Null, and no exception, otherwise.
  [[nodiscard]] PyBorrowed if_loaded(Lazy which) noexcept;

  LazyImports() noexcept = default;
  LazyImports(const LazyImports&) = delete;
  LazyImports& operator=(const LazyImports&) = delete;
  ~LazyImports() { clear(); }

  int traverse(visitproc visit, void* arg) noexcept;
  void clear() noexcept;

 private:
  // Owned. The first one stays, should two threads find it at once.
  PyBorrowed keep(Lazy which, PyRef found) noexcept;

  std::array<std::atomic<PyObject*>, static_cast<std::size_t>(Lazy::kCount)> values_{};
};

}  // namespace typhon::python

// TypeCache: how the encoder treats instances of a class that is no builtin, remembered by class.
//
// Finding out takes several attribute look-ups; the answer is the same for each instance. Direct-mapped and
// bounded. It holds the class, so that the address cannot come to mean another one. One for each interpreter.
//
// Any thread, also without a GIL: a slot is one word, the address of the class with the kind in its top byte.
// Whoever looks a class up holds it, so a word with its address was written for this very class.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace typhon::python {

enum class EncodeKind : std::uint8_t {
  kUnknown,  // not in the cache
  kInteger,  // int or a subclass
  kFloat,
  kText,
  kBytes,
  kBuffer,  // bytearray, memoryview
  kList,
  kTuple,
  kDict,
  kSet,
  kRange,
  kIdentifier,  // Pid, Reference, Port, Fun
  kBitString,
  kImproperList,
  kKept,
  kEnum,
  kDataclass,
  kAttrs,
  kModel,  // of pydantic
  kDate,
  kTime,
  kDateTime,
  kTimeDelta,
  kDecimal,
  kFraction,
  kComplex,
  kUuid,
  kPath,
  kNumpyBool,
  kNumpyInteger,
  kNumpyFloat,
  kNumpyTime,  // datetime64, timedelta64
  kNumpyArray,
  kMissing,    // what numpy and pandas have in the place of a value that is not there
  kConverted,  // a function of Python's says what goes in its place
  kObject,     // anything else: a handle, or an EncodeError
};

class TypeCache {
 public:
  [[nodiscard]] EncodeKind get(PyTypeObject* type) const noexcept {
    const std::uint64_t word = slots_[index(type)].load(std::memory_order_acquire);
    const std::uint64_t kind = word ^ address(type);  // the low bits are zero when it is this class
    return kind << (64 - kKindShift) == 0 ? static_cast<EncodeKind>(kind >> kKindShift)
                                          : EncodeKind::kUnknown;
  }
  // May drop the last reference to another class.
  void put(PyTypeObject* type, EncodeKind kind) noexcept {
    if (address(type) >> kKindShift != 0) return;  // of a machine with longer addresses
    take(reinterpret_cast<PyObject*>(type));
    const std::uint64_t word = address(type) | static_cast<std::uint64_t>(kind) << kKindShift;
    drop_type(slots_[index(type)].exchange(word, std::memory_order_acq_rel));
  }

  int traverse(visitproc visit, void* arg) noexcept {
    for (const auto& slot : slots_) Py_VISIT(type_of(slot.load(std::memory_order_relaxed)));
    return 0;
  }
  void clear() noexcept {
    for (auto& slot : slots_) drop_type(slot.exchange(0, std::memory_order_acq_rel));
  }

  TypeCache() noexcept = default;
  TypeCache(const TypeCache&) = delete;
  TypeCache& operator=(const TypeCache&) = delete;
  ~TypeCache() { clear(); }

 private:
  static constexpr std::size_t kSlots = 128;
  static constexpr unsigned kKindShift = 56;
  static std::uint64_t address(PyTypeObject* type) noexcept { return reinterpret_cast<std::uintptr_t>(type); }
  static PyObject* type_of(std::uint64_t word) noexcept {
    return reinterpret_cast<PyObject*>(
        static_cast<std::uintptr_t>(word & ((std::uint64_t{1} << kKindShift) - 1)));
  }
  static void drop_type(std::uint64_t word) noexcept {
    if (PyObject* const type = type_of(word); type != nullptr) drop(type);
  }
  static std::size_t index(PyTypeObject* type) noexcept {
    return (reinterpret_cast<std::uintptr_t>(type) * 0x9E3779B97F4A7C15ULL >> 40) % kSlots;
  }
  std::array<std::atomic<std::uint64_t>, kSlots> slots_{};
};

}  // namespace typhon::python

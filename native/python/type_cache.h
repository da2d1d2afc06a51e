// TypeCache: how the encoder treats instances of a class that is no builtin, remembered by class.
//
// Finding out takes several attribute look-ups; the answer is the same for each instance. Direct-mapped and
// bounded. It holds the class, so that the address cannot come to mean another one. One for each interpreter.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include <array>
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
  kEnum,
  kDataclass,
  kDate,
  kTime,
  kDateTime,
  kDecimal,
  kNumpyBool,
  kNumpyInteger,
  kNumpyFloat,
  kNumpyArray,
  kObject,  // anything else: a handle, or an EncodeError
};

class TypeCache {
 public:
  [[nodiscard]] EncodeKind get(PyTypeObject* type) const noexcept {
    const Slot& slot = slots_[index(type)];
    return reinterpret_cast<PyTypeObject*>(slot.type.get()) == type ? slot.kind : EncodeKind::kUnknown;
  }
  // May drop the last reference to another class.
  void put(PyTypeObject* type, EncodeKind kind) noexcept {
    Slot& slot = slots_[index(type)];
    slot.kind = kind;
    slot.type = PyRef::borrow(reinterpret_cast<PyObject*>(type));
  }

  int traverse(visitproc visit, void* arg) noexcept {
    for (const Slot& slot : slots_) Py_VISIT(slot.type.get());
    return 0;
  }
  void clear() noexcept {
    for (Slot& slot : slots_) slot.type.reset();
  }

 private:
  struct Slot {
    PyRef type;
    EncodeKind kind = EncodeKind::kUnknown;
  };
  static constexpr std::size_t kSlots = 128;
  static std::size_t index(PyTypeObject* type) noexcept {
    return (reinterpret_cast<std::uintptr_t>(type) * 0x9E3779B97F4A7C15ULL >> 40) % kSlots;
  }
  std::array<Slot, kSlots> slots_;
};

}  // namespace typhon::python

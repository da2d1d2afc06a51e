// DecodeCaches: where one decode looks up the keys of maps and the atoms that it meets.
//
// Under a GIL those are the interpreter's own caches. Without one, threads that share a cache would wait for
// each other, and again whenever they count references to what they found in it: a long term has caches of
// its own, for as long as it is decoded, and a short one has none.
#pragma once

#include "python/cpython.h"
#include "python/module_state.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace typhon::python {

class DecodeCaches {
 public:
#ifdef Py_GIL_DISABLED
  DecodeCaches(ModuleState& state, std::size_t input_size) noexcept : state_(state) {
    constexpr std::size_t kLongInput = 8192;
    if (input_size >= kLongInput) own_.reset(new (std::nothrow) Own);
  }
  [[nodiscard]] PyObject* key(const std::uint8_t* bytes, std::size_t size) noexcept {
    return own_ ? own_->keys.get(bytes, size) : KeyCache::make(bytes, size);
  }
  [[nodiscard]] PyObject* find_atom(const std::uint8_t* name, std::size_t size) noexcept {
    return own_ ? state_.atoms.find(own_->atoms, name, size) : state_.atoms.find(name, size);
  }

 private:
  struct Own {
    KeyCache keys;
    RecentAtoms atoms;
  };
  ModuleState& state_;
  std::unique_ptr<Own> own_;
#else
  DecodeCaches(ModuleState& state, std::size_t) noexcept : state_(state) {}
  [[nodiscard]] PyObject* key(const std::uint8_t* bytes, std::size_t size) noexcept {
    return state_.keys.get(bytes, size);
  }
  [[nodiscard]] PyObject* find_atom(const std::uint8_t* name, std::size_t size) noexcept {
    return state_.atoms.find(name, size);
  }

 private:
  ModuleState& state_;
#endif
};

}  // namespace typhon::python

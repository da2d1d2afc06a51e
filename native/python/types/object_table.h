// ObjectTable: Python objects that the BEAM holds handles to, by id.
//
// An id is never used again, so a handle that outlived its object can only be unknown, never wrong. The same
// object put twice has two ids: each handle is released by itself. Belongs to one interpreter; every function
// needs its GIL, or where it has none a thread state of it: then another thread may release an id at any
// time.
#pragma once

#include "python/cpython.h"
#include "python/gil.h"
#include "python/ref.h"

#include <cstddef>
#include <cstdint>
#include <unordered_map>

namespace typhon::python {

class ObjectTable {
 public:
  ObjectTable() noexcept = default;
  ObjectTable(const ObjectTable&) = delete;
  ObjectTable& operator=(const ObjectTable&) = delete;

  // Holds `object` and gives its id, from 1 on; 0 with MemoryError set on failure.
  [[nodiscard]] std::uint64_t put(PyObject* object) noexcept;

  // Empty, and no exception, when there is no such id.
  [[nodiscard]] PyRef get(std::uint64_t id) const noexcept;

  // Lets go of the object; an unknown id is fine. May run Python code (its finaliser).
  void release(std::uint64_t id) noexcept;

  [[nodiscard]] std::size_t count() const noexcept {
    const SubstituteLock lock(mutex_);
    return objects_.size();
  }

  int traverse(visitproc visit, void* arg) const noexcept;
  void clear() noexcept;

 private:
  mutable GilSubstitute mutex_;
  std::uint64_t next_ = 1;
  std::unordered_map<std::uint64_t, PyRef> objects_;
};

}  // namespace typhon::python

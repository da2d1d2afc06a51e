#include "python/types/object_table.h"

#include <new>

namespace typhon::python {

std::uint64_t ObjectTable::put(PyObject* object) noexcept {
  try {
    const SubstituteLock lock(mutex_);
    objects_.emplace(next_, PyRef::borrow(object));
    return next_++;
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return 0;
  }
}

PyRef ObjectTable::get(std::uint64_t id) const noexcept {
  const SubstituteLock lock(mutex_);
  const auto found = objects_.find(id);
  return found == objects_.end() ? PyRef() : PyRef::borrow(found->second);
}

void ObjectTable::release(std::uint64_t id) noexcept {
  PyRef object;  // dropped last: its finaliser may use this table
  const SubstituteLock lock(mutex_);
  const auto found = objects_.find(id);
  if (found == objects_.end()) return;
  object = std::move(found->second);
  objects_.erase(found);
}

int ObjectTable::traverse(visitproc visit, void* arg) const noexcept {
  for (const auto& [id, object] : objects_) Py_VISIT(object.get());
  return 0;
}

void ObjectTable::clear() noexcept {
  std::unordered_map<std::uint64_t, PyRef> objects;  // dropped last, for the same reason
  const SubstituteLock lock(mutex_);
  objects.swap(objects_);
}

}  // namespace typhon::python

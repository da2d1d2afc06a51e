#include "python/object_table.h"

#include <new>

namespace typhon::python {

std::uint64_t ObjectTable::put(PyObject* object) noexcept {
  try {
    objects_.emplace(next_, PyRef::borrow(object));
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return 0;
  }
  return next_++;
}

PyObject* ObjectTable::get(std::uint64_t id) const noexcept {
  const auto found = objects_.find(id);
  return found == objects_.end() ? nullptr : found->second.get();
}

void ObjectTable::release(std::uint64_t id) noexcept {
  const auto found = objects_.find(id);
  if (found == objects_.end()) return;
  const PyRef object = std::move(found->second);  // dropped last: its finaliser may use this table
  objects_.erase(found);
}

int ObjectTable::traverse(visitproc visit, void* arg) const noexcept {
  for (const auto& [id, object] : objects_) Py_VISIT(object.get());
  return 0;
}

void ObjectTable::clear() noexcept {
  const std::unordered_map<std::uint64_t, PyRef> objects = std::move(objects_);
  objects_.clear();
}

}  // namespace typhon::python

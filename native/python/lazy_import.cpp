#include "python/lazy_import.h"

namespace typhon::python {
namespace {

struct Place {
  const char* module;
  const char* attribute;
  const char* member;  // of the attribute; may be null
};

constexpr std::array<Place, static_cast<std::size_t>(Lazy::kCount)> kPlaces{{
    {"datetime", "date", nullptr},
    {"datetime", "time", nullptr},
    {"datetime", "datetime", nullptr},
    {"datetime", "timezone", nullptr},
    {"datetime", "timedelta", nullptr},
    {"datetime", "timezone", "utc"},
    {"zoneinfo", "ZoneInfo", nullptr},
    {"decimal", "Decimal", nullptr},
    {"enum", "Enum", nullptr},
    {"numpy", "ndarray", nullptr},
    {"numpy", "generic", nullptr},
    {"numpy", "frombuffer", nullptr},
    {"builtins", "int", "from_bytes"},
    {"builtins", "int", "to_bytes"},
    {"typhon._beam", "Iter", nullptr},
}};

PyRef find(PyBorrowed module, const Place& place) noexcept {
  PyRef found = PyRef::steal(PyObject_GetAttrString(module.get(), place.attribute));
  if (found && place.member != nullptr)
    found = PyRef::steal(PyObject_GetAttrString(found.get(), place.member));
  return found;
}

}  // namespace

PyBorrowed LazyImports::get(Lazy which) noexcept {
  PyRef& value = values_[static_cast<std::size_t>(which)];
  if (!value) {
    const Place& place = kPlaces[static_cast<std::size_t>(which)];
    const PyRef module = PyRef::steal(PyImport_ImportModule(place.module));
    if (!module) return nullptr;
    PyRef found = find(module, place);
    if (!found) return nullptr;
    value = std::move(found);
  }
  return value;
}

PyBorrowed LazyImports::if_loaded(Lazy which) noexcept {
  PyRef& value = values_[static_cast<std::size_t>(which)];
  if (!value) {
    const Place& place = kPlaces[static_cast<std::size_t>(which)];
    const PyRef name = PyRef::steal(PyUnicode_FromString(place.module));
    const PyRef module = PyRef::steal(name ? PyImport_GetModule(name.get()) : nullptr);
    PyRef found = module ? find(module, place) : PyRef();
    if (!found) {
      PyErr_Clear();  // not there, or being imported by another thread at this moment
      return nullptr;
    }
    value = std::move(found);
  }
  return value;
}

int LazyImports::traverse(visitproc visit, void* arg) noexcept {
  for (const PyRef& value : values_) Py_VISIT(value.get());
  return 0;
}

void LazyImports::clear() noexcept {
  for (PyRef& value : values_) value.reset();
}

}  // namespace typhon::python

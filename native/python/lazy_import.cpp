#include "python/lazy_import.h"

namespace typhon::python {
namespace {

struct Place {
  const char* module;
  const char* attribute;
  const char* member;  // of the attribute; may be null
};

constexpr std::array<Place, static_cast<std::size_t>(Lazy::kCount)> kPlaces{{
    {"datetime", "date", nullptr},      {"datetime", "time", nullptr},      {"datetime", "datetime", nullptr},
    {"datetime", "timezone", nullptr},  {"datetime", "timedelta", nullptr}, {"datetime", "timezone", "utc"},
    {"zoneinfo", "ZoneInfo", nullptr},  {"decimal", "Decimal", nullptr},    {"enum", "Enum", nullptr},
    {"uuid", "UUID", nullptr},          {"uuid", "UUID", "__str__"},        {"pathlib", "PurePath", nullptr},
    {"os", "PathLike", nullptr},        {"fractions", "Fraction", nullptr}, {"numpy", "ndarray", nullptr},
    {"numpy", "generic", nullptr},      {"numpy", "frombuffer", nullptr},   {"numpy.ma", "masked", nullptr},
    {"pandas", "NaT", nullptr},         {"pandas", "NA", nullptr},          {"pandas", "Timedelta", nullptr},
    {"builtins", "int", "from_bytes"},  {"builtins", "int", "to_bytes"},    {"typhon._beam", "Iter", nullptr},
    {"typhon._beam", "apply", nullptr},
}};

PyRef find(PyBorrowed module, const Place& place) noexcept {
  PyRef found = PyRef::steal(PyObject_GetAttrString(module.get(), place.attribute));
  if (found && place.member != nullptr)
    found = PyRef::steal(PyObject_GetAttrString(found.get(), place.member));
  return found;
}

}  // namespace

PyBorrowed LazyImports::keep(Lazy which, PyRef found) noexcept {
  PyObject* kept = nullptr;
  auto& value = values_[static_cast<std::size_t>(which)];
  if (value.compare_exchange_strong(kept, found.get(), std::memory_order_acq_rel)) return found.release();
  return kept;
}

PyBorrowed LazyImports::get(Lazy which) noexcept {
  const auto index = static_cast<std::size_t>(which);
  if (PyObject* const value = values_[index].load(std::memory_order_acquire); value != nullptr) return value;
  const Place& place = kPlaces[index];
  const PyRef module = PyRef::steal(PyImport_ImportModule(place.module));
  if (!module) return nullptr;
  PyRef found = find(module, place);
  return found ? keep(which, std::move(found)) : PyBorrowed(nullptr);
}

PyBorrowed LazyImports::if_loaded(Lazy which) noexcept {
  const auto index = static_cast<std::size_t>(which);
  if (PyObject* const value = values_[index].load(std::memory_order_acquire); value != nullptr) return value;
  const Place& place = kPlaces[index];
  const PyRef name = PyRef::steal(PyUnicode_FromString(place.module));
  const PyRef module = PyRef::steal(name ? PyImport_GetModule(name.get()) : nullptr);
  PyRef found = module ? find(module, place) : PyRef();
  if (!found) {
    PyErr_Clear();  // not there, or being imported by another thread at this moment
    return nullptr;
  }
  return keep(which, std::move(found));
}

int LazyImports::traverse(visitproc visit, void* arg) noexcept {
  for (const auto& value : values_) Py_VISIT(value.load(std::memory_order_relaxed));
  return 0;
}

void LazyImports::clear() noexcept {
  for (auto& value : values_) {
    if (PyObject* const old = value.exchange(nullptr, std::memory_order_acq_rel); old != nullptr) drop(old);
  }
}

}  // namespace typhon::python

#include "python/types/atom_table.h"

#include "python/gil.h"
#include "python/module_state.h"
#include "python/types/heap_type.h"

#include "etf/tags.h"

#include <array>
#include <limits>
#include <new>
#include <utility>

namespace typhon::python {

// Every living atom by name; the views point into the atoms. Counted by its table and by each atom.
class AtomInterner {
 public:
  // A new reference; null, and no exception, when there is none.
  [[nodiscard]] PyObject* find(std::string_view name) noexcept {
    const SubstituteLock lock(mutex_);
    return find_locked(name);
  }
  // A new reference to `atom`, or to one of that name that is here already; null with MemoryError set.
  [[nodiscard]] PyObject* add(AtomObject* atom) noexcept {
    try {
      const SubstituteLock lock(mutex_);
      if (PyObject* const other = find_locked(atom->text()); other != nullptr) return other;
      atoms_.erase(atom->text());  // one that is dying in another thread; the key is its own
      atoms_.emplace(atom->text(), atom);
      ++users_;
      atom->interner = this;
      return take(reinterpret_cast<PyObject*>(atom));
    } catch (const std::bad_alloc&) {
      return PyErr_NoMemory();
    }
  }
  void remove(AtomObject* atom) noexcept {
    {
      const SubstituteLock lock(mutex_);
      const auto found = atoms_.find(atom->text());
      if (found != atoms_.end() && found->second == atom) atoms_.erase(found);
    }
    leave();
  }
  void leave() noexcept {
    bool last = false;
    {
      const SubstituteLock lock(mutex_);
      last = --users_ == 0;
    }
    if (last) delete this;
  }

 private:
  PyObject* find_locked(std::string_view name) const noexcept {
    const auto found = atoms_.find(name);
    if (found == atoms_.end()) return nullptr;
#ifdef Py_GIL_DISABLED
    // It leaves the table before its memory goes, so it may be looked at.
    PyObject* living = nullptr;
    if (PyWeakref_GetRef(found->second->weak_self, &living) < 0) PyErr_Clear();
    return living;
#else
    return take(reinterpret_cast<PyObject*>(found->second));
#endif
  }
  struct Hash {
    std::size_t seed;
    std::size_t operator()(std::string_view name) const noexcept {
      return std::hash<std::string_view>{}(name)*0x9E3779B97F4A7C15ULL ^ seed;
    }
  };
  GilSubstitute mutex_;
  std::size_t users_ = 1;  // the table
  std::unordered_map<std::string_view, AtomObject*, Hash> atoms_{16,
                                                                 Hash{reinterpret_cast<std::size_t>(this)}};
};

namespace {

PyRef refuse_name(Py_ssize_t characters) noexcept {
  PyErr_Format(PyExc_ValueError, "an atom has at most 255 characters, this one %zd", characters);
  return {};
}

// A new atom that is in no table yet. `name` is a str whose UTF-8 form is `utf8`.
PyRef make_atom(PyTypeObject* type, PyBorrowed name, std::string_view utf8) noexcept {
  const bool small = utf8.size() <= 255;
  const std::size_t wire_size = utf8.size() + (small ? 2 : 3);
  PyRef object = PyRef::steal(PyType_GenericAlloc(type, static_cast<Py_ssize_t>(wire_size)));
  if (!object) return {};
  AtomObject* const atom = AtomObject::of(object.get());
  atom->name = take(name.get());
  atom->name_size = static_cast<std::uint16_t>(utf8.size());
  atom->wire_size = static_cast<std::uint16_t>(wire_size);
  auto* to = reinterpret_cast<std::uint8_t*>(atom + 1);
  *to++ = small ? etf::kSmallAtomUtf8 : etf::kAtomUtf8;
  if (!small) *to++ = static_cast<std::uint8_t>(utf8.size() >> 8);
  *to++ = static_cast<std::uint8_t>(utf8.size());
  if (!utf8.empty()) std::memcpy(to, utf8.data(), utf8.size());
#ifdef Py_GIL_DISABLED
  atom->weak_self = PyWeakref_NewRef(object.get(), nullptr);
  if (atom->weak_self == nullptr) return {};
#endif
  return object;
}

PyObject* atom_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) noexcept {
  static const char* const kNames[] = {"name", nullptr};
  PyObject* name = nullptr;
  if (PyArg_ParseTupleAndKeywords(args, kwargs, "U:Atom", const_cast<char**>(kNames), &name) == 0)
    return nullptr;
  Py_ssize_t size = 0;
  const char* const utf8 = PyUnicode_AsUTF8AndSize(name, &size);
  if (utf8 == nullptr) return nullptr;  // a lone surrogate: UnicodeEncodeError, which is a ValueError
  return ModuleState::of_type(type).atoms.get(std::string_view(utf8, static_cast<std::size_t>(size)));
}

void atom_dealloc(PyObject* self) noexcept {
  PyTypeObject* const type = Py_TYPE(self);
  AtomObject* const atom = AtomObject::of(self);
  PyObject_GC_UnTrack(self);
  if (atom->interner != nullptr) atom->interner->remove(atom);
#ifdef Py_GIL_DISABLED
  if (atom->weak_references != nullptr) PyObject_ClearWeakRefs(self);
  if (atom->weak_self != nullptr) drop(atom->weak_self);
#endif
  if (atom->name != nullptr) drop(atom->name);
  PyObject_GC_Del(self);
  drop(reinterpret_cast<PyObject*>(type));
}

int atom_traverse(PyObject* self, visitproc visit, void* arg) noexcept {
  Py_VISIT(Py_TYPE(self));
  return 0;
}

PyObject* atom_repr(PyObject* self) noexcept {
  return PyUnicode_FromFormat("Atom(%R)", AtomObject::of(self)->name);
}

PyObject* atom_str(PyObject* self) noexcept { return take(AtomObject::of(self)->name); }

Py_hash_t atom_hash(PyObject* self) noexcept {
  const Py_hash_t of_name = PyObject_Hash(AtomObject::of(self)->name);
  const Py_hash_t hash =
      of_name ^ 0x41746F6D;  // apart from the str of the same name, which may be a key beside it
  return hash == -1 ? -2 : hash;
}

// The floats that are atoms in the BEAM, which has none for them. Of no other atom there is a number.
constexpr std::array<std::pair<std::string_view, double>, 3> kFloats{{
    {"nan", std::numeric_limits<double>::quiet_NaN()},
    {"infinity", std::numeric_limits<double>::infinity()},
    {"neg_infinity", -std::numeric_limits<double>::infinity()},
}};

PyObject* atom_float(PyObject* self) noexcept {
  for (const auto& [name, value] : kFloats)
    if (AtomObject::of(self)->text() == name) return PyFloat_FromDouble(value);
  PyErr_SetString(PyExc_TypeError, "must be real number, not typhon.Atom");
  return nullptr;
}

PyObject* atom_get_name(PyObject* self, void*) noexcept { return atom_str(self); }

PyObject* atom_reduce(PyObject* self, PyObject*) noexcept {
  return Py_BuildValue("(O(O))", reinterpret_cast<PyObject*>(Py_TYPE(self)), AtomObject::of(self)->name);
}

PyGetSetDef atom_getset[] = {
    {"name", atom_get_name, nullptr, "The atom's name, a str.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

#ifdef Py_GIL_DISABLED
PyMemberDef atom_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(AtomObject, weak_references), Py_READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};
#endif

PyMethodDef atom_methods[] = {
    {"__reduce__", atom_reduce, METH_NOARGS, nullptr},
    {"__copy__", return_self, METH_NOARGS, nullptr},
    {"__deepcopy__", return_self, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

constexpr const char* kAtomDoc =
    "Atom(name)\n--\n\n"
    "An atom of the BEAM. Atoms of one name are one object, so `is` and `==` agree; an atom never equals a "
    "str.\n\n"
    "None, True and False stand for the atoms nil, true and false: decoding never gives an Atom of those "
    "names.\n"
    "float() of the atoms nan, infinity and neg_infinity is that float; no other atom is a number.\n"
    "Raises ValueError when the name has more than 255 characters.";

PyType_Slot atom_slots[] = {
    {Py_tp_doc, const_cast<char*>(kAtomDoc)},
    {Py_tp_new, reinterpret_cast<void*>(atom_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(atom_dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(atom_traverse)},
    {Py_tp_repr, reinterpret_cast<void*>(atom_repr)},
    {Py_tp_str, reinterpret_cast<void*>(atom_str)},
    {Py_tp_hash, reinterpret_cast<void*>(atom_hash)},
    {Py_tp_getset, atom_getset},
    {Py_tp_methods, atom_methods},
    {Py_nb_float, reinterpret_cast<void*>(atom_float)},
#ifdef Py_GIL_DISABLED
    {Py_tp_members, atom_members},
#endif
    {0, nullptr},
};

PyType_Spec atom_spec = {
    "typhon.Atom", sizeof(AtomObject), 1, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, atom_slots,
};

}  // namespace

AtomTable::~AtomTable() {
  clear();
  if (interner_ != nullptr) interner_->leave();
}

int AtomTable::init(PyTypeObject* type) noexcept {
  type_ = type;
  interner_ = new (std::nothrow) AtomInterner;
  if (interner_ != nullptr) return 0;
  PyErr_NoMemory();
  return -1;
}

PyObject* AtomTable::find_living(const std::uint8_t* name, std::size_t size) noexcept {
  return interner_->find({reinterpret_cast<const char*>(name), size});
}

PyObject* AtomTable::find_living(RecentAtoms& recent, ContentWords words, const std::uint8_t* name,
                                 std::size_t size) noexcept {
  PyObject* const atom = find_living(name, size);
  if (atom == nullptr) return nullptr;
  // The input may lie in memory that another process can write: is this still the same name?
  const std::string_view own = AtomObject::of(atom)->text();
  const ContentWords own_words = content_words(reinterpret_cast<const std::uint8_t*>(own.data()), own.size());
  if (own.size() == size && own_words == words) recent.put(words, size, atom);
  return atom;
}

PyObject* AtomTable::make(const std::uint8_t* name, std::size_t size) noexcept {
  if (size > 4 * kMaxAtomCharacters) return refuse_name(static_cast<Py_ssize_t>(size)).release();
  const std::string_view utf8(reinterpret_cast<const char*>(name), size);
  const PyRef text = PyRef::steal(PyUnicode_DecodeUTF8(utf8.data(), static_cast<Py_ssize_t>(size), nullptr));
  if (!text) return nullptr;
  const Py_ssize_t characters = PyUnicode_GetLength(text.get());
  if (characters > static_cast<Py_ssize_t>(kMaxAtomCharacters)) return refuse_name(characters).release();
  const PyRef atom = make_atom(type_, text, utf8);
  // The allocation may have collected garbage, and a finaliser may have made this very atom; or another
  // thread has.
  return atom ? interner_->add(AtomObject::of(atom.get())) : nullptr;
}

int RecentAtoms::traverse(visitproc visit, void* arg) noexcept {
  for (const Slot& slot : slots_) Py_VISIT(slot.atom.get());
  return 0;
}

void RecentAtoms::clear() noexcept {
  for (Slot& slot : slots_) slot.atom.reset();
}

#ifdef Py_GIL_DISABLED
int AtomTable::traverse(visitproc, void*) noexcept { return 0; }
void AtomTable::clear() noexcept {}
#else
int AtomTable::traverse(visitproc visit, void* arg) noexcept { return recent_.traverse(visit, arg); }
void AtomTable::clear() noexcept { recent_.clear(); }
#endif

PyRef make_atom_type(PyObject* module) noexcept { return make_type(module, atom_spec, {"name"}); }

}  // namespace typhon::python

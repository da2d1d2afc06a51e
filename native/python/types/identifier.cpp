#include "python/types/identifier.h"

#include "python/module_state.h"
#include "python/types/content_hash.h"
#include "python/types/heap_type.h"

#include "etf/leaf.h"
#include "etf/tags.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <span>

namespace typhon::python {
namespace {

using etf::Bytes;

class Hasher {
 public:
  void add(std::uint64_t value) noexcept { state_ = (state_ ^ value ^ state_ >> 31) * 0x9E3779B97F4A7C15ULL; }
  void add(Bytes bytes) noexcept {
    add(bytes.size());
    for (; bytes.size() >= 8; bytes = bytes.subspan(8)) add(load_native<std::uint64_t>(bytes.data()));
    add(content_words(bytes.data(), bytes.size()).low);
  }
  void add(std::string_view text) noexcept {
    add(Bytes(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
  }
  [[nodiscard]] Py_hash_t get() const noexcept {
    const auto hash = static_cast<Py_hash_t>(state_ ^ state_ >> 29);
    return hash == -1 ? -2 : hash;
  }

 private:
  std::uint64_t state_ = 0x2545F4914F6CDD1DULL;
};

PyObject* make(PyBorrowed type, IdentifierKind kind, Bytes raw, const Hasher& hash) noexcept {
  if (raw.size() > UINT32_MAX) return PyErr_NoMemory();  // a fun: its own size field has 32 bits
  PyObject* const object =
      PyType_GenericAlloc(reinterpret_cast<PyTypeObject*>(type.get()), static_cast<Py_ssize_t>(raw.size()));
  if (object == nullptr) return nullptr;
  IdentifierObject* const identifier = IdentifierObject::of(object);
  identifier->hash = hash.get();
  identifier->kind = kind;
  identifier->raw_size = static_cast<std::uint32_t>(raw.size());
  std::copy(raw.begin(), raw.end(), reinterpret_cast<std::uint8_t*>(identifier + 1));
  return object;
}

// --- parsed again, from bytes that were valid once ---

struct Parsed {
  etf::detail::AtomScratch first;
  etf::detail::AtomScratch second;
  etf::PidView pid;
  etf::PortView port;
  etf::ReferenceView reference;
  etf::ExportView exported;
  etf::FunView fun;
  bool is_export = false;

  explicit Parsed(const IdentifierObject* from) noexcept {
    etf::detail::Scan scan;
    scan.at = from->bytes().data();
    scan.end = scan.at + from->raw_size;
    switch (from->kind) {
      case IdentifierKind::kPid:
        scan_pid(scan, first, pid);
        break;
      case IdentifierKind::kReference:
        scan_reference(scan, first, reference);
        break;
      case IdentifierKind::kPort:
        scan_port(scan, first, port);
        break;
      case IdentifierKind::kFun:
        is_export = from->bytes()[0] == etf::kExport;
        if (is_export) {
          scan_export(scan, first, second, exported);
        } else {
          scan_fun(scan, first, UINT32_MAX, 0, 0, fun);
        }
        break;
    }
  }
};

PyObject* text(std::string_view utf8) noexcept {
  return PyUnicode_DecodeUTF8(utf8.data(), static_cast<Py_ssize_t>(utf8.size()), nullptr);
}

bool same_fields(const IdentifierObject* a, const IdentifierObject* b) noexcept {
  const Parsed x(a);
  const Parsed y(b);
  switch (a->kind) {
    case IdentifierKind::kPid:
      return x.pid.node == y.pid.node && x.pid.id == y.pid.id && x.pid.serial == y.pid.serial &&
             x.pid.creation == y.pid.creation;
    case IdentifierKind::kReference:
      return x.reference.node == y.reference.node && x.reference.creation == y.reference.creation &&
             std::ranges::equal(x.reference.words, y.reference.words);
    case IdentifierKind::kPort:
      return x.port.node == y.port.node && x.port.id == y.port.id && x.port.creation == y.port.creation;
    case IdentifierKind::kFun:
      return x.is_export && y.is_export && x.exported.module == y.exported.module &&
             x.exported.function == y.exported.function && x.exported.arity == y.exported.arity;
  }
  return false;
}

// --- the types ---

Py_hash_t identifier_hash(PyObject* self) noexcept { return IdentifierObject::of(self)->hash; }

PyObject* identifier_compare(PyObject* self, PyObject* other, int operation) noexcept {
  if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(self) != Py_TYPE(other)) {
    return take(Py_NotImplemented);
  }
  const IdentifierObject* const a = IdentifierObject::of(self);
  const IdentifierObject* const b = IdentifierObject::of(other);
  const bool equal = std::ranges::equal(a->bytes(), b->bytes()) || (a->hash == b->hash && same_fields(a, b));
  return take(equal == (operation == Py_EQ) ? Py_True : Py_False);
}

PyObject* identifier_reduce(PyObject* self, PyObject*) noexcept {
  const IdentifierObject* const identifier = IdentifierObject::of(self);
  const PyRef bytes = PyRef::steal(PyBytes_FromStringAndSize(nullptr, Py_ssize_t{identifier->raw_size} + 1));
  if (!bytes) return nullptr;
  char* const to = PyBytes_AsString(bytes.get());
  to[0] = static_cast<char>(etf::kVersion);
  std::ranges::copy(identifier->bytes(), reinterpret_cast<std::uint8_t*>(to) + 1);
  const ModuleState& state = ModuleState::of_type(Py_TYPE(self));
  return Py_BuildValue("(O(O))", state.decode_function.get(), bytes.get());
}

PyObject* pid_repr(PyObject* self) noexcept {
  const Parsed parsed(IdentifierObject::of(self));
  const PyRef node = PyRef::steal(text(parsed.pid.node));
  if (!node) return nullptr;
  return PyUnicode_FromFormat("<typhon.Pid %U 0.%u.%u>", node.get(), parsed.pid.id, parsed.pid.serial);
}

PyObject* port_repr(PyObject* self) noexcept {
  const Parsed parsed(IdentifierObject::of(self));
  const PyRef node = PyRef::steal(text(parsed.port.node));
  if (!node) return nullptr;
  return PyUnicode_FromFormat("<typhon.Port %U 0.%llu>", node.get(),
                              static_cast<unsigned long long>(parsed.port.id));
}

// The words in the order in which the BEAM prints them, the last one first.
PyObject* reference_repr(PyObject* self) noexcept {
  const Parsed parsed(IdentifierObject::of(self));
  const PyRef node = PyRef::steal(text(parsed.reference.node));
  if (!node) return nullptr;
  std::array<char, etf::kMaxReferenceWords * 11 + 1> words{};
  std::size_t used = 0;
  for (std::uint32_t i = parsed.reference.count(); i-- > 0;) {
    const int wrote =
        std::snprintf(words.data() + used, words.size() - used, ".%u", parsed.reference.word(i));
    used += static_cast<std::size_t>(wrote);
  }
  return PyUnicode_FromFormat("<typhon.Reference %U 0%s>", node.get(), words.data());
}

PyObject* fun_repr(PyObject* self) noexcept {
  const Parsed parsed(IdentifierObject::of(self));
  if (parsed.is_export) {
    const PyRef module = PyRef::steal(text(parsed.exported.module));
    const PyRef function = PyRef::steal(text(parsed.exported.function));
    if (!module || !function) return nullptr;
    return PyUnicode_FromFormat("<typhon.Fun %U.%U/%u>", module.get(), function.get(), parsed.exported.arity);
  }
  const PyRef module = PyRef::steal(text(parsed.fun.module));
  if (!module) return nullptr;
  return PyUnicode_FromFormat(
      "<typhon.Fun %U.%d.%u/%u>", module.get(), static_cast<int>(parsed.fun.old_index),
      static_cast<unsigned>(parsed.fun.old_uniq), static_cast<unsigned>(parsed.fun.arity));
}

// --- their fields, as Python attributes ---

enum class Field : std::uintptr_t { kNode, kId, kSerial, kCreation, kIds, kModule, kFunction, kArity };

PyObject* atom_of(PyObject* self, std::string_view name) noexcept {
  return ModuleState::of_type(Py_TYPE(self)).atoms.get(name);
}

PyObject* number(std::uint64_t value) noexcept { return PyLong_FromUnsignedLongLong(value); }

PyObject* words_tuple(const etf::ReferenceView& view) noexcept {
  PyRef tuple = PyRef::steal(PyTuple_New(static_cast<Py_ssize_t>(view.count())));
  for (std::uint32_t i = 0; tuple && i < view.count(); ++i) {
    PyObject* const word = number(view.word(i));
    if (word == nullptr || PyTuple_SetItem(tuple.get(), static_cast<Py_ssize_t>(i), word) != 0)
      return nullptr;
  }
  return tuple.release();
}

PyObject* get_field(PyObject* self, void* closure) noexcept {
  const IdentifierObject* const identifier = IdentifierObject::of(self);
  const Parsed parsed(identifier);
  const bool pid = identifier->kind == IdentifierKind::kPid;
  const bool port = identifier->kind == IdentifierKind::kPort;
  switch (static_cast<Field>(reinterpret_cast<std::uintptr_t>(closure))) {
    case Field::kNode:
      return atom_of(self, pid ? parsed.pid.node : port ? parsed.port.node : parsed.reference.node);
    case Field::kId:
      return number(pid ? parsed.pid.id : parsed.port.id);
    case Field::kSerial:
      return number(parsed.pid.serial);
    case Field::kCreation:
      return number(pid ? parsed.pid.creation : port ? parsed.port.creation : parsed.reference.creation);
    case Field::kIds:
      return words_tuple(parsed.reference);
    case Field::kModule:
      return atom_of(self, parsed.is_export ? parsed.exported.module : parsed.fun.module);
    case Field::kFunction:
      return parsed.is_export ? atom_of(self, parsed.exported.function) : take(Py_None);
    case Field::kArity:
      return number(parsed.is_export ? parsed.exported.arity : parsed.fun.arity);
  }
  return nullptr;
}

void* field(Field which) noexcept { return reinterpret_cast<void*>(static_cast<std::uintptr_t>(which)); }

PyGetSetDef pid_fields[] = {
    {"node", get_field, nullptr, "The node it lives on, an Atom.", field(Field::kNode)},
    {"id", get_field, nullptr, "Its number on that node.", field(Field::kId)},
    {"serial", get_field, nullptr, "How often the numbers have wrapped.", field(Field::kSerial)},
    {"creation", get_field, nullptr, "Which incarnation of the node.", field(Field::kCreation)},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyGetSetDef reference_fields[] = {
    {"node", get_field, nullptr, "The node that made it, an Atom.", field(Field::kNode)},
    {"ids", get_field, nullptr, "Its words, a tuple of int, in wire order.", field(Field::kIds)},
    {"creation", get_field, nullptr, "Which incarnation of the node.", field(Field::kCreation)},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyGetSetDef port_fields[] = {
    {"node", get_field, nullptr, "The node it lives on, an Atom.", field(Field::kNode)},
    {"id", get_field, nullptr, "Its number on that node.", field(Field::kId)},
    {"creation", get_field, nullptr, "Which incarnation of the node.", field(Field::kCreation)},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyGetSetDef fun_fields[] = {
    {"module", get_field, nullptr, "Its module, an Atom.", field(Field::kModule)},
    {"function", get_field, nullptr, "The function's name, an Atom; None for a closure.",
     field(Field::kFunction)},
    {"arity", get_field, nullptr, "How many arguments it takes.", field(Field::kArity)},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMethodDef identifier_methods[] = {
    {"__reduce__", identifier_reduce, METH_NOARGS, nullptr},
    {"__copy__", return_self, METH_NOARGS, nullptr},
    {"__deepcopy__", return_self, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

// A function of the BEAM is called there: typhon._beam.apply(function, args, kwargs).
PyObject* fun_call(PyObject* self, PyObject* args, PyObject* kwargs) noexcept {
  if (kwargs != nullptr && PyDict_Size(kwargs) != 0) {
    PyErr_SetString(PyExc_TypeError, "a function of the BEAM takes no keyword arguments");
    return nullptr;
  }
  const PyBorrowed apply = ModuleState::of_type(Py_TYPE(self)).imports.get(Lazy::kApply);
  return apply ? PyObject_CallFunctionObjArgs(apply.get(), self, args, nullptr) : nullptr;
}

struct Description {
  const char* name;
  const char* doc;
  reprfunc repr;
  PyGetSetDef* fields;
  std::initializer_list<const char*> match_args;
  ternaryfunc call = nullptr;
};

PyRef make_identifier_type(PyObject* module, const Description& description) noexcept {
  PyType_Slot slots[] = {
      {Py_tp_doc, const_cast<char*>(description.doc)},
      {Py_tp_dealloc, reinterpret_cast<void*>(free_object)},
      {Py_tp_repr, reinterpret_cast<void*>(description.repr)},
      {Py_tp_hash, reinterpret_cast<void*>(identifier_hash)},
      {Py_tp_richcompare, reinterpret_cast<void*>(identifier_compare)},
      {Py_tp_getset, description.fields},
      {Py_tp_methods, identifier_methods},
      // Where there is nothing to call, a second slot of a kind that is there already would be an error.
      {description.call ? Py_tp_call : 0, reinterpret_cast<void*>(description.call)},
      {0, nullptr},
  };
  PyType_Spec spec = {
      description.name,
      sizeof(IdentifierObject),
      1,
      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
      slots,
  };
  return make_type(module, spec, description.match_args);
}

}  // namespace

int init_identifiers(ModuleState& state, PyObject* module) noexcept {
  state.pid_type =
      make_identifier_type(module, {"typhon.Pid",
                                    "A process of the BEAM. Opaque and immutable; goes back as it came.",
                                    pid_repr,
                                    pid_fields,
                                    {"node", "id", "serial", "creation"}});
  state.reference_type =
      make_identifier_type(module, {"typhon.Reference",
                                    "A reference of the BEAM. Opaque and immutable; goes back as it came.",
                                    reference_repr,
                                    reference_fields,
                                    {"node", "ids", "creation"}});
  state.port_type =
      make_identifier_type(module, {"typhon.Port",
                                    "A port of the BEAM. Opaque and immutable; goes back as it came.",
                                    port_repr,
                                    port_fields,
                                    {"node", "id", "creation"}});
  state.fun_type = make_identifier_type(
      module, {"typhon.Fun",
               "A function of the BEAM. Calling it runs it there, in the process that made "
               "the call which Python serves. Immutable; goes back as it came.",
               fun_repr,
               fun_fields,
               {"module", "function", "arity"},
               fun_call});
  return state.pid_type && state.reference_type && state.port_type && state.fun_type ? 0 : -1;
}

PyObject* make_pid(ModuleState& state, const etf::PidView& view) noexcept {
  Hasher hash;
  hash.add(view.node);
  hash.add(std::uint64_t{view.id} << 32 | view.serial);
  hash.add(view.creation);
  return make(state.pid_type, IdentifierKind::kPid, view.raw, hash);
}

PyObject* make_reference(ModuleState& state, const etf::ReferenceView& view) noexcept {
  Hasher hash;
  hash.add(view.node);
  hash.add(view.words);
  hash.add(view.creation);
  return make(state.reference_type, IdentifierKind::kReference, view.raw, hash);
}

PyObject* make_port(ModuleState& state, const etf::PortView& view) noexcept {
  Hasher hash;
  hash.add(view.node);
  hash.add(view.id);
  hash.add(view.creation);
  return make(state.port_type, IdentifierKind::kPort, view.raw, hash);
}

PyObject* make_export(ModuleState& state, const etf::ExportView& view) noexcept {
  Hasher hash;
  hash.add(view.module);
  hash.add(view.function);
  hash.add(view.arity);
  return make(state.fun_type, IdentifierKind::kFun, view.raw, hash);
}

PyObject* make_fun(ModuleState& state, const etf::FunView& view) noexcept {
  Hasher hash;
  hash.add(view.raw);
  return make(state.fun_type, IdentifierKind::kFun, view.raw, hash);
}

}  // namespace typhon::python

#include "python/types/values.h"

#include "python/module_state.h"
#include "python/types/heap_type.h"

#include <cstddef>

namespace typhon::python {
namespace {

PyTypeObject* as_type(PyBorrowed type) noexcept { return reinterpret_cast<PyTypeObject*>(type.get()); }

// --- BitString ---

PyObject* new_bit_string(PyTypeObject* type, PyRef data, Py_ssize_t bit_size) noexcept {
  PyObject* const object = PyType_GenericAlloc(type, 0);
  if (object == nullptr) return nullptr;
  BitStringObject::of(object)->data = data.release();
  BitStringObject::of(object)->bit_size = bit_size;
  return object;
}

// A copy of `size` bytes with the bits beyond `bit_size` cleared.
PyRef masked(const char* from, Py_ssize_t bit_size) noexcept {
  const Py_ssize_t size = (bit_size + 7) / 8;
  PyRef data = PyRef::steal(PyBytes_FromStringAndSize(from, size));
  if (data && bit_size % 8 != 0) {
    char* const last = PyBytes_AsString(data.get()) + size - 1;
    const auto wanted =
        static_cast<unsigned char>(static_cast<unsigned char>(*last) & 0xFF00u >> bit_size % 8);
    if (size > 1) {
      *last = static_cast<char>(wanted);
    } else {  // bytes of one byte are shared objects: never write into them
      const char one = static_cast<char>(wanted);
      data = PyRef::steal(PyBytes_FromStringAndSize(&one, 1));
    }
  }
  return data;
}

PyObject* bit_string_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) noexcept {
  static const char* const kNames[] = {"data", "bit_size", nullptr};
  Py_buffer buffer;
  Py_ssize_t bit_size = 0;
  if (PyArg_ParseTupleAndKeywords(args, kwargs, "y*n:BitString", const_cast<char**>(kNames), &buffer,
                                  &bit_size) == 0) {
    return nullptr;
  }
  PyRef data;
  if (bit_size < 0 || (bit_size + 7) / 8 != buffer.len) {
    PyErr_Format(PyExc_ValueError, "a bit string of %zd bits has %zd bytes of data, not %zd", bit_size,
                 bit_size < 0 ? 0 : (bit_size + 7) / 8, buffer.len);
  } else {
    data = masked(static_cast<const char*>(buffer.buf), bit_size);
  }
  PyBuffer_Release(&buffer);
  return data ? new_bit_string(type, std::move(data), bit_size) : nullptr;
}

void bit_string_dealloc(PyObject* self) noexcept {
  if (PyObject* const data = BitStringObject::of(self)->data; data != nullptr) drop(data);
  free_object(self);
}

PyObject* bit_string_repr(PyObject* self) noexcept {
  return PyUnicode_FromFormat("BitString(%R, %zd)", BitStringObject::of(self)->data,
                              BitStringObject::of(self)->bit_size);
}

Py_hash_t bit_string_hash(PyObject* self) noexcept {
  const Py_hash_t hash =
      PyObject_Hash(BitStringObject::of(self)->data) ^ (BitStringObject::of(self)->bit_size + 1);
  return hash == -1 ? -2 : hash;
}

PyObject* bit_string_compare(PyObject* self, PyObject* other, int operation) noexcept {
  if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(self) != Py_TYPE(other)) {
    return take(Py_NotImplemented);
  }
  int equal = BitStringObject::of(self)->bit_size == BitStringObject::of(other)->bit_size ? 1 : 0;
  if (equal == 1)
    equal =
        PyObject_RichCompareBool(BitStringObject::of(self)->data, BitStringObject::of(other)->data, Py_EQ);
  if (equal < 0) return nullptr;
  return take((equal == 1) == (operation == Py_EQ) ? Py_True : Py_False);
}

Py_ssize_t bit_string_length(PyObject* self) noexcept { return BitStringObject::of(self)->bit_size; }

PyObject* bit_string_get_data(PyObject* self, void*) noexcept {
  return take(BitStringObject::of(self)->data);
}

PyObject* bit_string_get_bit_size(PyObject* self, void*) noexcept {
  return PyLong_FromSsize_t(BitStringObject::of(self)->bit_size);
}

PyObject* bit_string_reduce(PyObject* self, PyObject*) noexcept {
  return Py_BuildValue("(O(On))", reinterpret_cast<PyObject*>(Py_TYPE(self)), BitStringObject::of(self)->data,
                       BitStringObject::of(self)->bit_size);
}

PyGetSetDef bit_string_getset[] = {
    {"data", bit_string_get_data, nullptr, "The bits as bytes, the unused ones at the end zero.", nullptr},
    {"bit_size", bit_string_get_bit_size, nullptr, "How many bits.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMethodDef bit_string_methods[] = {
    {"__reduce__", bit_string_reduce, METH_NOARGS, nullptr},
    {"__copy__", return_self, METH_NOARGS, nullptr},
    {"__deepcopy__", return_self, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

constexpr const char* kBitStringDoc =
    "BitString(data, bit_size)\n--\n\n"
    "A bit string of the BEAM: the first `bit_size` bits of `data`, which has just as many bytes as they "
    "need.\n\n"
    "len() is the number of bits. Raises ValueError when data has another length.";

PyType_Slot bit_string_slots[] = {
    {Py_tp_doc, const_cast<char*>(kBitStringDoc)},
    {Py_tp_new, reinterpret_cast<void*>(bit_string_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(bit_string_dealloc)},
    {Py_tp_repr, reinterpret_cast<void*>(bit_string_repr)},
    {Py_tp_hash, reinterpret_cast<void*>(bit_string_hash)},
    {Py_tp_richcompare, reinterpret_cast<void*>(bit_string_compare)},
    {Py_sq_length, reinterpret_cast<void*>(bit_string_length)},
    {Py_tp_getset, bit_string_getset},
    {Py_tp_methods, bit_string_methods},
    {0, nullptr},
};

PyType_Spec bit_string_spec = {"typhon.BitString", sizeof(BitStringObject), 0, Py_TPFLAGS_DEFAULT,
                               bit_string_slots};

// --- ImproperList ---

PyObject* improper_list_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) noexcept {
  static const char* const kNames[] = {"items", "tail", nullptr};
  PyObject* items = nullptr;
  PyObject* tail = nullptr;
  if (PyArg_ParseTupleAndKeywords(args, kwargs, "OO:ImproperList", const_cast<char**>(kNames), &items,
                                  &tail) == 0) {
    return nullptr;
  }
  PyRef tuple = PyRef::steal(PySequence_Tuple(items));
  if (!tuple) return nullptr;
  if (PyTuple_Size(tuple.get()) == 0) {
    PyErr_SetString(PyExc_ValueError, "an improper list has at least one item before its tail");
    return nullptr;
  }
  if (PyList_Check(tail) || Py_TYPE(tail) == type) {
    PyErr_SetString(PyExc_ValueError, "the tail of an improper list is no list");
    return nullptr;
  }
  return make_improper_list(ModuleState::of_type(type), std::move(tuple), PyRef::borrow(tail));
}

int improper_list_traverse(PyObject* self, visitproc visit, void* arg) noexcept {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(ImproperListObject::of(self)->items);
  Py_VISIT(ImproperListObject::of(self)->tail);
  return 0;
}

// Immutable, but a mutable tail or item can refer back to it: the cycle is broken there, so tp_clear is not
// needed.
void improper_list_dealloc(PyObject* self) noexcept {
  PyTypeObject* const type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  PyObject* const items = ImproperListObject::of(self)->items;
  PyObject* const tail = ImproperListObject::of(self)->tail;
  PyObject_GC_Del(self);
  if (items != nullptr) drop(items);
  if (tail != nullptr) drop(tail);
  drop(reinterpret_cast<PyObject*>(type));
}

PyObject* improper_list_repr(PyObject* self) noexcept {
  const int entered = Py_ReprEnter(self);
  if (entered != 0) return entered > 0 ? PyUnicode_FromString("ImproperList(...)") : nullptr;
  PyObject* const text = PyUnicode_FromFormat("ImproperList(%R, %R)", ImproperListObject::of(self)->items,
                                              ImproperListObject::of(self)->tail);
  Py_ReprLeave(self);
  return text;
}

Py_hash_t improper_list_hash(PyObject* self) noexcept {
  const PyRef pair =
      PyRef::steal(PyTuple_Pack(2, ImproperListObject::of(self)->items, ImproperListObject::of(self)->tail));
  if (!pair) return -1;
  const Py_hash_t hash = PyObject_Hash(pair.get());
  return hash == -1 ? -1 : hash == -3 ? -4 : hash ^ 2;
}

PyObject* improper_list_compare(PyObject* self, PyObject* other, int operation) noexcept {
  if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(self) != Py_TYPE(other)) {
    return take(Py_NotImplemented);
  }
  int equal = PyObject_RichCompareBool(ImproperListObject::of(self)->items,
                                       ImproperListObject::of(other)->items, Py_EQ);
  if (equal == 1) {
    equal = PyObject_RichCompareBool(ImproperListObject::of(self)->tail, ImproperListObject::of(other)->tail,
                                     Py_EQ);
  }
  if (equal < 0) return nullptr;
  return take((equal == 1) == (operation == Py_EQ) ? Py_True : Py_False);
}

PyObject* improper_list_get_items(PyObject* self, void*) noexcept {
  return take(ImproperListObject::of(self)->items);
}

PyObject* improper_list_get_tail(PyObject* self, void*) noexcept {
  return take(ImproperListObject::of(self)->tail);
}

PyObject* improper_list_reduce(PyObject* self, PyObject*) noexcept {
  return Py_BuildValue("(O(OO))", reinterpret_cast<PyObject*>(Py_TYPE(self)),
                       ImproperListObject::of(self)->items, ImproperListObject::of(self)->tail);
}

PyGetSetDef improper_list_getset[] = {
    {"items", improper_list_get_items, nullptr, "The elements before the tail, a tuple.", nullptr},
    {"tail", improper_list_get_tail, nullptr, "What the last cell points to instead of [].", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMethodDef improper_list_methods[] = {
    {"__reduce__", improper_list_reduce, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

constexpr const char* kImproperListDoc =
    "ImproperList(items, tail)\n--\n\n"
    "A list of the BEAM that does not end in []: [items... | tail].\n\n"
    "Immutable, and hashable when its items and tail are. Raises ValueError when items is empty or tail is a "
    "list.";

PyType_Slot improper_list_slots[] = {
    {Py_tp_doc, const_cast<char*>(kImproperListDoc)},
    {Py_tp_new, reinterpret_cast<void*>(improper_list_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(improper_list_dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(improper_list_traverse)},
    {Py_tp_repr, reinterpret_cast<void*>(improper_list_repr)},
    {Py_tp_hash, reinterpret_cast<void*>(improper_list_hash)},
    {Py_tp_richcompare, reinterpret_cast<void*>(improper_list_compare)},
    {Py_tp_getset, improper_list_getset},
    {Py_tp_methods, improper_list_methods},
    {0, nullptr},
};

PyType_Spec improper_list_spec = {"typhon.ImproperList", sizeof(ImproperListObject), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, improper_list_slots};

// --- Kept ---

PyObject* kept_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) noexcept {
  PyObject* value = nullptr;
  if (kwargs != nullptr && PyDict_Size(kwargs) != 0) {
    PyErr_SetString(PyExc_TypeError, "Kept() takes no keyword arguments");
    return nullptr;
  }
  if (PyArg_ParseTuple(args, "O:Kept", &value) == 0) return nullptr;
  PyObject* const object = PyType_GenericAlloc(type, 0);
  if (object != nullptr) KeptObject::of(object)->value = take(value);
  return object;
}

int kept_traverse(PyObject* self, visitproc visit, void* arg) noexcept {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(KeptObject::of(self)->value);
  return 0;
}

// Immutable, and what it holds cannot refer to it from its making on: whoever makes a cycle makes it through
// something that has a tp_clear.
void kept_dealloc(PyObject* self) noexcept {
  PyTypeObject* const type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  PyObject* const value = KeptObject::of(self)->value;
  PyObject_GC_Del(self);
  if (value != nullptr) drop(value);
  drop(reinterpret_cast<PyObject*>(type));
}

PyObject* kept_get_value(PyObject* self, void*) noexcept { return take(KeptObject::of(self)->value); }

PyGetSetDef kept_getset[] = {
    {"value", kept_get_value, nullptr, "What is kept.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

constexpr const char* kKeptDoc =
    "Kept(value)\n--\n\n"
    "Around a result that stays in Python, whatever it is: the BEAM gets a handle of `value`.";

PyType_Slot kept_slots[] = {
    {Py_tp_doc, const_cast<char*>(kKeptDoc)},
    {Py_tp_new, reinterpret_cast<void*>(kept_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(kept_dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(kept_traverse)},
    {Py_tp_getset, kept_getset},
    {0, nullptr},
};

PyType_Spec kept_spec = {"typhon._native.Kept", sizeof(KeptObject), 0,
                         Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, kept_slots};

}  // namespace

int init_values(ModuleState& state, PyObject* module) noexcept {
  state.bit_string_type = make_type(module, bit_string_spec, {"data", "bit_size"});
  state.improper_list_type = make_type(module, improper_list_spec, {"items", "tail"});
  state.kept_type = make_type(module, kept_spec, {"value"});
  return state.bit_string_type && state.improper_list_type && state.kept_type ? 0 : -1;
}

PyObject* make_bit_string(ModuleState& state, etf::Bytes bytes, unsigned bits_in_last_byte) noexcept {
  const auto bit_size = static_cast<Py_ssize_t>((bytes.size() - 1) * 8 + bits_in_last_byte);
  PyRef data = masked(reinterpret_cast<const char*>(bytes.data()), bit_size);
  return data ? new_bit_string(as_type(state.bit_string_type), std::move(data), bit_size) : nullptr;
}

PyObject* make_improper_list(ModuleState& state, PyRef items, PyRef tail) noexcept {
  PyObject* const object = PyType_GenericAlloc(as_type(state.improper_list_type), 0);
  if (object == nullptr) return nullptr;
  ImproperListObject::of(object)->items = items.release();
  ImproperListObject::of(object)->tail = tail.release();
  return object;
}

}  // namespace typhon::python

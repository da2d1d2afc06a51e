// Values of other classes than the plain builtins: what each is, and how it is written. Which struct stands
// for what is specified in docs/internals.md.
#include "python/encode/encoder.h"

#include "python/errors.h"
#include "python/types/big_integer.h"
#include "python/types/object_table.h"
#include "python/types/values.h"

#include <bit>
#include <functional>
#include <new>
#include <utility>

namespace typhon::python {
namespace {

bool is_subtype(PyTypeObject* type, PyBorrowed base) noexcept {
  return base && PyType_IsSubtype(type, reinterpret_cast<PyTypeObject*>(base.get())) != 0;
}

// An attribute of a class. Empty: it has none, whatever a property of its metaclass raises; or an exception
// is set that must be passed on.
PyRef class_attribute(const ModuleState& state, PyTypeObject* type, const char* name) noexcept {
  PyRef value = attribute_of_class(type, name);
  if (!value && PyErr_ExceptionMatches(PyExc_MemoryError) == 0 &&
      PyErr_ExceptionMatches(state.cancelled.get()) == 0) {
    PyErr_Clear();
  }
  return value;
}

// The fields of a class of pydantic's, a dict; empty as above. Before 2.10 they had another name.
PyRef model_fields(const ModuleState& state, PyTypeObject* type) noexcept {
  if (!class_attribute(state, type, "__pydantic_validator__")) return {};
  PyRef fields = class_attribute(state, type, "__pydantic_fields__");
  if (!fields && PyErr_Occurred() == nullptr) fields = class_attribute(state, type, "model_fields");
  return fields && PyDict_Check(fields.get()) != 0 ? std::move(fields) : PyRef();
}

// Classes that keep a list of their fields. kObject: this one does not; kUnknown: an exception is set.
EncodeKind described_kind(const ModuleState& state, PyTypeObject* type) noexcept {
  const PyRef dataclass = class_attribute(state, type, "__dataclass_fields__");
  if (dataclass && PyDict_Check(dataclass.get()) != 0) return EncodeKind::kDataclass;
  if (PyErr_Occurred() != nullptr) return EncodeKind::kUnknown;
  const PyRef attrs = class_attribute(state, type, "__attrs_attrs__");
  if (attrs && PyTuple_Check(attrs.get()) != 0) return EncodeKind::kAttrs;
  if (PyErr_Occurred() == nullptr && model_fields(state, type)) return EncodeKind::kModel;
  return PyErr_Occurred() == nullptr ? EncodeKind::kObject : EncodeKind::kUnknown;
}

// What a model holds beyond its fields, where its class allows that: a dict. Empty, without an exception:
// none.
PyRef extra_fields(PyBorrowed model) noexcept {
  PyRef extra = PyRef::steal(PyObject_GetAttrString(model.get(), "__pydantic_extra__"));
  if (extra && PyDict_Check(extra.get()) != 0) return extra;
  if (!extra && !must_propagate()) PyErr_Clear();
  return {};
}

}  // namespace

// NaT, NA and masked have classes of their own. NaT's derives from datetime and that of masked from ndarray:
// these are asked for first.
bool Encoder::is_missing(PyTypeObject* type) noexcept {
  for (const Lazy which : {Lazy::kPandasNaT, Lazy::kPandasNA, Lazy::kNumpyMasked}) {
    const PyBorrowed missing = state_.imports.if_loaded(which);
    if (missing && Py_TYPE(missing.get()) == type) return true;
  }
  return false;
}

// kUnknown with an exception set when that fails. A class is asked by what it derives from, without its own
// hooks.
EncodeKind Encoder::classify(PyBorrowed object) noexcept {
  PyTypeObject* const type = Py_TYPE(object.get());
  LazyImports& imports = state_.imports;
  if (state_.conversions.encoders_version() != 0 && !is_missing(type)) {
    if (state_.conversions.encoder_of(type)) return EncodeKind::kConverted;
    if (PyErr_Occurred() != nullptr) return EncodeKind::kUnknown;
  }
  if (is_subtype(type, imports.if_loaded(Lazy::kEnum))) return EncodeKind::kEnum;
  const unsigned long flags = PyType_GetFlags(type);
  if ((flags & Py_TPFLAGS_LONG_SUBCLASS) != 0) return EncodeKind::kInteger;
  if ((flags & Py_TPFLAGS_UNICODE_SUBCLASS) != 0) return EncodeKind::kText;
  if ((flags & Py_TPFLAGS_BYTES_SUBCLASS) != 0) return EncodeKind::kBytes;
  if ((flags & Py_TPFLAGS_LIST_SUBCLASS) != 0) return EncodeKind::kList;
  if ((flags & Py_TPFLAGS_TUPLE_SUBCLASS) != 0) return EncodeKind::kTuple;
  if ((flags & Py_TPFLAGS_DICT_SUBCLASS) != 0) return EncodeKind::kDict;
  if (is_missing(type)) return EncodeKind::kMissing;
  const struct {
    PyBorrowed base;
    EncodeKind kind;
  } bases[] = {
      {reinterpret_cast<PyObject*>(&PyFloat_Type), EncodeKind::kFloat},
      {reinterpret_cast<PyObject*>(&PyComplex_Type), EncodeKind::kComplex},
      {reinterpret_cast<PyObject*>(&PySet_Type), EncodeKind::kSet},
      {reinterpret_cast<PyObject*>(&PyFrozenSet_Type), EncodeKind::kSet},
      {reinterpret_cast<PyObject*>(&PyByteArray_Type), EncodeKind::kBuffer},
      {reinterpret_cast<PyObject*>(&PyMemoryView_Type), EncodeKind::kBuffer},
      {reinterpret_cast<PyObject*>(&PyRange_Type), EncodeKind::kRange},
      {state_.pid_type, EncodeKind::kIdentifier},
      {state_.reference_type, EncodeKind::kIdentifier},
      {state_.port_type, EncodeKind::kIdentifier},
      {state_.fun_type, EncodeKind::kIdentifier},
      {state_.bit_string_type, EncodeKind::kBitString},
      {state_.improper_list_type, EncodeKind::kImproperList},
      {state_.kept_type, EncodeKind::kKept},
      {imports.if_loaded(Lazy::kDateTime), EncodeKind::kDateTime},
      {imports.if_loaded(Lazy::kDate), EncodeKind::kDate},
      {imports.if_loaded(Lazy::kTime), EncodeKind::kTime},
      {imports.if_loaded(Lazy::kTimeDelta), EncodeKind::kTimeDelta},
      {imports.if_loaded(Lazy::kDecimal), EncodeKind::kDecimal},
      {imports.if_loaded(Lazy::kFraction), EncodeKind::kFraction},
      {imports.if_loaded(Lazy::kUuid), EncodeKind::kUuid},
      {imports.if_loaded(Lazy::kPurePath), EncodeKind::kPath},
      {imports.if_loaded(Lazy::kNumpyArray), EncodeKind::kNumpyArray},
  };
  for (const auto& entry : bases) {
    if (is_subtype(type, entry.base)) return entry.kind;
  }
  if (is_subtype(type, imports.if_loaded(Lazy::kNumpyGeneric))) return numpy_kind(object);
  const EncodeKind described = described_kind(state_, type);
  if (described != EncodeKind::kObject) return described;
  if (is_subtype(type, imports.if_loaded(Lazy::kPathLike))) return EncodeKind::kPath;
  return EncodeKind::kObject;
}

// --- text that is no UTF-8 ---

namespace {

// As UTF-8, with U+FFFD for each lone surrogate. New reference, or null with an exception set.
PyObject* replace_surrogates(PyBorrowed text) noexcept {
  constexpr Py_UCS4 kReplacement = 0xFFFD;
  const Py_ssize_t size = PyUnicode_GetLength(text.get());
  Py_UCS4* const characters = PyUnicode_AsUCS4Copy(text.get());
  if (characters == nullptr) return nullptr;
  for (Py_ssize_t i = 0; i < size; ++i) {
    if (characters[i] >= 0xD800 && characters[i] <= 0xDFFF) characters[i] = kReplacement;
  }
  int order = std::endian::native == std::endian::little ? -1 : 1;
  const PyRef replaced = PyRef::steal(PyUnicode_DecodeUTF32(
      reinterpret_cast<const char*>(characters), size * Py_ssize_t{sizeof(Py_UCS4)}, nullptr, &order));
  PyMem_Free(characters);
  return replaced ? PyUnicode_AsUTF8String(replaced.get()) : nullptr;
}

}  // namespace

// UTF-8 cannot hold `text`, and an exception says so. What goes out may be that of another key.
Encoder::Did Encoder::put_surrogates(PyBorrowed text, bool is_key) noexcept {
  const bool replaces = options_.surrogates == Surrogates::kReplace;
  if ((!replaces && options_.surrogates != Surrogates::kBytes) ||
      PyErr_ExceptionMatches(PyExc_UnicodeEncodeError) == 0) {
    return refuse_text(text);
  }
  PyErr_Clear();
  const PyRef bytes =
      PyRef::steal(replaces ? replace_surrogates(text)
                            : PyUnicode_AsEncodedString(text.get(), "utf-8", "surrogateescape"));
  if (!bytes) return refuse_text(text);
  const std::size_t begin = writer_.position();
  const Did did = put_bytes(bytes);
  return is_key && did == Did::kWritten ? done(note_check(text, begin)) : did;
}

// --- binaries ---

Encoder::Did Encoder::put_bytes(PyBorrowed object) noexcept {
  char* data = nullptr;
  Py_ssize_t size = 0;
  if (PyBytes_AsStringAndSize(object.get(), &data, &size) != 0) return Did::kFailed;
  const etf::Bytes bytes(reinterpret_cast<const std::uint8_t*>(data), static_cast<std::size_t>(size));
  Did did{};
  return try_lend(object, bytes, did) ? did : done(writer_.binary(bytes));
}

// Not in keys: these are compared as they are written.
bool Encoder::may_lend(std::size_t size) const noexcept {
  if (options_.lender == nullptr || size < options_.lender->at_least()) return false;
  for (std::uint32_t i = 0; i < depth_; ++i) {
    if (frames_[i].in_key) return false;
  }
  return true;
}

// True, with what came of it, when the bytes go beside the term. `owner` is immutable.
bool Encoder::try_lend(PyBorrowed owner, etf::Bytes bytes, Did& did) noexcept {
  std::uint32_t index = 0;
  if (!may_lend(bytes.size()) || !options_.lender->lend(owner.get(), bytes, index)) return false;
  did = done(writer_.lent(index));
  return true;
}

// The object that a view is made of, through views of views, when nobody can change its bytes. Empty, without
// an exception, when somebody can.
PyRef Encoder::immutable_owner(PyBorrowed object) noexcept {
  constexpr int kMostViews = 16;
  PyRef at = PyRef::borrow(object.get());
  for (int i = 0; i < kMostViews && at && at.get() != Py_None; ++i) {
    if (options_.lender->is_immutable(at.get())) return at;
    const bool view = PyMemoryView_Check(at.get()) != 0;
    auto* const type = reinterpret_cast<PyObject*>(Py_TYPE(at.get()));
    if (!view && type != state_.imports.if_loaded(Lazy::kNumpyArray).get()) break;
    at = PyRef::steal(PyObject_GetAttrString(at.get(), view ? "obj" : "base"));
  }
  PyErr_Clear();
  return {};
}

bool Encoder::try_lend_buffer(PyBorrowed object, const Py_buffer& buffer, Did& did) noexcept {
  if (buffer.readonly == 0 || !may_lend(static_cast<std::size_t>(buffer.len)) ||
      PyBuffer_IsContiguous(&buffer, 'C') == 0) {
    return false;
  }
  const PyRef owner = immutable_owner(object);
  Py_buffer whole;
  if (!owner || PyObject_GetBuffer(owner.get(), &whole, PyBUF_SIMPLE) != 0) {
    PyErr_Clear();
    return false;
  }
  const auto* const begin = static_cast<const std::uint8_t*>(buffer.buf);
  const auto* const of = static_cast<const std::uint8_t*>(whole.buf);
  const std::less_equal<> before;
  const bool inside = before(of, begin) && before(begin + buffer.len, of + whole.len);
  PyBuffer_Release(&whole);
  return inside && try_lend(owner, {begin, static_cast<std::size_t>(buffer.len)}, did);
}

Encoder::Did Encoder::put_buffer(PyBorrowed object) noexcept {
  Py_buffer buffer;
  if (PyObject_GetBuffer(object.get(), &buffer, PyBUF_FULL_RO) != 0)
    return refuse_exception(object, "its bytes");
  if (Did did{}; try_lend_buffer(object, buffer, did)) {
    PyBuffer_Release(&buffer);
    return did;
  }
  std::uint8_t* const to = writer_.binary_in_place(static_cast<std::size_t>(buffer.len));
  const bool copied = to != nullptr && PyBuffer_ToContiguous(to, &buffer, buffer.len, 'C') == 0;
  PyBuffer_Release(&buffer);
  return done(copied);
}

Encoder::Did Encoder::put_bit_string(PyBorrowed object) noexcept {
  const BitStringObject* const bits = BitStringObject::of(object.get());
  const auto last = static_cast<unsigned>(bits->bit_size % 8);
  return done(writer_.bits(etf::Bytes(reinterpret_cast<const std::uint8_t*>(PyBytes_AsString(bits->data)),
                                      static_cast<std::size_t>(PyBytes_Size(bits->data))),
                           last == 0 ? 8 : last));
}

// --- numbers that the BEAM has not, as tuples that name them ---

bool Encoder::put_double(double value) noexcept {
  if (std::isfinite(value)) return writer_.floating(value);
  return put_known(std::isnan(value) ? Known::kNan : value > 0 ? Known::kInfinity : Known::kNegInfinity);
}

Encoder::Did Encoder::put_fraction(PyBorrowed object) noexcept {
  const PyRef numerator = PyRef::steal(PyObject_GetAttrString(object.get(), "numerator"));
  const PyRef denominator =
      PyRef::steal(numerator ? PyObject_GetAttrString(object.get(), "denominator") : nullptr);
  if (!denominator) return refuse_exception(object, "a Fraction");
  if (PyLong_Check(numerator.get()) == 0 || PyLong_Check(denominator.get()) == 0)
    return refuse(object, "a Fraction whose numerator and denominator are not both integers");
  return done(writer_.tuple_header(3) && put_known(Known::kFraction) && put_integer(numerator) &&
              put_integer(denominator));
}

// numpy's are no complex of Python's, but for one of them.
Encoder::Did Encoder::put_complex(PyBorrowed object) noexcept {
  double parts[2] = {0, 0};
  if (PyComplex_Check(object.get()) != 0) {
    parts[0] = PyComplex_RealAsDouble(object.get());
    parts[1] = PyComplex_ImagAsDouble(object.get());
  } else {
    constexpr const char* kNames[] = {"real", "imag"};
    for (std::size_t i = 0; i < 2; ++i) {
      const PyRef part = PyRef::steal(PyObject_GetAttrString(object.get(), kNames[i]));
      parts[i] = part ? PyFloat_AsDouble(part.get()) : -1;
      if (parts[i] == -1 && PyErr_Occurred() != nullptr) return refuse_exception(object, "a complex number");
    }
  }
  return done(writer_.tuple_header(3) && put_known(Known::kComplex) && put_double(parts[0]) &&
              put_double(parts[1]));
}

// --- what is written as text ---

// As 36 characters, whatever __str__ a class derived from UUID has.
Encoder::Did Encoder::put_uuid(PyBorrowed object) noexcept {
  const PyBorrowed to_text = state_.imports.get(Lazy::kUuidText);
  const PyRef text =
      PyRef::steal(to_text ? PyObject_CallFunctionObjArgs(to_text.get(), object.get(), nullptr) : nullptr);
  if (!text || PyUnicode_Check(text.get()) == 0) return refuse_exception(object, "a UUID");
  return put_text(text.get());
}

Encoder::Did Encoder::put_path(PyBorrowed object) noexcept {
  const PyRef path = PyRef::steal(PyOS_FSPath(object.get()));
  if (!path) return refuse_exception(object, "a path");
  return PyUnicode_Check(path.get()) != 0 ? put_text(path.get()) : put_bytes(path);
}

// --- integers ---

bool Encoder::put_integer(PyBorrowed integer) noexcept {
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(integer.get(), &overflow);
  if (overflow != 0) return write_big_integer(state_, integer.get(), writer_);
  return (value != -1 || PyErr_Occurred() == nullptr) && writer_.integer(value);
}

PyRef Encoder::attribute(PyBorrowed object, Known name) noexcept {
  return PyRef::steal(PyObject_GetAttr(object.get(), AtomObject::of(state_.known(name))->name));
}

// An attribute as the struct's field of the same name.
bool Encoder::put_integer_attribute(PyBorrowed object, Known name) noexcept {
  const PyRef value = attribute(object, name);
  return value && put_known(name) && put_integer(value);
}

Encoder::Did Encoder::put_range(PyBorrowed object) noexcept {
  const PyRef start = PyRef::steal(PyObject_GetAttrString(object.get(), "start"));
  const PyRef stop = PyRef::steal(start ? PyObject_GetAttrString(object.get(), "stop") : nullptr);
  const PyRef step = stop ? attribute(object, Known::kStep) : PyRef();
  const PyRef zero = PyRef::steal(step ? PyLong_FromLong(0) : nullptr);
  const int down = zero ? PyObject_RichCompareBool(step.get(), zero.get(), Py_LT) : -1;
  const PyRef one = PyRef::steal(down < 0 ? nullptr : PyLong_FromLong(down == 1 ? -1 : 1));
  const PyRef last = PyRef::steal(one ? PyNumber_Subtract(stop.get(), one.get()) : nullptr);
  if (!last) return refuse_exception(object, "a range");
  return done(put_struct(Known::kRange, 3) && put_known(Known::kFirst) && put_integer(start) &&
              put_known(Known::kLast) && put_integer(last) && put_known(Known::kStep) && put_integer(step));
}

// --- values that stand for others ---

Encoder::Did Encoder::put_enum(PyBorrowed object) noexcept {
  const PyRef value = PyRef::steal(PyObject_GetAttrString(object.get(), "_value_"));
  return value ? put_instead(object, value, "an Enum whose value is an Enum")
               : refuse_exception(object, "the value of an Enum");
}

// `what` says how one may lead to another one of its kind.
Encoder::Did Encoder::put_instead(PyBorrowed object, PyBorrowed value, const char* what) noexcept {
  constexpr std::uint32_t kMaxRedirects = 16;
  if (redirects_ == kMaxRedirects) return refuse(object, "%s, and so on without end", what);
  ++redirects_;
  const Did did = put(value.get());
  --redirects_;
  return did;
}

// What Python code has registered. A function that gives objects with an encoder without end comes to the end
// of redirects, or of the depth.
Encoder::Did Encoder::put_converted(PyBorrowed object) noexcept {
  const PyRef encoder = state_.conversions.encoder_of(Py_TYPE(object.get()));
  if (!encoder) return PyErr_Occurred() == nullptr ? put_object(object) : Did::kFailed;
  const PyRef value = PyRef::steal(PyObject_CallFunctionObjArgs(encoder.get(), object.get(), nullptr));
  if (!value) return refuse_encoder(object, encoder, "raised");
  if (value.get() == object.get()) return refuse_encoder(object, encoder, "gave the same object again");
  return put_instead(object, value, "an encoder that gives an object with an encoder");
}

// A map of its fields, with their names as strings. They are read at once, so that this runs user code before
// the walk begins and not in the middle of it. `fields`: a tuple of names, or of objects that have one; null:
// an exception is set. `more`: a dict of what else there is, or null.
Encoder::Did Encoder::open_fields(PyRef object, PyBorrowed fields, PyBorrowed more,
                                  const char* what) noexcept {
  const PyRef snapshot = PyRef::steal(fields ? PyDict_New() : nullptr);
  if (!snapshot || PyTuple_Check(fields.get()) == 0) return refuse_exception(object, what);
  const Py_ssize_t count = PyTuple_Size(fields.get());
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* const field = PyTuple_GetItem(fields.get(), i);
    const PyRef name = PyUnicode_Check(field) != 0 ? PyRef::borrow(field)
                                                   : PyRef::steal(PyObject_GetAttrString(field, "name"));
    const PyRef value = PyRef::steal(name ? PyObject_GetAttr(object.get(), name.get()) : nullptr);
    if (!value || PyDict_SetItem(snapshot.get(), name.get(), value.get()) != 0)
      return refuse_exception(object, what);
  }
  if (more && PyDict_Update(snapshot.get(), more.get()) != 0) return refuse_exception(object, what);
  const Py_ssize_t size = PyDict_Size(snapshot.get());
  if (!writer_.map_header(static_cast<std::size_t>(size))) return Did::kFailed;
  if (size == 0) return Did::kWritten;
  return open(Shape::kFields, PyRef::borrow(snapshot), std::move(object), size);
}

Encoder::Did Encoder::open_dataclass(PyRef object) noexcept {
  const PyRef module = PyRef::steal(PyImport_ImportModule("dataclasses"));
  const PyRef fields =
      PyRef::steal(module ? PyObject_CallMethod(module.get(), "fields", "O", object.get()) : nullptr);
  return open_fields(std::move(object), fields, nullptr, "the fields of a dataclass");
}

Encoder::Did Encoder::open_attrs(PyRef object) noexcept {
  const PyRef fields = PyRef::steal(
      PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(object.get())), "__attrs_attrs__"));
  return open_fields(std::move(object), fields, nullptr, "the fields of an attrs class");
}

Encoder::Did Encoder::open_model(PyRef object) noexcept {
  const PyRef fields = model_fields(state_, Py_TYPE(object.get()));
  PyRef names = PyRef::steal(fields ? PySequence_Tuple(fields.get()) : nullptr);
  const PyRef more = names ? extra_fields(object) : PyRef();
  if (PyErr_Occurred() != nullptr) names.reset();
  return open_fields(std::move(object), names, more, "the fields of a pydantic model");
}

Encoder::Did Encoder::put_object(PyBorrowed object) noexcept {
  try {
    const std::string name = type_name(object);
    if (options_.objects == nullptr) {
      return refuse(object, "a value of type %s has no counterpart on the BEAM", name.c_str());
    }
    std::string picture;
    const bool shown = options_.painter != nullptr && options_.painter->paint(object.get(), picture);
    handles_.push_back(0);
    const std::uint64_t id = options_.objects->put(object.get());
    handles_.back() = id;
    if (id == 0) return Did::kFailed;
    return done(put_struct(Known::kObject, shown ? 3 : 2) && put_known(Known::kId) &&
                writer_.unsigned_integer(id) && put_known(Known::kType) && writer_.binary(name) &&
                (!shown || (put_known(Known::kRepr) && writer_.binary(picture))));
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return Did::kFailed;
  }
}

}  // namespace typhon::python

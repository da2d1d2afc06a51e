// Encoder: walks Python objects and writes them as one term.
//
// Containers lie on an explicit stack, so deep values cannot overflow the native one. Values of exact builtin
// types are written without running any Python code and are only borrowed from their container. Everything
// else may run code (attributes of user classes, numpy, tzinfo), which may change any container, those being
// walked included: so each container on the stack is owned, its size is checked again at every step, and
// nothing borrowed from it is used after such a value.
//
// Without a GIL another thread may change any list, dict or set at any moment. There the frame of one holds a
// copy, made while nobody could change it and seen by nobody else: what goes out is what it was at that
// moment.
//
// What an error text needs (the element, the key) is kept in the frames, so that the path is only made when
// one occurs.
#pragma once

#include "python/codec.h"
#include "python/cpython.h"
#include "python/module_state.h"
#include "python/path.h"
#include "python/ref.h"
#include "python/types/erlport.h"

#include "etf/writer.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace typhon::python {

class Encoder {
 public:
  Encoder(ModuleState& state, etf::Sink& sink, const EncodeOptions& options) noexcept
      : state_(state), options_(options), writer_(sink) {}
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  ~Encoder();

  // Writes `root`. False with an exception set: the sink is as it was, and what was put into the object table
  // is out.
  bool run(PyObject* root, bool with_version) noexcept;

 private:
  enum class Did : std::uint8_t {
    kWritten,
    kOpened,   // a container: a new frame is on the stack
    kFailed,   // refused, or an exception is set
    kNotLeaf,  // put_leaf() only
  };
  enum class Shape : std::uint8_t { kList, kTuple, kDict, kSet, kFields, kImproperTail };

  // One container being written. A plain structure: frames are moved by memcpy, release() drops what they
  // own.
  struct Frame {
    PyObject* container;  // owned: what is walked
    PyObject* source;     // owned: the object it was made from, when it is a snapshot; or null
    PyObject* key;  // owned: of the pair being written, when something may change the dict meanwhile; or null
    PyObject* value;   // owned: of that pair, while the key is being written; or null
    Py_ssize_t index;  // of the next element; of a dict, PyDict_Next's own
    Py_ssize_t done;   // pairs written
    Py_ssize_t size;
    std::size_t checks;  // how many checks_ there were
    std::size_t at;      // where in the sink the list starts, or the key being written
    Shape shape;
    bool in_key;
  };

  // A key or an element whose encoding another one may have, too, although they differ in Python.
  struct Check {
    PyRef key;
    std::size_t begin;  // its bytes in the sink
    std::size_t end;
  };

  [[gnu::always_inline]] inline Did put_leaf(PyObject* object) noexcept;
  // `kKey`: of a map, or an element of a set: these are compared as they are written.
  template <bool kKey = false>
  Did put_text(PyObject* text) noexcept;
  [[gnu::cold]] Did put_surrogates(PyBorrowed text, bool is_key) noexcept;
  Did put_rest(PyObject* object) noexcept;
  Did put(PyObject* object) noexcept {
    const Did did = put_leaf(object);
    return did == Did::kNotLeaf ? put_rest(object) : did;
  }
  Did put_kind(PyRef object, EncodeKind kind) noexcept;
  static Did done(bool ok) noexcept { return ok ? Did::kWritten : Did::kFailed; }

  // --- containers ---
  Did open(Shape shape, PyRef container, PyRef source, Py_ssize_t size) noexcept;
  static bool take_snapshot(PyRef& container, PyRef& source, PyObject* (*copy)(PyObject*)) noexcept;
  Did open_list(PyRef list) noexcept;
  Did open_tuple(PyRef tuple) noexcept;
  Did open_dict(PyRef dict) noexcept;
  Did open_set(PyRef set) noexcept;
  Did open_improper(PyRef list) noexcept;
  Did open_fields(PyRef object, PyBorrowed fields, PyBorrowed more, const char* what) noexcept;
  Did open_dataclass(PyRef object) noexcept;
  Did open_attrs(PyRef object) noexcept;
  Did open_model(PyRef object) noexcept;
  bool may_nest(PyBorrowed container) noexcept;
  bool grow_stack() noexcept;
  Did walk(Frame& frame) noexcept;
  Did walk_list(Frame& frame) noexcept;
  Did walk_tuple(Frame& frame) noexcept;
  Did walk_dict(Frame& frame) noexcept;
  Did walk_set(Frame& frame) noexcept;
  Did put_key(Frame& frame, PyObject* key, PyObject* value) noexcept;
  Did put_value(Frame& frame, PyRef value) noexcept;
  bool end_list(const Frame& frame) noexcept;
  void close(Frame& frame) noexcept;
  static void release(Frame& frame) noexcept;

  // --- keys that differ in Python and are one on the BEAM (encoder_keys.cpp) ---
  bool note_check(PyBorrowed key, std::size_t begin) noexcept;
  bool check_keys(Frame& frame) noexcept;
  bool check_keys_among_themselves(const Frame& frame);
  int check_key_against_others(const Frame& frame, const Check& check);
  PyObject* plain_object(std::string_view term);

  // --- the dialect of ErlPort (encoder_erlport.cpp) ---
  Did put_erlport(PyObject* object) noexcept;
  Did put_characters(PyObject* text) noexcept;
  Did put_erlport_atom(PyBorrowed atom) noexcept;
  Did put_erlport_improper(PyBorrowed list) noexcept;
  Did put_opaque(PyBorrowed object) noexcept;
  Did put_pickled(PyBorrowed object) noexcept;
  Did put_opaque_term(PyBorrowed language, PyBorrowed data) noexcept;

  // --- other classes (encoder_classes.cpp, encoder_numpy.cpp) ---
  EncodeKind classify(PyBorrowed object) noexcept;
  EncodeKind numpy_kind(PyBorrowed object) noexcept;
  bool is_missing(PyTypeObject* type) noexcept;
  Did put_bytes(PyBorrowed object) noexcept;
  bool try_lend(PyBorrowed owner, etf::Bytes bytes, Did& did) noexcept;
  bool try_lend_buffer(PyBorrowed object, const Py_buffer& buffer, Did& did) noexcept;
  PyRef immutable_owner(PyBorrowed object) noexcept;
  [[nodiscard]] bool may_lend(std::size_t size) const noexcept;
  Did put_buffer(PyBorrowed object) noexcept;
  Did put_bit_string(PyBorrowed object) noexcept;
  Did put_enum(PyBorrowed object) noexcept;
  Did put_instead(PyBorrowed object, PyBorrowed value, const char* what) noexcept;
  bool put_double(double value) noexcept;
  Did put_fraction(PyBorrowed object) noexcept;
  Did put_complex(PyBorrowed object) noexcept;
  Did put_uuid(PyBorrowed object) noexcept;
  Did put_path(PyBorrowed object) noexcept;
  Did put_converted(PyBorrowed object) noexcept;
  Did put_range(PyBorrowed object) noexcept;
  Did put_date(PyBorrowed object) noexcept;
  Did put_time(PyBorrowed object) noexcept;
  Did put_datetime(PyRef object) noexcept;
  Did put_timedelta(PyBorrowed object) noexcept;
  [[gnu::cold]] Did refuse_finer(PyBorrowed object) noexcept;
  [[gnu::cold]] Did refuse_longer(PyBorrowed object) noexcept;
  Did put_decimal(PyBorrowed object) noexcept;
  Did put_numpy_scalar(PyBorrowed object, EncodeKind kind) noexcept;
  Did put_numpy_time(PyBorrowed object) noexcept;
  Did put_numpy_delta(PyBorrowed object, PyBorrowed dtype, PyRef plain) noexcept;
  Did put_numpy_array(PyRef array) noexcept;
  Did put_array_as_list(PyBorrowed array, PyRef elements) noexcept;
  Did put_masked_array(PyBorrowed array, char kind) noexcept;
  Did refuse_structured(PyBorrowed array, PyBorrowed dtype) noexcept;
  bool put_array_data(PyBorrowed array) noexcept;
  Did put_object(PyBorrowed object) noexcept;

  bool put_struct(Known name, std::size_t fields) noexcept {
    return writer_.map_header(fields + 1) && put_known(Known::kStruct) && put_known(name);
  }
  [[nodiscard]] bool native() const noexcept { return options_.erlport == nullptr; }
  [[gnu::noinline]] bool put_constant(std::string_view atom) noexcept;
  bool put_known(Known which) noexcept {
    const AtomObject* const atom = AtomObject::of(state_.known(which));
    return writer_.raw(atom->wire());
  }
  bool put_date_fields(PyBorrowed object) noexcept;
  bool put_time_fields(PyBorrowed object) noexcept;
  bool put_integer_attribute(PyBorrowed object, Known name) noexcept;
  bool put_integer(PyBorrowed integer) noexcept;
  PyRef attribute(PyBorrowed object, Known name) noexcept;

  // --- errors (encoder_errors.cpp) ---
  // Each remembers why, and gives kFailed. An exception that is set becomes the cause.
  [[gnu::cold]] Did refuse(PyBorrowed object, const char* format, ...) noexcept
      __attribute__((format(printf, 3, 4)));
  [[gnu::cold]] Did refuse_exception(PyBorrowed object, const char* what) noexcept;
  [[gnu::cold]] Did refuse_encoder(PyBorrowed object, PyBorrowed encoder, const char* did) noexcept;
  [[gnu::cold]] Did refuse_text(PyBorrowed text) noexcept;
  // The container being walked is at fault, not what is inside it.
  [[gnu::cold]] Did refuse_changed() noexcept;
  [[gnu::cold]] bool refuse_keys(const Frame& frame, PyBorrowed one, PyBorrowed other);
  [[gnu::cold]] void raise() noexcept;
  void raise_with_path();
  std::string path_to_fault();

  static constexpr std::uint32_t kInlineFrames = 16;

  ModuleState& state_;
  const EncodeOptions& options_;
  etf::Writer writer_;
  Frame* frames_ = inline_frames_;
  std::uint32_t depth_ = 0;
  std::uint32_t capacity_ = kInlineFrames;
  std::uint32_t redirects_ = 0;  // values that stand for another value, one inside the other
  PyRef at_fault_;               // the object that was refused
  std::string reason_;
  bool at_container_ = false;  // namely the innermost one being walked
  std::vector<Check> checks_;
  std::vector<std::uint64_t> handles_;  // put into the object table
  Frame inline_frames_[kInlineFrames];
};

inline Encoder::Did Encoder::put_leaf(PyObject* object) noexcept {
  PyTypeObject* const type = Py_TYPE(object);
  if (type == &PyUnicode_Type) return put_text(object);
  if (type == &PyLong_Type) {
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow != 0) [[unlikely]]
      return done(put_integer(object));
    return done(writer_.integer(value));
  }
  if (type == &PyFloat_Type) {
    const double value = PyFloat_AsDouble(object);
    if (!std::isfinite(value)) [[unlikely]]
      return Did::kNotLeaf;
    return done(writer_.floating(value));
  }
  if (object == Py_None) return done(native() ? writer_.known_atom("nil") : put_constant("undefined"));
  if (object == Py_True) return done(native() ? writer_.known_atom("true") : put_constant("true"));
  if (object == Py_False) return done(native() ? writer_.known_atom("false") : put_constant("false"));
  return Did::kNotLeaf;
}

template <bool kKey>
inline Encoder::Did Encoder::put_text(PyObject* text) noexcept {
  if (options_.erlport != nullptr) [[unlikely]]
    return put_characters(text);
  constexpr Py_ssize_t kLong =
      1024;  // PyUnicode_AsUTF8AndSize leaves a copy in the object, unless it is ASCII
  if (PyUnicode_GetLength(text) > kLong) {
    // Runs no code of anybody's and makes nothing that the collector counts: what is borrowed stays.
    const PyRef ascii = PyRef::steal(PyObject_CallMethod(text, "isascii", nullptr));
    if (!ascii) return Did::kFailed;
    if (ascii.get() != Py_True) {
      const PyRef bytes = PyRef::steal(PyUnicode_AsUTF8String(text));
      if (!bytes) return put_surrogates(text, kKey);
      if constexpr (!kKey) return put_bytes(bytes);
      return done(writer_.binary(std::string_view(PyBytes_AsString(bytes.get()),
                                                  static_cast<std::size_t>(PyBytes_Size(bytes.get())))));
    }
  }
  Py_ssize_t size = 0;
  const char* const utf8 = PyUnicode_AsUTF8AndSize(text, &size);
  if (utf8 == nullptr) [[unlikely]]
    return put_surrogates(text, kKey);
  if constexpr (!kKey) {
    Did did{};
    // Of ASCII text these are the very bytes that the object consists of.
    if (size > kLong &&
        try_lend(text, {reinterpret_cast<const std::uint8_t*>(utf8), static_cast<std::size_t>(size)}, did))
        [[unlikely]]
      return did;
  }
  return done(writer_.binary(std::string_view(utf8, static_cast<std::size_t>(size))));
}

}  // namespace typhon::python

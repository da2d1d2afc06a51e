#include "python/encode/encoder.h"

#include "python/types/identifier.h"
#include "python/types/object_table.h"
#include "python/types/values.h"

#include <cstring>
#include <utility>

namespace typhon::python {

Encoder::~Encoder() {
  while (depth_ > 0) release(frames_[--depth_]);
  if (frames_ != inline_frames_) PyMem_Free(frames_);
}

bool Encoder::run(PyObject* root, bool with_version) noexcept {
  const std::size_t start = writer_.position();
  Did did = with_version ? done(writer_.version()) : Did::kWritten;
  if (did == Did::kWritten) did = options_.as_object ? put_object(root) : put(root);
  while (did != Did::kFailed && depth_ > 0) did = walk(frames_[depth_ - 1]);
  if (did != Did::kFailed) {
    if (options_.has_objects != nullptr) *options_.has_objects = !handles_.empty();
    return true;
  }
  raise();
  for (const std::uint64_t id : handles_) options_.objects->release(id);
  writer_.rewind(start);
  return false;
}

// Everything that is no leaf. Exact builtins first: they run no code.
Encoder::Did Encoder::put_rest(PyObject* object) noexcept {
  PyTypeObject* const type = Py_TYPE(object);
  if (type == &PyDict_Type) return open_dict(PyRef::borrow(object));
  if (type == &PyList_Type) return open_list(PyRef::borrow(object));
  if (type == &PyTuple_Type) return open_tuple(PyRef::borrow(object));
  if (options_.erlport != nullptr) [[unlikely]]
    return put_erlport(object);
  auto* const type_object = reinterpret_cast<PyObject*>(type);
  if (type_object == state_.atom_type.get()) {
    const AtomObject* const atom = AtomObject::of(object);
    return done(writer_.raw(atom->wire()));
  }
  if (type == &PyBytes_Type) return put_bytes(object);
  PyRef owned = PyRef::borrow(object);
  EncodeKind kind = state_.types.get(type);
  if (kind == EncodeKind::kUnknown) {
    const std::uint32_t version = state_.conversions.encoders_version();
    kind = classify(owned);
    if (kind == EncodeKind::kUnknown) return Did::kFailed;
    // A class may yet become something (a dataclass, by its decorator); what it is already, it stays.
    if (kind != EncodeKind::kObject) state_.types.put(type, kind);
    // Unless another thread has just registered an encoder: it has forgotten all classes before this one
    // came.
    if (version != state_.conversions.encoders_version()) state_.types.clear();
  }
  return put_kind(std::move(owned), kind);
}

Encoder::Did Encoder::put_kind(PyRef object, EncodeKind kind) noexcept {
  switch (kind) {
    case EncodeKind::kInteger:
      return done(put_integer(object));
    case EncodeKind::kFloat:
      return done(put_double(PyFloat_AsDouble(object.get())));
    case EncodeKind::kText:
      return put_text(object.get());
    case EncodeKind::kBytes:
      return put_bytes(object);
    case EncodeKind::kBuffer:
      return put_buffer(object);
    case EncodeKind::kList:
      return open_list(std::move(object));
    case EncodeKind::kTuple:
      return open_tuple(std::move(object));
    case EncodeKind::kDict:
      return open_dict(std::move(object));
    case EncodeKind::kSet:
      return open_set(std::move(object));
    case EncodeKind::kRange:
      return put_range(object);
    case EncodeKind::kIdentifier:
      return done(writer_.raw(IdentifierObject::of(object.get())->bytes()));
    case EncodeKind::kBitString:
      return put_bit_string(object);
    case EncodeKind::kImproperList:
      return open_improper(std::move(object));
    case EncodeKind::kKept:
      return put_object(KeptObject::of(object.get())->value);
    case EncodeKind::kEnum:
      return put_enum(object);
    case EncodeKind::kDataclass:
      return open_dataclass(std::move(object));
    case EncodeKind::kAttrs:
      return open_attrs(std::move(object));
    case EncodeKind::kModel:
      return open_model(std::move(object));
    case EncodeKind::kDate:
      return put_date(object);
    case EncodeKind::kTime:
      return put_time(object);
    case EncodeKind::kDateTime:
      return put_datetime(std::move(object));
    case EncodeKind::kTimeDelta:
      return put_timedelta(object);
    case EncodeKind::kDecimal:
      return put_decimal(object);
    case EncodeKind::kFraction:
      return options_.tagged ? put_fraction(object) : put_object(object);
    case EncodeKind::kComplex:
      return options_.tagged ? put_complex(object) : put_object(object);
    case EncodeKind::kUuid:
      return put_uuid(object);
    case EncodeKind::kPath:
      return put_path(object);
    case EncodeKind::kNumpyBool:
    case EncodeKind::kNumpyInteger:
    case EncodeKind::kNumpyFloat:
      return put_numpy_scalar(object, kind);
    case EncodeKind::kNumpyTime:
      return put_numpy_time(object);
    case EncodeKind::kMissing:
      return done(writer_.known_atom("nil"));
    case EncodeKind::kNumpyArray:
      return put_numpy_array(std::move(object));
    case EncodeKind::kConverted:
      return put_converted(object);
    case EncodeKind::kObject:
      return put_object(object);
    case EncodeKind::kUnknown:
      break;
  }
  return Did::kFailed;
}

// --- opening ---

// Without a GIL: `container` becomes a copy of itself, and `source` what it was. False with an exception set.
bool Encoder::take_snapshot(PyRef& container, PyRef& source, PyObject* (*copy)(PyObject*)) noexcept {
#ifdef Py_GIL_DISABLED
  PyRef made = PyRef::steal(copy(container.get()));
  if (!made) return false;
  source = std::exchange(container, std::move(made));
#else
  static_cast<void>(container);
  static_cast<void>(source);
  static_cast<void>(copy);
#endif
  return true;
}

Encoder::Did Encoder::open_list(PyRef list) noexcept {
  PyRef source;
  const auto copy = [](PyObject* object) { return PyList_GetSlice(object, 0, PY_SSIZE_T_MAX); };
  if (!take_snapshot(list, source, copy)) return Did::kFailed;
  const Py_ssize_t size = PyList_Size(list.get());
  if (size == 0) return done(writer_.nil());
  const std::size_t at = writer_.position();
  if (!writer_.list_header(static_cast<std::size_t>(size))) return Did::kFailed;
  const Did did = open(Shape::kList, std::move(list), std::move(source), size);
  if (did == Did::kOpened) frames_[depth_ - 1].at = at;
  return did;
}

Encoder::Did Encoder::open_tuple(PyRef tuple) noexcept {
  const Py_ssize_t size = PyTuple_Size(tuple.get());
  if (!writer_.tuple_header(static_cast<std::size_t>(size))) return Did::kFailed;
  return size == 0 ? Did::kWritten : open(Shape::kTuple, std::move(tuple), {}, size);
}

namespace {

// PyDict_Copy would ask a subclass for its keys; what it is as a dict is what goes out.
PyObject* copy_dict(PyObject* dict) noexcept {
#ifdef Py_GIL_DISABLED
  if (PyDict_CheckExact(dict) == 0) {
    PyObject* key = nullptr;
    PyObject* value = nullptr;
    Py_ssize_t at = 0;
    Py_ssize_t count = 0;
    PyCriticalSection alone;
    PyCriticalSection_Begin(&alone,
                            dict);  // nothing in here runs Python code, which could end it before its time
    const PyRef pairs = PyRef::steal(PyTuple_New(2 * PyDict_Size(dict)));
    while (pairs && PyDict_Next(dict, &at, &key, &value) != 0) {
      PyTuple_SetItem(pairs.get(), count++, take(key));
      PyTuple_SetItem(pairs.get(), count++, take(value));
    }
    PyCriticalSection_End(&alone);
    PyRef copy = PyRef::steal(pairs ? PyDict_New() : nullptr);
    for (Py_ssize_t i = 0; copy && i < count; i += 2) {
      key = PyTuple_GetItem(pairs.get(), i);
      value = PyTuple_GetItem(pairs.get(), i + 1);
      if (PyDict_SetItem(copy.get(), key, value) != 0) return nullptr;
    }
    return copy.release();
  }
#endif
  return PyDict_Copy(dict);
}

}  // namespace

Encoder::Did Encoder::open_dict(PyRef dict) noexcept {
  PyRef source;
  if (!take_snapshot(dict, source, copy_dict)) return Did::kFailed;
  const Py_ssize_t size = PyDict_Size(dict.get());
  if (!writer_.map_header(static_cast<std::size_t>(size))) return Did::kFailed;
  return size == 0 ? Did::kWritten : open(Shape::kDict, std::move(dict), std::move(source), size);
}

// %MapSet{map: %{element => []}}. A set can only be walked by an iterator, which fails when the set changes:
// a list of its elements is made first.
Encoder::Did Encoder::open_set(PyRef set) noexcept {
  PyRef elements = PyRef::steal(PySequence_List(set.get()));
  if (!elements) return refuse_exception(set, "a set");
  if (!put_struct(Known::kMapSet, options_.mapset_version ? 2 : 1)) return Did::kFailed;
  if (options_.mapset_version && !(put_known(Known::kVersion) && writer_.integer(2))) return Did::kFailed;
  const Py_ssize_t size = PyList_Size(elements.get());
  if (!put_known(Known::kMap) || !writer_.map_header(static_cast<std::size_t>(size))) return Did::kFailed;
  return size == 0 ? Did::kWritten : open(Shape::kSet, std::move(elements), std::move(set), size);
}

Encoder::Did Encoder::open_improper(PyRef list) noexcept {
  PyRef items = PyRef::borrow(ImproperListObject::of(list.get())->items);
  const Py_ssize_t size = PyTuple_Size(items.get());
  if (!writer_.list_header(static_cast<std::size_t>(size))) return Did::kFailed;
  return open(Shape::kImproperTail, std::move(items), std::move(list), size);
}

Encoder::Did Encoder::open(Shape shape, PyRef container, PyRef source, Py_ssize_t size) noexcept {
  if (!may_nest(source ? source : container)) return Did::kFailed;
  if (depth_ == capacity_ && !grow_stack()) return Did::kFailed;
  frames_[depth_++] = Frame{
      container.release(), source.release(), nullptr, nullptr, 0, 0, size, checks_.size(), 0, shape, false};
  return Did::kOpened;
}

// Below the depth limit, and not inside itself. Looking at all containers around it each time would cost
// depth squared: beyond a few levels it is done at powers of two only, which a cycle cannot slip through.
bool Encoder::may_nest(PyBorrowed container) noexcept {
  if (depth_ >= options_.max_depth) {
    refuse(container, "nested deeper than %u levels", static_cast<unsigned>(options_.max_depth));
    return false;
  }
  constexpr std::uint32_t kAlways = 16;
  if (depth_ > kAlways && (depth_ & (depth_ - 1)) != 0) return true;
  for (std::uint32_t i = 0; i < depth_; ++i) {
    const Frame& frame = frames_[i];
    if ((frame.source != nullptr ? frame.source : frame.container) == container.get()) {
      refuse(container, "a reference to a container that it is inside of: the value has no end");
      return false;
    }
  }
  return true;
}

bool Encoder::grow_stack() noexcept {
  const std::size_t capacity = std::size_t{capacity_} * 2;
  void* const moved = PyMem_Realloc(frames_ == inline_frames_ ? nullptr : frames_, capacity * sizeof(Frame));
  if (moved == nullptr) {
    PyErr_NoMemory();
    return false;
  }
  if (frames_ == inline_frames_) std::memcpy(moved, inline_frames_, sizeof inline_frames_);
  frames_ = static_cast<Frame*>(moved);
  capacity_ = static_cast<std::uint32_t>(capacity);
  return true;
}

// --- walking: until the container is complete (its frame is gone then), or another one opens inside it ---

Encoder::Did Encoder::walk(Frame& frame) noexcept {
  switch (frame.shape) {
    case Shape::kList:
      return walk_list(frame);
    case Shape::kTuple:
    case Shape::kImproperTail:
      return walk_tuple(frame);
    case Shape::kDict:
    case Shape::kFields:
      return walk_dict(frame);
    case Shape::kSet:
      return walk_set(frame);
  }
  return Did::kFailed;
}

Encoder::Did Encoder::walk_list(Frame& frame) noexcept {
  PyObject* const list = frame.container;
  while (frame.index < frame.size) {
    PyObject* const item = PyList_GetItem(list, frame.index++);
    if (item == nullptr) [[unlikely]]
      return refuse_changed();
    const Did did = put(item);
    if (did != Did::kWritten) return did;
  }
  if (PyList_Size(list) != frame.size) return refuse_changed();
  const bool ended = end_list(frame);
  close(frame);
  return done(ended);
}

// The tail of a list. Only now is it known whether all its elements are small integers: then the BEAM's form
// for that, STRING_EXT, takes the place of what was written. Such elements have two bytes each, which few
// other lists have.
bool Encoder::end_list(const Frame& frame) noexcept {
  const auto size = static_cast<std::size_t>(frame.size);
  constexpr std::size_t kHeader = 5;
  constexpr std::size_t kStringHeader = 3;
  if (size > etf::kMaxStringLength || writer_.position() - frame.at != kHeader + 2 * size) [[likely]] {
    return writer_.nil();
  }
  std::uint8_t* const list = writer_.sink().data + frame.at;
  for (std::size_t i = 0; i < size; ++i) {
    if (list[kHeader + 2 * i] != etf::kSmallInteger) return writer_.nil();
  }
  list[0] = etf::kString;
  store_big(list + 1, static_cast<std::uint16_t>(size));
  for (std::size_t i = 0; i < size; ++i) list[kStringHeader + i] = list[kHeader + 2 * i + 1];
  writer_.rewind(frame.at + kStringHeader + size);
  return true;
}

Encoder::Did Encoder::walk_tuple(Frame& frame) noexcept {
  PyObject* const tuple = frame.container;
  while (frame.index < frame.size) {
    const Did did = put(PyTuple_GetItem(tuple, frame.index++));
    if (did != Did::kWritten) return did;
  }
  if (frame.shape == Shape::kImproperTail && frame.index == frame.size) {
    ++frame.index;
    const Did did = put(ImproperListObject::of(frame.source)->tail);
    if (did != Did::kWritten) return did;
  }
  close(frame);
  return Did::kWritten;
}

Encoder::Did Encoder::walk_dict(Frame& frame) noexcept {
  PyObject* const dict = frame.container;
  if (frame.in_key) {  // the key was a container, and is complete
    if (!note_check(frame.key, frame.at)) return Did::kFailed;
    frame.in_key = false;
    const Did did = put_value(frame, PyRef::steal(std::exchange(frame.value, nullptr)));
    if (did != Did::kWritten) return did;
  } else if (frame.key != nullptr) {  // so was the value
    drop(std::exchange(frame.key, nullptr));
    ++frame.done;
  }
  PyObject* key = nullptr;
  PyObject* value = nullptr;
  while (PyDict_Next(dict, &frame.index, &key, &value) != 0) {
    if (frame.done == frame.size) [[unlikely]]
      return refuse_changed();
    if (Py_TYPE(key) == &PyUnicode_Type) [[likely]] {
      if (put_text<true>(key) == Did::kFailed) [[unlikely]] {
        frame.key = take(key);
        frame.in_key = true;
        return Did::kFailed;
      }
      const Did did = put_leaf(value);
      if (did == Did::kWritten) [[likely]] {
        ++frame.done;
        continue;
      }
      frame.key = take(key);
      if (did == Did::kFailed) return did;
    } else {
      const Did did = put_key(frame, key, value);
      if (did != Did::kWritten) return did;
    }
    const Did did = put_value(frame, PyRef::borrow(value));
    if (did != Did::kWritten) return did;
  }
  if (frame.done != frame.size || PyDict_Size(dict) != frame.size) return refuse_changed();
  if (checks_.size() != frame.checks && !check_keys(frame)) return Did::kFailed;
  close(frame);
  return Did::kWritten;
}

// A key that is no str. `key` and `value` are borrowed, and owned by the frame from here on: until the value
// is written (the key) and until the key is (the value).
Encoder::Did Encoder::put_key(Frame& frame, PyObject* key, PyObject* value) noexcept {
  frame.key = take(key);
  frame.value = take(value);
  frame.in_key = true;
  frame.at = writer_.position();
  const Did did = put(key);
  if (did != Did::kWritten) return did;
  PyTypeObject* const type = Py_TYPE(key);
  // Different integers, atoms and finite floats stay different, from everything else, too.
  const bool harmless = type == &PyLong_Type || reinterpret_cast<PyObject*>(type) == state_.atom_type.get() ||
                        (type == &PyFloat_Type && std::isfinite(PyFloat_AsDouble(key)));
  if (!harmless && !note_check(key, frame.at)) return Did::kFailed;
  frame.in_key = false;
  drop(std::exchange(frame.value, nullptr));
  return Did::kWritten;
}

// The value of frame.key.
Encoder::Did Encoder::put_value(Frame& frame, PyRef value) noexcept {
  const Did did = put(value.get());
  if (did != Did::kWritten) return did;
  drop(std::exchange(frame.key, nullptr));
  ++frame.done;
  return Did::kWritten;
}

Encoder::Did Encoder::walk_set(Frame& frame) noexcept {
  if (frame.in_key) {
    if (!note_check(frame.key, frame.at) || !writer_.nil()) return Did::kFailed;
    frame.in_key = false;
    drop(std::exchange(frame.value, nullptr));
    drop(std::exchange(frame.key, nullptr));
  }
  PyObject* const elements = frame.container;  // nobody else has this list
  while (frame.index < frame.size) {
    PyObject* const element = PyList_GetItem(elements, frame.index++);
    if (element == nullptr) return refuse_changed();
    if (Py_TYPE(element) == &PyUnicode_Type && put_text<true>(element) == Did::kWritten) [[likely]] {
      if (!writer_.nil()) return Did::kFailed;
      continue;
    }
    const Did did = put_key(frame, element, Py_None);
    if (did != Did::kWritten) return did;
    drop(std::exchange(frame.key, nullptr));
    if (!writer_.nil()) return Did::kFailed;
  }
  if (checks_.size() != frame.checks && !check_keys(frame)) return Did::kFailed;
  close(frame);
  return Did::kWritten;
}

void Encoder::close(Frame& frame) noexcept {
  Frame closed = frame;
  --depth_;
  release(closed);  // last: it may run code
}

void Encoder::release(Frame& frame) noexcept {
  for (PyObject* const owned : {frame.container, frame.source, frame.key, frame.value}) {
    if (owned != nullptr) drop(owned);
  }
}

}  // namespace typhon::python

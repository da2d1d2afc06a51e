#include "python/decode/decoder.h"

#include "python/errors.h"
#include "python/path.h"

#include <cstring>
#include <exception>
#include <new>
#include <string>

namespace typhon::python {

// The budget of one stack: the reader opens a map only when the input can hold all its pairs, so this grows
// with the input and not with what the input claims.
bool Decoder::reserve(std::size_t more) noexcept {
  const std::size_t wanted = std::max(capacity_ * 2, top_ + more);
  void* const moved = PyMem_Realloc(stack_ == inline_stack_ ? nullptr : stack_, wanted * sizeof(PyObject*));
  if (moved == nullptr) {
    PyErr_NoMemory();
    return false;
  }
  if (stack_ == inline_stack_) std::memcpy(moved, stack_, top_ * sizeof(PyObject*));
  stack_ = static_cast<PyObject**>(moved);
  capacity_ = wanted;
  return true;
}

bool Decoder::string(etf::Bytes bytes, Value& out) noexcept {
  PyRef list = PyRef::steal(PyList_New(static_cast<Py_ssize_t>(bytes.size())));
  if (!list) return false;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    PyObject* const item = state_.small_ints.get(bytes[i]);
    if (item == nullptr || !put_item(list.get(), static_cast<Py_ssize_t>(i), item)) return false;
  }
  out = list.release();
  return erlport_ == nullptr || to_erlport_list(out);
}

// --- binaries that are not, or may not be, text ---

bool Decoder::binary_by_mode(etf::Bytes bytes, Value& out) noexcept {
  if (mode_ == Mode::kView) return (out = context_.view(bytes)) != nullptr;
  if (mode_ == Mode::kBytes) {
    return (out = PyBytes_FromStringAndSize(reinterpret_cast<const char*>(bytes.data()),
                                            static_cast<Py_ssize_t>(bytes.size()))) != nullptr;
  }
  return give(Py_None, out);  // where it is of no interest, or makes no sense
}

// From the lender's memory straight into the object, or not even that: a view of it.
bool Decoder::lent(std::uint32_t index, Value& out) noexcept {
  if (mode_ == Mode::kView) {
    const PyRef owner = PyRef::steal(context_.options.lent->owner(index));
    return owner && (out = PyMemoryView_FromObject(owner.get())) != nullptr;
  }
  reads_loan_ = true;
  const bool made = binary(context_.options.lent->bytes(index), out);
  reads_loan_ = false;
  return made;
}

bool Decoder::not_text(etf::Bytes bytes, Value& out) noexcept {
  if (PyErr_ExceptionMatches(PyExc_UnicodeDecodeError) == 0) return false;
  if (mode_ != Mode::kValue) {
    refuse_not_text(bytes);
    return false;
  }
  PyErr_Clear();
  try {
    no_text_.push_back({top_ - 1, bytes, !reads_loan_});
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return false;
  }
  mode_ = Mode::kNoText;
  out = PyBytes_FromStringAndSize(reinterpret_cast<const char*>(bytes.data()),
                                  static_cast<Py_ssize_t>(bytes.size()));
  return out != nullptr;
}

void Decoder::refuse_not_text(etf::Bytes bytes) noexcept {
  PyErr_Clear();
  const PyRef rest = PyRef::steal(PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(bytes.data()),
                                                       static_cast<Py_ssize_t>(bytes.size()), nullptr));
  Py_ssize_t at = 0;
  if (!rest) {
    PyObject* type = nullptr;
    PyObject* error = nullptr;
    PyObject* traceback = nullptr;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    const PyRef owners[] = {PyRef::steal(type), PyRef::steal(error), PyRef::steal(traceback)};
    const PyRef start = PyRef::steal(PyObject_GetAttrString(error, "start"));
    if (start) at = PyLong_AsSsize_t(start.get());
    PyErr_Clear();
  }
  context_.refuse(
      "a binary of %zu bytes that is not UTF-8 text (byte %zd is 0x%02x): wrap it in Typhon.bytes/1 to send "
      "bytes",
      bytes.size(), at, static_cast<unsigned>(bytes[static_cast<std::size_t>(at)]));
}

// --- maps ---

Decoder::Mode Decoder::mode_for(Container& c, PyBorrowed key) noexcept {
  if (c.shape == Shape::kSet) return Mode::kSetValue;
  if (key.get() == state_.known(Known::kStruct)) return Mode::kStructName;
  const bool data = key.get() == state_.known(Known::kData);
  switch (c.kind) {
    case Struct::kBytes:
      return data ? Mode::kBytes : Mode::kValue;
    case Struct::kBuffer:
    case Struct::kArray:
      return data ? Mode::kView : Mode::kValue;
    case Struct::kMapSet:
      return key.get() == state_.known(Known::kMap) ? Mode::kSetMap : Mode::kValue;
    default:
      return Mode::kValue;
  }
}

bool Decoder::value_by_mode(Container& c, Value value) noexcept {
  const Mode mode = mode_;
  mode_ = Mode::kKey;
  if (mode == Mode::kSetValue) {
    python::drop(value);
    return true;
  }
  stack_[top_++] = value;
  if (mode == Mode::kStructName) c.kind = struct_named(state_, value);
  if (mode == Mode::kNoText) {
    if (c.has_no_text) {
      no_text_.pop_back();  // the first one will do
    } else {
      c.has_no_text = true;
    }
  }
  return true;
}

bool Decoder::close_dict(Container& c, Value& out) noexcept {
  PyObject* const dict = erlport_ == nullptr ? PyDict_New() : new_dict();
  if (dict == nullptr) return false;
  PyObject* const* const pairs = stack_ + c.base;
  const std::size_t count = (top_ - c.base) / 2;
  for (std::size_t i = 0; i < count; ++i) {
    if (PyDict_SetItem(dict, pairs[2 * i], pairs[2 * i + 1]) != 0) [[unlikely]] {
      python::drop(dict);
      return refuse_key(pairs[2 * i], "a key of a map");
    }
  }
  if (static_cast<std::size_t>(PyDict_Size(dict)) != count) [[unlikely]] {
    python::drop(dict);
    return refuse_equal_keys({pairs, 2 * count}, 2, "a map with the keys");
  }
  release_from(c.base);
  out = dict;
  return true;
}

bool Decoder::close_set(Container& c, Value& out) noexcept {
  PyRef set = PyRef::steal(PySet_New(nullptr));
  if (!set) return false;
  PyObject* const* const keys = stack_ + c.base;
  const std::size_t count = top_ - c.base;
  for (std::size_t i = 0; i < count; ++i) {
    if (PySet_Add(set.get(), keys[i]) != 0) [[unlikely]]
      return refuse_key(keys[i], "an element of a MapSet");
  }
  if (static_cast<std::size_t>(PySet_Size(set.get())) != count) [[unlikely]] {
    return refuse_equal_keys({keys, count}, 1, "a MapSet with the elements");
  }
  release_from(c.base);
  out = set.release();
  return true;
}

bool Decoder::close_struct_or_set(Container& c, Value& out) noexcept {
  if (c.shape == Shape::kSet) return close_set(c, out);
  const bool takes_bytes = c.kind == Struct::kBytes || c.kind == Struct::kBuffer || c.kind == Struct::kArray;
  if (c.has_no_text && !takes_bytes) return false;  // failed() names the place
  const std::size_t base = c.base;
  if (c.kind == Struct::kNone || c.kind == Struct::kUnknown) {
    if (!close_dict(c, out)) return false;
  } else {
    out = make_struct(context_, c.kind, {stack_ + base, top_ - base});
    if (out == nullptr) return false;
    release_from(base);
  }
  if (c.has_no_text) no_text_.pop_back();
  return true;
}

bool Decoder::close_tagged(Container& c, Value& out) noexcept {
  out = make_tagged(context_, c.object);
  if (out == nullptr) return false;
  python::drop(c.object);
  return true;
}

bool Decoder::close_improper(Container& c, Value&& tail, Value& out) noexcept {
  mode_ = c.outer;
  PyRef owned_tail = PyRef::steal(tail);
  if (erlport_ != nullptr) {
    out =
        PyObject_CallFunctionObjArgs(erlport_->improper_list_type.get(), c.object, owned_tail.get(), nullptr);
    if (out != nullptr) python::drop(c.object);
    return out != nullptr;
  }
  PyRef items = PyRef::steal(PyList_AsTuple(c.object));
  if (!items) return false;
  out = make_improper_list(state_, std::move(items), std::move(owned_tail));
  if (out == nullptr) return false;
  python::drop(c.object);
  return true;
}

// --- what went wrong ---

bool Decoder::refuse_key(PyBorrowed key, const char* of) noexcept {
  if (PyErr_ExceptionMatches(PyExc_TypeError) == 0) return false;
  PyErr_Clear();
  try {
    context_.refuse_text(std::string(of) + " is " + describe(key) + ", a " + type_name(key) +
                         ", which Python cannot hash: send a tuple or a string in its place");
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  return false;
}

bool Decoder::refuse_equal_keys(std::span<PyObject* const> keys, std::size_t stride,
                                const char* of) noexcept {
  const PyRef first = PyRef::steal(PyDict_New());  // each key to itself, as it came first
  if (!first) return false;
  for (std::size_t i = 0; i < keys.size(); i += stride) {
    PyObject* const known = PyDict_GetItemWithError(first.get(), keys[i]);
    if (known == nullptr) {
      if (PyErr_Occurred() != nullptr || PyDict_SetItem(first.get(), keys[i], keys[i]) != 0) return false;
      continue;
    }
    try {
      // In a worker: the BEAM has no string twice, and has made one of an atom.
      const bool texts = context_.options.objects != nullptr && PyUnicode_CheckExact(known) != 0 &&
                         PyUnicode_CheckExact(keys[i]) != 0;
      context_.refuse_text(std::string(of) + ' ' + describe(known) + " and " + describe(keys[i]) +
                           ", which are equal in Python" +
                           (texts ? ": one was an atom (the options keys: and values:)" : ""));
    } catch (const std::bad_alloc&) {
      PyErr_NoMemory();
    }
    return false;
  }
  return false;
}

namespace {

const char* code_name(Code code) noexcept {
  switch (code) {
    case Code::kTruncated:
      return "truncated";
    case Code::kInvalid:
      return "invalid";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kTooDeep:
      return "too_deep";
    case Code::kTooLarge:
      return "too_large";
    case Code::kTooManyAtoms:
      return "too_many_atoms";
    case Code::kTrailing:
      return "trailing";
    default:
      return "value";
  }
}

}  // namespace

void Decoder::failed(const etf::Outcome& outcome, std::span<const etf::Frame<Decoder>> frames) noexcept {
  if (outcome.code == Code::kSystem) {
    PyErr_NoMemory();
    return;
  }
  if (must_propagate()) return;
  try {
    raise(outcome, frames);
  } catch (const std::exception&) {
    PyErr_NoMemory();
  }
}

void Decoder::raise(const etf::Outcome& outcome, std::span<const etf::Frame<Decoder>> frames) {
  std::uint64_t offset = outcome.offset;
  const std::string path = path_to(outcome, frames, offset);
  std::string reason = context_.reason();
  if (reason.empty()) {
    if (PyErr_Occurred() != nullptr) {
      reason = current_exception_text();
    } else {
      reason = "expected " + std::string(outcome.expected) + " (byte " + std::to_string(offset) +
               (outcome.in_inflated ? " of the inflated term)" : ")");
    }
  }
  raise_decode_error(state_, path, reason, code_name(outcome.code), offset);
}

std::string Decoder::path_to(const etf::Outcome& outcome, std::span<const etf::Frame<Decoder>> frames,
                             std::uint64_t& offset) {
  const ExceptionAside aside;
  Path path(context_.options.root, context_.options.parts);
  const etf::Frame<Decoder>* closing = nullptr;
  for (const etf::Frame<Decoder>& frame : frames) {
    if (frame.part == etf::Part::kTail) {
      path.suffix(" (tail)");
    } else if (frame.index == frame.count) {
      closing = &frame;
    } else if (frame.kind != etf::Kind::kMap) {
      path.index(frame.index);
    } else if (frame.part == etf::Part::kKey) {
      path.suffix(" (a key)");
      break;  // what is inside of a key has no place in a path
    } else if (frame.container.shape == Shape::kMap && frame.container.kind != Struct::kNamed) {
      path.key(stack_[frame.container.base + std::size_t{2} * frame.index]);
    }
  }
  const bool unexcused = closing != nullptr && closing->container.has_no_text && outcome.code == Code::kHost;
  if (unexcused && context_.reason().empty()) {
    const NoText& place = no_text_.back();
    path.key(stack_[place.key]);
    constexpr std::ptrdiff_t kHeader = 5;
    if (place.in_input) offset += static_cast<std::uint64_t>(place.bytes.data() - kHeader - closing->start);
    refuse_not_text(place.bytes);
  }
  return path.text();
}

}  // namespace typhon::python

// Decoder: makes Python objects of what etf::decode reads.
//
// Lists and tuples are made at their full size and filled in place. The keys and values of maps are collected
// on a stack of the decoder's own until the map is complete: only then is it known whether it is a dict or a
// struct (the key __struct__ may come last), and keys that are different terms but one key in Python are
// still all at hand.
//
// What the next term is for decides how it is made: binaries as keys are looked up in a cache, the field
// `data` of some structs becomes bytes and not text. That is the decoder's mode: set before each part of a
// map, kept by containers while something inside them is read. (Everything is noexcept and inline: this is
// the inner loop.)
#pragma once

#include "python/cpython.h"
#include "python/decode/decode_caches.h"
#include "python/decode/decode_context.h"
#include "python/decode/structs.h"
#include "python/types/big_integer.h"
#include "python/types/identifier.h"
#include "python/types/values.h"

#include "etf/decode.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace typhon::python {

class Decoder {
 public:
  using Value = PyObject*;  // owned

  enum class Mode : std::uint8_t {
    kElement,     // of a list or tuple, or the whole term
    kKey,         // of a map
    kValue,       // of a map
    kStructName,  // the value of __struct__
    kBytes,       // a binary here is bytes
    kView,        // a binary here is a memoryview
    kSetMap,      // a map here is the inside of a MapSet: make a set of its keys
    kSetValue,    // the value of such a key: of no interest
    kNoText,  // the value of a map, just read: bytes because it was not UTF-8, which only a struct may excuse
  };
  enum class Shape : std::uint8_t { kList, kTuple, kMap, kSet };

  struct Container {
    union {
      PyObject* object = nullptr;  // list, tuple: owned
      std::size_t base;            // map, set: where its keys and values start on the stack
    };
    Shape shape = Shape::kList;
    Mode outer = Mode::kElement;  // to go back to
    Struct kind = Struct::kNone;  // kTagged: a tuple of a size that such a one has
    bool has_no_text = false;     // the last of no_text_ is of this map
  };

  Decoder(DecodeContext& context, std::size_t input_size) noexcept
      : context_(context),
        state_(context.state),
        erlport_(context.options.erlport),
        caches_(context.state, input_size) {}
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() {
    if (stack_ != inline_stack_) PyMem_Free(stack_);
  }

  // --- leaves ---

  bool integer(std::int64_t value, Value& out) noexcept {
    return (out = state_.small_ints.get(value)) != nullptr;
  }
  bool big(bool negative, etf::Bytes magnitude, Value& out) noexcept {
    return (out = make_big_integer(state_, negative, magnitude)) != nullptr;
  }
  bool floating(double value, Value& out) noexcept { return (out = PyFloat_FromDouble(value)) != nullptr; }
  bool find_atom(std::string_view text, Value& out) noexcept {
    if (erlport_ != nullptr) [[unlikely]]
      return find_erlport_atom(text, out);
    if (text.size() - 3 <= 2) {  // 3 to 5
      if (text == "nil") return give(Py_None, out);
      if (text == "true") return give(Py_True, out);
      if (text == "false") return give(Py_False, out);
    }
    out = caches_.find_atom(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    if (text.size() - 7 <= 2) has_tags_ = has_tags_ || is_tag(out);  // 7 to 9
    return out != nullptr;
  }
  bool atom(std::string_view text, Value& out) noexcept {
    out = state_.atoms.get(text);
    return out != nullptr && (erlport_ == nullptr || to_erlport_atom(out));
  }
  bool binary(etf::Bytes bytes, Value& out) noexcept {
    if (erlport_ != nullptr) [[unlikely]]
      return bytes_of(bytes, out);
    if (mode_ == Mode::kKey) {
      out = caches_.key(bytes.data(), bytes.size());
    } else if (mode_ <= Mode::kStructName) [[likely]] {
      out = PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(bytes.data()),
                                 static_cast<Py_ssize_t>(bytes.size()), nullptr);
    } else {
      return binary_by_mode(bytes, out);
    }
    return out != nullptr || not_text(bytes, out);
  }
  bool lent(std::uint32_t index, Value& out) noexcept;
  bool bits(etf::Bytes bytes, unsigned last, Value& out) noexcept {
    if (erlport_ != nullptr) return opaque_bits(bytes, last, out);
    return (out = make_bit_string(state_, bytes, last)) != nullptr;
  }
  bool nil(Value& out) noexcept {
    if (mode_ == Mode::kSetValue) return give(Py_None, out);
    return (out = PyList_New(0)) != nullptr && (erlport_ == nullptr || to_erlport_list(out));
  }
  bool string(etf::Bytes bytes, Value& out) noexcept;
  bool pid(const etf::PidView& view, Value& out) noexcept {
    return (out = erlport_ != nullptr ? make_opaque(*erlport_, view.raw) : make_pid(state_, view)) != nullptr;
  }
  bool port(const etf::PortView& view, Value& out) noexcept {
    return (out = erlport_ != nullptr ? make_opaque(*erlport_, view.raw) : make_port(state_, view)) !=
           nullptr;
  }
  bool reference(const etf::ReferenceView& view, Value& out) noexcept {
    return (out = erlport_ != nullptr ? make_opaque(*erlport_, view.raw) : make_reference(state_, view)) !=
           nullptr;
  }
  bool exported_fun(const etf::ExportView& view, Value& out) noexcept {
    return (out = erlport_ != nullptr ? make_opaque(*erlport_, view.raw) : make_export(state_, view)) !=
           nullptr;
  }
  bool fun(const etf::FunView& view, Value& out) noexcept {
    return (out = erlport_ != nullptr ? make_opaque(*erlport_, view.raw) : make_fun(state_, view)) != nullptr;
  }
  bool local(const etf::LocalView&, Value&) noexcept {
    context_.refuse("a term in the private format of another program (LOCAL_EXT)");
    return false;
  }

  // --- containers ---

  bool open_tuple(std::uint32_t n, Container& c) noexcept {
    c.object = PyTuple_New(static_cast<Py_ssize_t>(n));
    if ((n == 4 || (n == 3 && context_.options.tagged)) && erlport_ == nullptr) c.kind = Struct::kTagged;
    return enter(c, Shape::kTuple);
  }
  bool open_list(std::uint32_t n, Container& c) noexcept {
    c.object = PyList_New(static_cast<Py_ssize_t>(n));
    return enter(c, Shape::kList);
  }
  bool open_map(std::uint32_t n, Container& c) noexcept {
    c.base = top_;
    c.shape = mode_ == Mode::kSetMap ? Shape::kSet : Shape::kMap;
    c.outer = mode_;
    mode_ = Mode::kKey;
    return capacity_ - top_ >= std::size_t{n} * 2 || reserve(std::size_t{n} * 2);
  }
  bool extend_list(Container& c, std::uint32_t more) noexcept {
    for (; more > 0; --more) {
      if (PyList_Append(c.object, Py_None) != 0) return false;
    }
    return true;
  }
  bool element(Container& c, std::uint32_t index, Value&& value) noexcept {
    return c.shape == Shape::kList ? put_item(c.object, static_cast<Py_ssize_t>(index), value)
                                   : PyTuple_SetItem(c.object, static_cast<Py_ssize_t>(index), value) == 0;
  }
  bool map_key(Container& c, std::uint32_t, Value&& key) noexcept {
    stack_[top_++] = key;
    mode_ = Mode::kValue;
    if (key == state_.known(Known::kStruct) || c.kind != Struct::kNone || c.shape == Shape::kSet)
        [[unlikely]] {
      mode_ = mode_for(c, key);
    }
    return true;
  }
  bool map_value(Container& c, std::uint32_t, Value&& value) noexcept {
    if (mode_ == Mode::kValue) [[likely]] {
      stack_[top_++] = value;
      mode_ = Mode::kKey;
      return true;
    }
    return value_by_mode(c, value);
  }
  bool close(Container& c, Value& out) noexcept {
    mode_ = c.outer;
    if (c.shape <= Shape::kTuple) {
      out = c.object;
      if (erlport_ != nullptr) [[unlikely]]
        return c.shape == Shape::kList ? close_erlport_list(c, out) : close_erlport_tuple(c, out);
      return c.kind == Struct::kNone || !has_tags_ || close_tagged(c, out);
    }
    if (c.shape == Shape::kMap && c.kind == Struct::kNone && !c.has_no_text) [[likely]]
      return close_dict(c, out);
    return close_struct_or_set(c, out);
  }
  bool close_improper(Container& c, Value&& tail, Value& out) noexcept;
  void abandon(Container& c) noexcept {
    if (c.shape <= Shape::kTuple) {
      python::drop(c.object);
    } else {
      release_from(c.base);
    }
  }
  void drop(Value& value) noexcept { python::drop(value); }

  // Sets the Python exception: the path is only known now.
  void failed(const etf::Outcome&, std::span<const etf::Frame<Decoder>>) noexcept;

 private:
  static bool give(PyObject* object, Value& out) noexcept {
    out = take(object);
    return true;
  }
  bool enter(Container& c, Shape shape) noexcept {
    c.shape = shape;
    c.outer = mode_;
    mode_ = Mode::kElement;
    return c.object != nullptr;
  }
  // Into a list that nobody else has seen, which needs no lock. Takes over `item`.
  static bool put_item(PyObject* list, Py_ssize_t index, PyObject* item) noexcept {
#ifdef Py_GIL_DISABLED
    reinterpret_cast<PyListObject*>(list)->ob_item[index] = item;
    return true;
#else
    return PyList_SetItem(list, index, item) == 0;
#endif
  }
  // Drops everything on the stack from `base` on.
  void release_from(std::size_t base) noexcept {
    while (top_ > base) python::drop(stack_[--top_]);
  }
  bool reserve(std::size_t more) noexcept;

  // --- the dialect of ErlPort (decoder_erlport.cpp) ---
  bool find_erlport_atom(std::string_view, Value&) noexcept;
  bool to_erlport_atom(Value&) noexcept;
  bool to_erlport_list(Value&) noexcept;
  bool bytes_of(etf::Bytes bytes, Value& out) const noexcept {
    return (out = PyBytes_FromStringAndSize(reinterpret_cast<const char*>(bytes.data()),
                                            static_cast<Py_ssize_t>(bytes.size()))) != nullptr;
  }
  bool opaque_bits(etf::Bytes, unsigned last, Value&) noexcept;
  bool close_erlport_list(Container&, Value& out) noexcept;
  bool close_erlport_tuple(Container&, Value& out) noexcept;
  PyObject* new_dict() noexcept;
  bool binary_by_mode(etf::Bytes, Value&) noexcept;
  bool not_text(etf::Bytes, Value&) noexcept;
  Mode mode_for(Container&, PyBorrowed key) noexcept;
  bool value_by_mode(Container&, Value) noexcept;
  bool close_dict(Container&, Value& out) noexcept;
  bool close_set(Container&, Value& out) noexcept;
  // Whether a tuple that begins with this stands for something.
  [[nodiscard]] bool is_tag(const PyObject* atom) const noexcept {
    return atom == state_.known(Known::kTimeDelta) || atom == state_.known(Known::kFraction) ||
           atom == state_.known(Known::kComplex);
  }
  bool close_tagged(Container&, Value& out) noexcept;
  bool close_struct_or_set(Container&, Value& out) noexcept;
  bool refuse_key(PyBorrowed key, const char* of) noexcept;
  bool refuse_equal_keys(std::span<PyObject* const> keys, std::size_t stride, const char* of) noexcept;
  void refuse_not_text(etf::Bytes) noexcept;
  void raise(const etf::Outcome&, std::span<const etf::Frame<Decoder>>);
  // Also the reason, and the exact offset, of a binary that was let pass as no text and found no struct to
  // excuse it.
  std::string path_to(const etf::Outcome&, std::span<const etf::Frame<Decoder>>, std::uint64_t& offset);

  struct NoText {
    std::size_t key;  // on the stack
    etf::Bytes bytes;
    bool in_input;
  };
  static constexpr std::size_t kInlineStack = 128;

  DecodeContext& context_;
  ModuleState& state_;
  const Erlport* const erlport_;
  DecodeCaches caches_;
  Mode mode_ = Mode::kElement;
  PyObject** stack_ = inline_stack_;  // owns the first top_
  std::size_t top_ = 0;
  std::size_t capacity_ = kInlineStack;
  std::vector<NoText> no_text_;
  bool has_tags_ = false;    // such an atom has come: only then is a tuple looked into
  bool reads_loan_ = false;  // the binary being made lies outside of the input
  PyObject* inline_stack_[kInlineStack];
};

}  // namespace typhon::python

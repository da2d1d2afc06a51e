#include "etf/decode.h"

#include <array>
#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <utility>

#include "ruby/codec.h"

namespace typhon::ruby {
namespace {

using etf::Bytes;

// The symbols that came last, by their text: most atoms are keys that come again and again.
constexpr std::size_t kRecent = 64;
constexpr std::size_t kRecentText = 32;

VALUE text_of(Bytes bytes) {
  return rb_utf8_str_new(reinterpret_cast<const char*>(bytes.data()), static_cast<long>(bytes.size()));
}

VALUE binary_of(Bytes bytes) {
  return rb_str_new(reinterpret_cast<const char*>(bytes.data()), static_cast<long>(bytes.size()));
}

class Decoder {
 public:
  using Value = VALUE;
  struct Container {
    VALUE object;
    VALUE key;
    std::uint32_t reserved;
    etf::Kind kind;
    bool is_struct;
    bool has_raw_data;
  };

  Decoder(const Options& options, Roots& roots) noexcept : options_(options), roots_(roots) {}
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() = default;

  // --- leaves ---

  bool integer(std::int64_t value, Value& out) noexcept {
    if (FIXABLE(value)) {
      out = LONG2FIX(value);
      return true;
    }
    return made(out, [&] { return LL2NUM(value); });
  }
  bool big(bool negative, Bytes magnitude, Value& out) noexcept {
    return made(out, [&] {
      const int sign = negative ? INTEGER_PACK_NEGATIVE : 0;
      return rb_integer_unpack(magnitude.data(), magnitude.size(), 1, 0,
                               INTEGER_PACK_LSWORD_FIRST | INTEGER_PACK_LSBYTE_FIRST | sign);
    });
  }
  bool floating(double value, Value& out) noexcept {
    return made(out, [&] { return rb_float_new(value); });
  }
  bool atom(std::string_view text, Value& out) noexcept {
    if (text == "true" || text == "false") return give(text == "true" ? Qtrue : Qfalse, out);
    if (text == (is_native() ? "nil" : "undefined")) return give(Qnil, out);
    const bool short_enough = text.size() <= kRecentText;
    Recent& recent = recent_[std::hash<std::string_view>{}(text) % kRecent];
    if (short_enough && recent.symbol != 0 && std::string_view(recent.text, recent.size) == text) {
      return give(recent.symbol, out);
    }
    if (!made(out,
              [&] { return rb_str_intern(rb_utf8_str_new(text.data(), static_cast<long>(text.size()))); }))
      return false;
    if (!short_enough) return true;
    // On the stack of whoever decodes: the collector sees it.
    recent.symbol = out;
    recent.size = static_cast<std::uint8_t>(text.size());
    if (!text.empty()) std::memcpy(recent.text, text.data(), text.size());
    return true;
  }
  bool binary(Bytes bytes, Value& out) noexcept {
    if (std::exchange(raw_next_, false) || !is_native()) return made(out, [&] { return binary_of(bytes); });
    if (!made(out, [&] { return text_of(bytes); })) return false;
    if (rb_enc_str_coderange(out) != ENC_CODERANGE_BROKEN) return true;
    return refuse(
        "the binary is not UTF-8: Typhon.bytes/1 says that it is bytes, which Ruby gets as a binary String");
  }
  bool bits(Bytes bytes, unsigned last, Value& out) noexcept {
    return made(out, [&] {
      const VALUE object = rb_obj_alloc(names().bit_string);
      const VALUE copy = binary_of(bytes);
      rb_ivar_set(object, names().raw, rb_obj_freeze(copy));
      rb_ivar_set(object, names().bits, UINT2NUM(last));
      return rb_obj_freeze(object);
    });
  }
  bool nil(Value& out) noexcept {
    return made(out, [] { return rb_ary_new(); });
  }
  bool string(Bytes bytes, Value& out) noexcept {
    return made(out, [&] {
      const VALUE list = rb_ary_new_capa(static_cast<long>(bytes.size()));
      for (const std::uint8_t byte : bytes) rb_ary_push(list, INT2FIX(byte));
      return list;
    });
  }
  bool pid(const etf::PidView& view, Value& out) noexcept { return opaque(names().pid, view.raw, out); }
  bool port(const etf::PortView& view, Value& out) noexcept { return opaque(names().port, view.raw, out); }
  bool reference(const etf::ReferenceView& view, Value& out) noexcept {
    return opaque(names().reference, view.raw, out);
  }
  bool exported_fun(const etf::ExportView& view, Value& out) noexcept {
    return opaque(names().fun, view.raw, out);
  }
  bool fun(const etf::FunView& view, Value& out) noexcept { return opaque(names().fun, view.raw, out); }
  bool local(const etf::LocalView&, Value&) noexcept {
    return refuse("a term in the private format of another program (LOCAL_EXT)");
  }

  // --- containers ---

  bool open_tuple(std::uint32_t n, Container& c) noexcept { return open_array(n, etf::Kind::kTuple, c); }
  bool open_list(std::uint32_t n, Container& c) noexcept { return open_array(n, etf::Kind::kList, c); }
  bool open_map(std::uint32_t, Container& c) noexcept {
    c = Container{Qnil, Qnil, 0, etf::Kind::kMap, false, false};
    return made(c.object, [] { return rb_hash_new(); }) && enter(c);
  }
  bool extend_list(Container&, std::uint32_t) noexcept { return true; }
  bool element(Container& c, std::uint32_t index, Value&& value) noexcept {
    if (index < c.reserved) [[likely]] {
      rb_ary_push(c.object, value);  // there is room for it: nothing that could fail
      return true;
    }
    VALUE ignored = Qnil;
    return made(ignored, [&] { return rb_ary_push(c.object, value); });
  }
  bool map_key(Container& c, std::uint32_t, Value&& key) noexcept {
    c.key = key;
    if (!roots_.push(key)) return no_memory();
    if (key == names().struct_key) c.is_struct = true;
    raw_next_ = c.has_raw_data && key == names().data_key;
    // A Hash would make a copy of it to be the key.
    if (RB_TYPE_P(key, T_STRING)) rb_obj_freeze(key);
    return true;
  }
  bool map_value(Container& c, std::uint32_t index, Value&& value) noexcept {
    raw_next_ = false;
    if (c.key == names().struct_key) {
      const Names& known = names();
      c.has_raw_data = value == known.bytes_name || value == known.buffer_name || value == known.array_name;
    }
    VALUE ignored = Qnil;
    const VALUE key = c.key;
    if (!made(ignored, [&] { return rb_hash_aset(c.object, key, value); })) return false;
    roots_.pop(1);
    if (RHASH_SIZE(c.object) == index + 1) return true;
    return refuse("a map with two keys that are one and the same in Ruby");
  }
  bool close(Container& c, Value& out) noexcept {
    const VALUE object = c.object;
    const bool loads = is_native() ? c.is_struct : c.kind != etf::Kind::kList;
    if (loads) {
      if (!made(out, [&] { return load(object); })) return false;
    } else if (c.kind == etf::Kind::kTuple) {
      if (!made(out, [&] { return wrap_tuple(object); })) return false;
    } else {
      out = object;
    }
    roots_.pop(1);
    return true;
  }
  bool close_improper(Container& c, Value&& tail, Value& out) noexcept {
    const VALUE items = c.object;
    if (!made(out, [&] {
          const VALUE list = rb_obj_alloc(names().improper_list);
          rb_ivar_set(list, names().items, rb_obj_freeze(items));
          rb_ivar_set(list, names().tail, tail);
          rb_obj_freeze(list);
          return is_native() ? list : load(list);
        }))
      return false;
    roots_.pop(1);
    return true;
  }
  void abandon(Container&) noexcept {}  // what it held goes with the roots
  void drop(Value&) noexcept {}

  void failed(const etf::Outcome& outcome, std::span<const etf::Frame<Decoder>> frames) noexcept {
    if (state_ != 0 && !is_standard_error(rb_errinfo())) return;
    try {
      path_ = options_.root;
      bool first = options_.is_call;
      for (const etf::Frame<Decoder>& frame : frames) {
        if (first) {
          static constexpr std::array<const char*, 4> kParts{"module", "function", "args", "kwargs"};
          path_ = frame.index < kParts.size() ? kParts[frame.index] : "call";
          first = false;
        } else if (frame.part == etf::Part::kTail) {
          path_ += ".tail";
        } else if (frame.kind != etf::Kind::kMap) {
          path_.append("[").append(std::to_string(frame.index)).append("]");
        } else if (frame.part == etf::Part::kKey) {
          path_ += " (a key)";
        } else {
          append_key(frame.container.key);
        }
      }
      incomplete_ = outcome.incomplete;
      if (outcome.code != Code::kHost) {
        reason_ = "expected " + std::string(outcome.expected) + " (byte " + std::to_string(outcome.offset) +
                  (outcome.in_inflated ? " of the inflated term)" : ")");
      }
    } catch (const std::bad_alloc&) {
      path_.clear();
    }
  }

  // After a failure: what the method raises.
  void tell(Decoded& decoded) noexcept {
    decoded.state = state_;
    VALUE cause = Qnil;
    if (state_ != 0) {
      cause = rb_errinfo();
      if (!is_standard_error(cause)) return;
    }
    int state = 0;
    const VALUE error = protect(state, [&] {
      const VALUE reason = NIL_P(cause) ? rb_utf8_str_new(reason_.data(), static_cast<long>(reason_.size()))
                                        : rb_funcall(cause, names().message, 0);
      const VALUE path = rb_utf8_str_new(path_.data(), static_cast<long>(path_.size()));
      return rb_funcall(names().decode_error, names().make, 3, path, reason, incomplete_ ? Qtrue : Qfalse);
    });
    decoded.state = state;
    if (state != 0) return;
    rb_set_errinfo(Qnil);
    decoded.error = error;
  }

 private:
  struct Recent {
    VALUE symbol;
    std::uint8_t size;
    char text[kRecentText];
  };

  [[nodiscard]] bool is_native() const noexcept { return options_.dialect == Dialect::kNative; }

  static bool give(VALUE value, VALUE& out) noexcept {
    out = value;
    return true;
  }
  template <class Make>
  bool made(VALUE& out, Make&& make) noexcept {
    int state = 0;
    const VALUE value = protect(state, make);
    if (state != 0) [[unlikely]] {
      state_ = state;
      return false;
    }
    out = value;
    return true;
  }
  bool refuse(const char* reason) noexcept {
    try {
      reason_ = reason;
    } catch (const std::bad_alloc&) {
      reason_.clear();
    }
    return false;
  }
  bool no_memory() noexcept { return refuse("there is no memory for it"); }
  bool enter(Container& c) noexcept { return roots_.push(c.object) || no_memory(); }
  bool open_array(std::uint32_t n, etf::Kind kind, Container& c) noexcept {
    c = Container{Qnil, Qnil, n, kind, false, false};
    return made(c.object, [&] { return rb_ary_new_capa(static_cast<long>(n)); }) && enter(c);
  }
  bool opaque(VALUE kind, Bytes raw, Value& out) noexcept {
    return made(out, [&] {
      if (!is_native()) return load(binary_of(raw));
      const VALUE object = rb_obj_alloc(kind);
      const VALUE copy = binary_of(raw);
      rb_ivar_set(object, names().raw, rb_obj_freeze(copy));
      return rb_obj_freeze(object);
    });
  }
  static VALUE wrap_tuple(VALUE items) {
    const VALUE tuple = rb_obj_alloc(names().tuple);
    rb_ivar_set(tuple, names().items, rb_obj_freeze(items));
    return rb_obj_freeze(tuple);
  }
  // A struct of Elixir's as the Ruby side has it; in ErlPort's dialect the elements of a tuple, a map, an
  // improper list, or the bytes of what only the BEAM can make.
  VALUE load(VALUE object) const {
    if (!is_native()) return rb_funcall(names().structs, names().load_erlport, 1, object);
    return rb_funcall(names().structs, names().load, 2, object, options_.objects);
  }
  void append_key(VALUE key) {
    int state = 0;
    VALUE text = Qnil;
    if (RB_TYPE_P(key, T_STRING) || RB_SYMBOL_P(key) || RB_INTEGER_TYPE_P(key))
      text = protect(state, [&] { return rb_inspect(key); });
    if (state != 0) rb_set_errinfo(Qnil);
    if (state != 0 || !RB_TYPE_P(text, T_STRING)) {
      path_ += "[…]";
    } else {
      path_.append("[").append(RSTRING_PTR(text), static_cast<std::size_t>(RSTRING_LEN(text))).append("]");
    }
  }

  const Options& options_;
  Roots& roots_;
  bool raw_next_ = false;
  int state_ = 0;
  bool incomplete_ = false;
  std::string path_;
  std::string reason_;
  std::array<Recent, kRecent> recent_{};
};

}  // namespace

Decoded decode(std::span<const std::uint8_t> bytes, const Options& options, bool whole) noexcept {
  Decoded decoded;
  RootsObject roots{Qnil, nullptr};
  protect(decoded.state, [&] {
    roots = make_roots();
    return Qnil;
  });
  if (decoded.state != 0) return decoded;
  {
    Decoder decoder(options, *roots.roots);
    const etf::Limits limits;
    VALUE value = Qnil;
    const etf::Outcome outcome = whole ? etf::decode(bytes, decoder, limits, value)
                                       : etf::decode_prefix(bytes, decoder, limits, value);
    if (outcome.ok()) {
      decoded.value = value;
      decoded.used = outcome.used;
    } else {
      decoder.tell(decoded);
    }
  }
  clear_roots(roots);
  RB_GC_GUARD(roots.object);
  return decoded;
}

void raise_failure(VALUE error, int state) {
  if (state != 0) rb_jump_tag(state);
  rb_exc_raise(error);
}

}  // namespace typhon::ruby

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>
#include <string>

#include "etf/writer.h"
#include "ruby/codec.h"

namespace typhon::ruby {
namespace {

constexpr std::size_t kMaxDepth = 10'000;
constexpr std::size_t kMaxAtom = 255;

enum class Kind : std::uint8_t { kList, kTuple, kMap };

// An open container. `items`: an Array of its elements, or of a Hash's keys and values in turn.
struct Level {
  VALUE items;
  VALUE tail;
  long index;
  long count;
  std::size_t roots;  // how many there were before it
  Kind kind;
};

int push_pair(VALUE key, VALUE value, VALUE pairs) {
  rb_ary_push(pairs, key);
  rb_ary_push(pairs, value);
  return ST_CONTINUE;
}

// Walks with a stack of its own, inside one protect(): everything here is plain data, which a jump may leave.
class Encoder {
 public:
  Encoder(etf::Writer& writer, const Options& options, Roots& roots) noexcept
      : writer_(writer), options_(options), roots_(roots) {}

  // May raise. False with reason() set.
  bool run(VALUE value) {
    if (!writer_.version()) return false;
    if (options_.as_object) return put_handle(value, rb_obj_class(value));
    if (!put(value)) return false;
    while (depth_ != 0) {
      Level& level = levels_[depth_ - 1];
      if (level.index == level.count) {
        if (!leave(level)) return false;
        continue;
      }
      // Ruby code that runs meanwhile may have taken elements away.
      if (level.index >= RARRAY_LEN(level.items)) return refuse("it was changed while it was sent");
      const VALUE next = RARRAY_AREF(level.items, level.index);
      ++level.index;
      if (!put(next)) return false;
    }
    return true;
  }

  void free_levels() noexcept { std::free(levels_); }
  [[nodiscard]] const char* reason() const noexcept { return reason_; }
  [[nodiscard]] VALUE culprit() const noexcept { return culprit_; }

  // To the element that was being written.
  [[nodiscard]] std::string path() const {
    std::string path = options_.root;
    for (std::size_t i = 0; i < depth_; ++i) {
      const Level& level = levels_[i];
      const long at = level.index - 1;
      if (at < 0) break;
      if (level.kind != Kind::kMap) {
        path.append("[").append(std::to_string(at)).append("]");
      } else if (at % 2 == 0) {
        path.append(" (key ").append(shown(level.items, at)).append(")");
      } else {
        path.append("[").append(shown(level.items, at - 1)).append("]");
      }
    }
    return path;
  }

 private:
  static std::string shown(VALUE items, long at) {
    const VALUE key = rb_ary_entry(items, at);
    int state = 0;
    VALUE text = Qnil;
    if (RB_TYPE_P(key, T_STRING) || RB_SYMBOL_P(key) || RB_INTEGER_TYPE_P(key))
      text = protect(state, [&] { return rb_inspect(key); });
    if (state != 0) rb_set_errinfo(Qnil);
    if (state != 0 || !RB_TYPE_P(text, T_STRING)) return "…";
    return {RSTRING_PTR(text), static_cast<std::size_t>(RSTRING_LEN(text))};
  }

  [[nodiscard]] bool is_native() const noexcept { return options_.dialect == Dialect::kNative; }

  bool refuse(const char* reason) noexcept {
    if (reason_ == nullptr) reason_ = reason;
    return false;
  }
  bool refuse(const char* reason, VALUE culprit) noexcept {
    culprit_ = culprit;
    return refuse(reason);
  }

  bool put(VALUE value) {
    if (RB_FIXNUM_P(value)) return writer_.integer(FIX2LONG(value));
    if (NIL_P(value)) return put_constant(is_native() ? "nil" : "undefined");
    if (value == Qtrue) return put_constant("true");
    if (value == Qfalse) return put_constant("false");
    if (RB_SYMBOL_P(value)) return put_symbol(value);
    if (RB_FLOAT_TYPE_P(value)) return put_float(value);
    switch (rb_type(value)) {
      case T_STRING:
        return put_string(value);
      case T_BIGNUM:
        return put_big(value);
      case T_ARRAY:
        if (!is_native() && rb_obj_class(value) != rb_cArray) return put_other(value);
        return put_list(value, Qundef);
      case T_HASH:
        // To ErlPort a Hash is an object like any other: only its Map is a map.
        if (!is_native() && rb_obj_class(value) == rb_cHash) return put_other(value);
        return put_hash(value);
      default:
        return put_object(value);
    }
  }

  bool put_constant(std::string_view name) noexcept {
    return options_.old_forms ? writer_.old_atom(name) : writer_.known_atom(name);
  }
  bool put_symbol(VALUE value) {
    const VALUE text = rb_sym2str(value);
    const std::string_view view(RSTRING_PTR(text), static_cast<std::size_t>(RSTRING_LEN(text)));
    if (options_.old_forms && view.size() <= kMaxAtom && rb_enc_str_asciionly_p(text) != 0)
      return writer_.old_atom(view);
    return writer_.atom(view) || refuse("an atom has at most 255 characters, in UTF-8", value);
  }
  bool put_float(VALUE value) {
    const double number = RFLOAT_VALUE(value);
    if (!is_native() && !std::isfinite(number)) return put_other(value);
    if (std::isnan(number)) return writer_.known_atom("nan");
    if (std::isinf(number)) return writer_.known_atom(number > 0 ? "infinity" : "neg_infinity");
    return writer_.floating(number);
  }
  bool put_string(VALUE value) {
    const int encoding = rb_enc_get_index(value);
    // ErlPort sends the bytes, whatever they stand for.
    if (is_native() && encoding != rb_ascii8bit_encindex() && encoding != rb_utf8_encindex() &&
        encoding != rb_usascii_encindex()) {
      value = rb_str_encode(value, rb_enc_from_encoding(rb_utf8_encoding()), 0, Qnil);
    } else if (is_native() && encoding != rb_ascii8bit_encindex() &&
               rb_enc_str_coderange(value) == ENC_CODERANGE_BROKEN) {
      return refuse("it is no valid UTF-8; String#b makes bytes of it", value);
    }
    std::uint8_t* const to = writer_.binary_in_place(static_cast<std::size_t>(RSTRING_LEN(value)));
    if (to == nullptr) return false;
    std::copy_n(reinterpret_cast<const std::uint8_t*>(RSTRING_PTR(value)), RSTRING_LEN(value), to);
    RB_GC_GUARD(value);
    return true;
  }
  bool put_big(VALUE value) {
    const std::size_t size = rb_absint_size(value, nullptr);
    std::uint8_t* const to = writer_.big_in_place(RBIGNUM_NEGATIVE_P(value), size);
    if (to == nullptr) return false;
    rb_integer_pack(value, to, size, 1, 0, INTEGER_PACK_LSWORD_FIRST | INTEGER_PACK_LSBYTE_FIRST);
    return true;
  }
  bool put_list(VALUE items, VALUE tail) {
    const long count = RARRAY_LEN(items);
    if (count == 0) return tail == Qundef ? writer_.nil() : put(tail);
    if (options_.old_forms && tail == Qundef && is_string(items)) return put_bytes(items);
    return writer_.list_header(static_cast<std::size_t>(count)) && enter(items, tail, count, Kind::kList);
  }
  // Nothing but bytes, and not too many for STRING_EXT.
  static bool is_string(VALUE items) {
    const long count = RARRAY_LEN(items);
    if (count > static_cast<long>(etf::kMaxStringLength)) return false;
    for (long i = 0; i < count; ++i) {
      const VALUE item = RARRAY_AREF(items, i);
      if (!RB_FIXNUM_P(item) || FIX2LONG(item) < 0 || FIX2LONG(item) > 255) return false;
    }
    return true;
  }
  bool put_bytes(VALUE items) {
    const long count = RARRAY_LEN(items);
    std::uint8_t* const to = writer_.string_in_place(static_cast<std::size_t>(count));
    if (to == nullptr) return false;
    for (long i = 0; i < count; ++i) to[i] = static_cast<std::uint8_t>(FIX2LONG(RARRAY_AREF(items, i)));
    return true;
  }
  bool put_hash(VALUE hash) {
    if (RHASH_SIZE(hash) == 0) return writer_.map_header(0);
    const VALUE pairs = rb_ary_new_capa(2 * static_cast<long>(RHASH_SIZE(hash)));
    rb_hash_foreach(hash, push_pair, pairs);
    const long count = RARRAY_LEN(pairs);
    return writer_.map_header(static_cast<std::size_t>(count / 2)) && enter(pairs, Qundef, count, Kind::kMap);
  }
  bool put_object(VALUE value) {
    const Names& known = names();
    const VALUE kind = rb_obj_class(value);
    if (RTEST(rb_obj_is_kind_of(value, known.tuple))) {
      const VALUE items = rb_ivar_get(value, known.items);
      if (!RB_TYPE_P(items, T_ARRAY)) return refuse("a tuple that was not made by Tuple.new", value);
      const long count = RARRAY_LEN(items);
      return writer_.tuple_header(static_cast<std::size_t>(count)) &&
             (count == 0 || enter(items, Qundef, count, Kind::kTuple));
    }
    if (kind == known.improper_list) {
      const VALUE items = rb_ivar_get(value, known.items);
      if (!RB_TYPE_P(items, T_ARRAY))
        return refuse("an improper list that was not made by ImproperList.new", value);
      return put_list(items, rb_ivar_get(value, known.tail));
    }
    if (RTEST(rb_obj_is_kind_of(value, known.term))) return put_term(value, kind);
    return put_other(value);
  }
  // What the Ruby side has in its place.
  bool put_other(VALUE value) {
    const Names& known = names();
    const VALUE other = is_native() ? rb_funcall(known.structs, known.dump, 2, value,
                                                 options_.mapset_version ? Qtrue : Qfalse)
                                    : rb_funcall(known.structs, known.dump_erlport, 1, value);
    if (other != value) {
      if (!roots_.push(other)) return refuse("there is no memory for it");
      // It stays a root until the end: it may be what a level walks.
      return put(other);
    }
    if (NIL_P(options_.objects)) return refuse("it has no counterpart in Elixir", value);
    return put_handle(value, rb_obj_class(value));
  }
  // Pids and the like go back in the bytes in which they came.
  bool put_term(VALUE value, VALUE kind) {
    const VALUE raw = rb_ivar_get(value, names().raw);
    if (!RB_TYPE_P(raw, T_STRING)) return refuse("it did not come from the BEAM", value);
    const etf::Bytes bytes(reinterpret_cast<const std::uint8_t*>(RSTRING_PTR(raw)),
                           static_cast<std::size_t>(RSTRING_LEN(raw)));
    if (kind != names().bit_string) return writer_.raw(bytes);
    const VALUE bits = rb_ivar_get(value, names().bits);
    const unsigned last = RB_FIXNUM_P(bits) ? static_cast<unsigned>(FIX2LONG(bits)) : 0;
    if (last < 1 || last > 8) return refuse("a bit string has 1 to 8 bits in its last byte", value);
    return writer_.bits(bytes, last);
  }
  bool put_handle(VALUE value, VALUE kind) {
    const VALUE id = rb_funcall(options_.objects, names().put, 1, value);
    const VALUE type = rb_class_name(kind);
    if (options_.has_objects != nullptr) *options_.has_objects = true;
    const std::string_view name =
        RB_TYPE_P(type, T_STRING)
            ? std::string_view(RSTRING_PTR(type), static_cast<std::size_t>(RSTRING_LEN(type)))
            : std::string_view("(anonymous class)");
    const bool written = writer_.map_header(3) && writer_.known_atom("__struct__") &&
                         writer_.known_atom("Elixir.Typhon.Object") && writer_.known_atom("id") &&
                         writer_.unsigned_integer(NUM2ULL(id)) && writer_.known_atom("type") &&
                         writer_.binary(name);
    RB_GC_GUARD(const_cast<VALUE&>(type));
    return written;
  }

  bool enter(VALUE items, VALUE tail, long count, Kind kind) noexcept {
    if (depth_ == kMaxDepth) return refuse("more than 10,000 levels, or it contains itself");
    if (depth_ == capacity_) {
      const std::size_t more = capacity_ == 0 ? 64 : capacity_ * 2;
      auto* const moved = static_cast<Level*>(std::realloc(levels_, more * sizeof(Level)));
      if (moved == nullptr) return refuse("there is no memory for it");
      levels_ = moved;
      capacity_ = more;
    }
    const std::size_t before = roots_.size;
    if (!roots_.push(items) || !roots_.push(tail == Qundef ? Qnil : tail))
      return refuse("there is no memory for it");
    levels_[depth_++] = Level{items, tail, 0, count, before, kind};
    return true;
  }
  bool leave(const Level& level) {
    const VALUE tail = level.tail;
    const bool list = level.kind == Kind::kList;
    --depth_;
    roots_.pop(roots_.size - level.roots);
    return !list || (tail == Qundef ? writer_.nil() : put(tail));
  }

  etf::Writer& writer_;
  const Options& options_;
  Roots& roots_;
  Level* levels_ = nullptr;
  std::size_t depth_ = 0;
  std::size_t capacity_ = 0;
  const char* reason_ = nullptr;
  VALUE culprit_ = Qnil;
};

// The exception for a value that cannot cross; `cause`: what Ruby raised for it, or nil.
VALUE make_error(const Encoder& encoder, const etf::Writer& writer, VALUE cause, int& state) noexcept {
  try {
    const std::string path = encoder.path();
    const std::string reason = encoder.reason() != nullptr ? encoder.reason()
                               : writer.ok()               ? "it cannot be sent"
                                                           : writer.why();
    const VALUE culprit = encoder.culprit();
    return protect(state, [&] {
      const VALUE text =
          NIL_P(cause) ? rb_utf8_str_new_cstr(reason.c_str()) : rb_funcall(cause, names().message, 0);
      const VALUE type = NIL_P(culprit) ? Qnil : rb_class_name(rb_obj_class(culprit));
      const VALUE where = rb_utf8_str_new(path.data(), static_cast<long>(path.size()));
      return rb_funcall(names().encode_error, names().make, 3, where, text, type);
    });
  } catch (const std::bad_alloc&) {
    return protect(state, [&] {
      rb_memerror();
      return Qnil;
    });
  }
}

}  // namespace

Encoded encode(VALUE value, etf::Sink& sink, const Options& options) noexcept {
  Encoded encoded;
  RootsObject roots{Qnil, nullptr};
  VALUE before = Qnil;
  protect(encoded.state, [&] {
    roots = make_roots();
    if (!NIL_P(options.objects)) before = rb_funcall(options.objects, names().last_id, 0);
    return Qnil;
  });
  if (encoded.state != 0) return encoded;
  const std::size_t start = sink.size;
  etf::Writer writer(sink);
  Encoder encoder(writer, options, *roots.roots);
  protect(encoded.state, [&] {
    encoded.ok = encoder.run(value);
    return Qnil;
  });
  if (!encoded.ok) {
    const VALUE raised = encoded.state != 0 ? rb_errinfo() : Qnil;
    // A handle of a term that was never sent would live for ever.
    if (!NIL_P(before)) {
      int state = 0;
      protect(state, [&] { return rb_funcall(options.objects, names().rollback, 1, before); });
    }
    if (encoded.state == 0 || is_standard_error(raised)) {
      encoded.state = 0;
      encoded.error = make_error(encoder, writer, raised, encoded.state);
      if (encoded.state == 0) rb_set_errinfo(Qnil);
    }
    writer.rewind(start);
  }
  encoder.free_levels();
  clear_roots(roots);
  RB_GC_GUARD(roots.object);
  return encoded;
}

}  // namespace typhon::ruby

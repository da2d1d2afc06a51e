// Typhon::Native: the extension's door. ruby/typhon.rb has defined the classes that it names.
#include <cstdlib>
#include <cstring>

#include "ruby/codec.h"
#include "ruby/frame.h"

namespace typhon::ruby {

namespace {

void mark_roots(void* data) {
  const auto* const roots = static_cast<Roots*>(data);
  for (std::size_t i = 0; i < roots->size; ++i) rb_gc_mark(roots->items[i]);
}

void free_roots(void* data) {
  std::free(static_cast<Roots*>(data)->items);
  ruby_xfree(data);
}

const rb_data_type_t kRootsType = {"Typhon::Native::Roots",
                                   {mark_roots, free_roots, nullptr, nullptr, {}},
                                   nullptr,
                                   nullptr,
                                   RUBY_TYPED_FREE_IMMEDIATELY};

Options options_of(VALUE dialect) {
  Options options;
  options.dialect = RTEST(dialect) ? Dialect::kErlport : Dialect::kNative;
  return options;
}

// encode(value, erlport?) -> String
VALUE native_encode(VALUE, VALUE value, VALUE dialect) {
  Options options = options_of(dialect);
  options.old_forms = RTEST(dialect);
  Encoded encoded;
  VALUE bytes = Qnil;
  {
    etf::HeapSink sink;
    encoded = encode(value, sink, options);
    if (encoded.ok) {
      bytes = protect(encoded.state, [&] {
        return rb_str_new(reinterpret_cast<const char*>(sink.data), static_cast<long>(sink.size));
      });
      encoded.ok = encoded.state == 0;
    }
  }
  if (!encoded.ok) raise_failure(encoded.error, encoded.state);
  return bytes;
}

// sendable(value, objects): raises what sending it would raise
VALUE native_sendable(VALUE, VALUE value, VALUE objects) {
  Options options;
  options.objects = objects;
  options.root = "result";
  Encoded encoded;
  {
    etf::HeapSink sink;
    encoded = encode(value, sink, options);
  }
  if (!encoded.ok) raise_failure(encoded.error, encoded.state);
  return Qnil;
}

// decode(bytes, erlport?) -> [value, bytes that it took]
VALUE native_decode(VALUE, VALUE bytes, VALUE dialect) {
  StringValue(bytes);
  // Nobody changes it meanwhile.
  const VALUE frozen = rb_str_new_frozen(bytes);
  const std::span<const std::uint8_t> view(reinterpret_cast<const std::uint8_t*>(RSTRING_PTR(frozen)),
                                           static_cast<std::size_t>(RSTRING_LEN(frozen)));
  const Decoded decoded = decode(view, options_of(dialect), false);
  RB_GC_GUARD(const_cast<VALUE&>(frozen));
  if (decoded.value == Qundef) raise_failure(decoded.error, decoded.state);
  return rb_assoc_new(decoded.value, SIZET2NUM(decoded.used));
}

VALUE keep(VALUE value) {
  rb_gc_register_mark_object(value);
  return value;
}

}  // namespace

bool Roots::push(VALUE value) noexcept {
  if (size == capacity) {
    const std::size_t more = capacity == 0 ? 64 : capacity * 2;
    auto* const moved = static_cast<VALUE*>(std::realloc(items, more * sizeof(VALUE)));
    if (moved == nullptr) return false;
    items = moved;
    capacity = more;
  }
  items[size++] = value;
  return true;
}

RootsObject make_roots() {
  Roots* roots = nullptr;
  const VALUE object = TypedData_Make_Struct(rb_cObject, Roots, &kRootsType, roots);
  return {object, roots};
}

void clear_roots(const RootsObject& object) noexcept {
  std::free(object.roots->items);
  *object.roots = Roots{nullptr, 0, 0};
}

Names& names() noexcept {
  static Names known{};
  return known;
}

void find_names(VALUE native) {
  Names& known = names();
  const VALUE typhon = rb_path2class("Typhon");
  const auto constant = [&](const char* name) { return keep(rb_const_get(typhon, rb_intern(name))); };
  known.tuple = constant("Tuple");
  known.improper_list = constant("ImproperList");
  known.bit_string = constant("BitString");
  known.pid = constant("Pid");
  known.reference = constant("Reference");
  known.port = constant("Port");
  known.fun = constant("Fun");
  known.term = constant("Term");
  known.encode_error = constant("EncodeError");
  known.decode_error = constant("DecodeError");
  known.structs = constant("Structs");
  const auto symbol = [](const char* name) { return keep(rb_str_intern(rb_utf8_str_new_cstr(name))); };
  known.struct_key = symbol("__struct__");
  known.data_key = symbol("data");
  known.bytes_name = symbol("Elixir.Typhon.Bytes");
  known.buffer_name = symbol("Elixir.Typhon.Buffer");
  known.array_name = symbol("Elixir.Typhon.Array");
  known.items = rb_intern("@items");
  known.raw = rb_intern("@raw");
  known.bits = rb_intern("@bits");
  known.tail = rb_intern("@tail");
  known.load = rb_intern("load");
  known.load_erlport = rb_intern("load_erlport");
  known.dump = rb_intern("dump");
  known.dump_erlport = rb_intern("dump_erlport");
  known.put = rb_intern("put");
  known.rollback = rb_intern("rollback");
  known.last_id = rb_intern("last_id");
  known.make = rb_intern("new");
  known.message = rb_intern("message");
  rb_define_module_function(native, "encode", RUBY_METHOD_FUNC(native_encode), 2);
  rb_define_module_function(native, "sendable", RUBY_METHOD_FUNC(native_sendable), 2);
  rb_define_module_function(native, "decode", RUBY_METHOD_FUNC(native_decode), 2);
}

}  // namespace typhon::ruby

extern "C" [[gnu::visibility("default")]] void Init_typhon_native() {
  const VALUE native = rb_define_module_under(rb_path2class("Typhon"), "Native");
  typhon::ruby::find_names(native);
  typhon::ruby::define_frame(native);
  typhon::ruby::define_channel(native);
}

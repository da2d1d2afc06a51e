// ruby.h, and how this layer lives with it.
//
// A Ruby exception is a longjmp, which runs no destructor. So code here is of two kinds. What has C++ objects
// alive calls Ruby only inside protect(), which stops every jump; it is noexcept and says what came of it. A
// function that Ruby calls (a method) has none alive when it raises what was caught.
//
// The garbage collector sees the machine's stack, and what Roots has. Whatever lies on the heap in between
// must be among those, or a collection takes it (and compaction moves it).
//
// Everything here needs Ruby's lock (the GVL), except where it says otherwise.
#pragma once

#include <ruby.h>
#include <ruby/encoding.h>
#include <ruby/thread.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

// Ruby's names for functions of C, which C++ has in std.
#undef memcpy
#undef snprintf
#undef vsnprintf

namespace typhon::ruby {

// Runs `body`, a callable that returns a VALUE. `state` is not 0 when it was left by a jump: that goes on
// when the method calls rb_jump_tag(state), with nothing of C++ alive.
template <class Body>
VALUE protect(int& state, Body&& body) noexcept {
  static_assert(std::is_trivially_destructible_v<std::remove_reference_t<Body>>);
  using Plain = std::remove_reference_t<Body>;
  return rb_protect([](VALUE argument) -> VALUE { return (*reinterpret_cast<Plain*>(argument))(); },
                    reinterpret_cast<VALUE>(&body), &state);
}

// What a jump was for: whether it was raised, and may be told as an error. `throw` leaves something of Ruby's
// own there, which is no object.
inline bool is_standard_error(VALUE raised) noexcept {
  return !RB_SPECIAL_CONST_P(raised) && RB_BUILTIN_TYPE(raised) != RUBY_T_IMEMO &&
         RTEST(rb_obj_is_kind_of(raised, rb_eStandardError));
}

// What only native code refers to at the moment: a stack. `object` keeps it known to the collector, and has
// to be on the machine's stack.
struct Roots {
  VALUE* items;
  std::size_t size;
  std::size_t capacity;

  // False without memory.
  bool push(VALUE value) noexcept;
  void pop(std::size_t count) noexcept { size -= count; }
};

struct RootsObject {
  VALUE object;
  Roots* roots;
};

// May raise.
RootsObject make_roots();
// Its memory; what is left goes with the object. Not used afterwards.
void clear_roots(const RootsObject& object) noexcept;

// Classes and names of the Ruby side (ruby/typhon), found once when the extension is loaded. One Ruby a
// process: there is one of it.
struct Names {
  VALUE tuple, improper_list, bit_string, pid, reference, port, fun, term;  // classes
  VALUE encode_error, decode_error;
  VALUE structs;                              // module: load, dump
  VALUE frame, waiter;                        // classes
  VALUE struct_key, data_key;                 // Symbols
  VALUE bytes_name, buffer_name, array_name;  // Symbols
  ID items, raw, bits, tail;                  // instance variables
  ID load, load_erlport, dump, dump_erlport, put, rollback, last_id, make, message;
};

Names& names() noexcept;
// May raise.
void find_names(VALUE native);
void define_channel(VALUE native);

// Whatever the arity.
template <class Function>
void define_method(VALUE of, const char* name, Function* function, int arity) {
  // In parentheses: the macro of that name wants a constant.
  (rb_define_method)(of, name, RUBY_METHOD_FUNC(function), arity);
}

}  // namespace typhon::ruby

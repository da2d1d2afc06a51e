// Ruby objects from bytes and back, in two dialects: the table of docs/ruby.md.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "etf/sink.h"
#include "etf/views.h"
#include "ruby/api.h"

namespace typhon::ruby {

enum class Dialect : std::uint8_t { kNative, kErlport };

struct Options {
  Dialect dialect = Dialect::kNative;
  VALUE objects = Qnil;         // the worker's table; nil: what has no counterpart is an error
  const char* root = "term";    // what paths start with
  bool old_forms = false;       // atoms and lists of bytes as ErlPort's encode writes them, byte by byte
  bool as_object = false;       // the value itself goes as a handle, whatever it is
  bool is_call = false;         // the root is {Module, Function, Args, Kwargs}: paths start with their names
  bool mapset_version = false;  // Elixir's MapSet has a `version` field
  bool* has_objects = nullptr;  // set when a handle was written
};

// Qundef on failure: `state` of a jump that goes on, or else `error` is the exception to raise.
struct Decoded {
  VALUE value = Qundef;
  VALUE error = Qnil;
  int state = 0;
  std::size_t used = 0;
};
// `whole`: nothing may follow the term.
Decoded decode(std::span<const std::uint8_t> bytes, const Options& options, bool whole = true) noexcept;

struct Encoded {
  bool ok = false;
  VALUE error = Qnil;
  int state = 0;
};
// With the version byte; appends to the sink, which is as it was after a failure.
Encoded encode(VALUE value, etf::Sink& sink, const Options& options) noexcept;

// For the end of a method: raises what it was. Nothing of C++ may be alive.
[[noreturn]] void raise_failure(VALUE error, int state);

}  // namespace typhon::ruby

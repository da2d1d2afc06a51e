// What one decode shares between its decoder and the makers of structs: the options, the memory behind
// buffers, and why it was refused.
#pragma once

#include "python/codec.h"
#include "python/cpython.h"
#include "python/module_state.h"
#include "python/ref.h"

#include "etf/views.h"

#include <string>
#include <string_view>

namespace typhon::python {

class DecodeContext {
 public:
  DecodeContext(ModuleState& module_state, const DecodeOptions& decode_options) noexcept
      : state(module_state), options(decode_options) {}

  // Says why the term cannot become a Python object; always nullptr, for `return context.refuse(…)`. An
  // exception that is set becomes the cause of the DecodeError.
  [[gnu::cold]] PyObject* refuse(const char* format, ...) noexcept __attribute__((format(printf, 2, 3)));
  [[gnu::cold]] PyObject* refuse_text(const std::string& reason) noexcept;

  // For a Python API that failed while making a `what`: refuses with the exception's own words.
  [[gnu::cold]] PyObject* refuse_exception(const char* what) noexcept;
  // For an import that failed: the sentence, and the exception's words.
  [[gnu::cold]] PyObject* refuse_import(const char* sentence) noexcept;

  // For a function of Python's that makes an object of a struct, and has raised.
  [[gnu::cold]] PyObject* refuse_decoder(PyBorrowed decoder, std::string_view name) noexcept;

  // "" when nothing was refused: then the exception that is set says why.
  [[nodiscard]] const std::string& reason() const noexcept { return reason_; }

  // A read-only memoryview of these bytes of the input: of the owner's memory when they lie in it, of a copy
  // otherwise.
  PyObject* view(etf::Bytes) noexcept;

  ModuleState& state;
  const DecodeOptions& options;

 private:
  bool open_owner() noexcept;
  PyObject* refuse_because(const char* verb, const char* what) noexcept;

  std::string reason_;
  PyRef owner_view_;  // a read-only memoryview of all of options.buffer_owner
  const std::uint8_t* owner_begin_ = nullptr;
  const std::uint8_t* owner_end_ = nullptr;
  bool owner_opened_ = false;
};

}  // namespace typhon::python

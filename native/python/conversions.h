// Conversions: what Python code has registered: functions for classes whose instances are sent as something
// else (typhon.encoder), and for structs that become objects (typhon.decoder). One for each interpreter.
//
// Any thread, also without a GIL: the dicts are CPython's, and what is found in them is owned.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include <atomic>
#include <cstdint>
#include <string>

namespace typhon::python {

class Conversions {
 public:
  Conversions() noexcept = default;
  Conversions(const Conversions&) = delete;
  Conversions& operator=(const Conversions&) = delete;

  // 0, or -1 with an exception set.
  int init() noexcept;

  // False with an exception set. What was registered before for the same goes.
  bool add_encoder(PyBorrowed type, PyBorrowed function) noexcept;
  bool add_decoder(PyBorrowed name, PyBorrowed function) noexcept;

  // The function for the class or for the nearest one that it derives from. Empty: there is none, or an
  // exception is set.
  PyRef encoder_of(PyTypeObject* type) const noexcept;
  // The same for the name of a struct, a str.
  PyRef decoder_of(PyBorrowed name) const noexcept;

  // Changes when an encoder comes: what is remembered of classes may be wrong then. 0: there are none.
  [[nodiscard]] std::uint32_t encoders_version() const noexcept {
    return encoders_version_.load(std::memory_order_acquire);
  }
  [[nodiscard]] bool has_decoders() const noexcept { return has_decoders_.load(std::memory_order_acquire); }

  int traverse(visitproc visit, void* arg) const noexcept;
  void clear() noexcept;

 private:
  PyRef encoders_;  // dict: the address of a class to (class, function); a class need not be hashable
  PyRef decoders_;  // dict: str to function
  std::atomic<std::uint32_t> encoders_version_ = 0;
  std::atomic<bool> has_decoders_ = false;
};

// A function's module and name, for an error text. May throw std::bad_alloc.
std::string function_name(PyBorrowed function);

// typhon._native.register_encoder and register_decoder
PyMethodDef* conversion_functions() noexcept;

}  // namespace typhon::python

// Result<T>: a value, or an Error that says what went wrong and where.
//
// Codec and channel functions are noexcept and return one. It must be looked at ([[nodiscard]]); value() on
// an error is a programming mistake and asserts in debug builds. Not thread-safe; a plain value otherwise.
#pragma once

#include <cassert>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

namespace typhon {

enum class Code : std::uint8_t {
  kTruncated,     // the bytes end inside a term or frame
  kInvalid,       // bytes that no writer emits
  kUnsupported,   // well-formed, but not in the subset we take
  kTooDeep,       // nesting beyond the limit
  kTooLarge,      // a size beyond a limit or beyond what remains
  kTooManyAtoms,  // the atom limit
  kTrailing,      // bytes after the term
  kHost,          // the host language's decoder or visitor refused; it holds the details
  kSystem,        // a system call failed
  kClosed,        // the other side is gone
};

struct Error {
  Code code{};
  std::uint64_t offset = 0;  // byte offset in the input, where there is one
  std::string message;
};

template <class T>
class [[nodiscard]] Result {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor)
  Result(T value) noexcept(std::is_nothrow_move_constructible_v<T>)
      : state_(std::in_place_index<0>, std::move(value)) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  Result(Error error) noexcept : state_(std::in_place_index<1>, std::move(error)) {}

  [[nodiscard]] bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }

  [[nodiscard]] T& value() & noexcept {
    assert(ok());
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] T&& value() && noexcept {
    assert(ok());
    return std::move(*std::get_if<0>(&state_));
  }
  [[nodiscard]] const T& value() const& noexcept {
    assert(ok());
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] const Error& error() const& noexcept {
    assert(!ok());
    return *std::get_if<1>(&state_);
  }
  [[nodiscard]] Error&& error() && noexcept {
    assert(!ok());
    return std::move(*std::get_if<1>(&state_));
  }

 private:
  std::variant<T, Error> state_;
};

struct Unit {};
using Status = Result<Unit>;

}  // namespace typhon

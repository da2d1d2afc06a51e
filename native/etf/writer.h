// Writer: puts terms into a Sink in External Term Format, each in the form that erlang:term_to_binary/1 of
// OTP 26 and newer chooses (atoms in UTF-8), so that equal plain terms give equal bytes.
//
// The caller walks its own values: a header first, then exactly as many terms as it announced (a list needs
// its tail, nil() for a proper one). The Writer does not count; debug tools such as skip() do.
//
// Errors are sticky: after the first one nothing more is written and every function returns false; outcome()
// says what it was, with the position in the sink. All functions are noexcept. One thread at a time. The Sink
// is borrowed and must outlive the Writer.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>

#include "base/bytes.h"
#include "etf/outcome.h"
#include "etf/sink.h"
#include "etf/tags.h"
#include "etf/views.h"

namespace typhon::etf {

class Writer {
 public:
  explicit Writer(Sink& sink) noexcept : sink_(sink) {}
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() = default;

  [[nodiscard]] bool ok() const noexcept { return expected_ == nullptr; }
  [[nodiscard]] Outcome outcome() const noexcept {
    return ok() ? Outcome::success(sink_.size) : Outcome::failure(code_, position_, expected_);
  }
  [[nodiscard]] std::size_t position() const noexcept { return sink_.size; }
  [[nodiscard]] Sink& sink() noexcept { return sink_; }
  // What the destination says about it, or else what was expected; after a failure.
  [[nodiscard]] std::string why() const {
    const char* const refusal = sink_.refusal();
    return refusal != nullptr ? refusal : "expected " + std::string(outcome().expected);
  }

  // The version byte, first in every message.
  bool version() noexcept { return put_tag(kVersion); }

  // --- integers ---

  bool integer(std::int64_t value) noexcept {
    if (value >= 0 && value <= 255) {
      std::uint8_t* const p = room(2);
      if (p == nullptr) [[unlikely]]
        return false;
      p[0] = kSmallInteger;
      p[1] = static_cast<std::uint8_t>(value);
      return wrote(2);
    }
    if (value >= std::numeric_limits<std::int32_t>::min() &&
        value <= std::numeric_limits<std::int32_t>::max()) {
      std::uint8_t* const p = room(5);
      if (p == nullptr) [[unlikely]]
        return false;
      p[0] = kInteger;
      store_big(p + 1, static_cast<std::uint32_t>(value));
      return wrote(5);
    }
    const bool negative = value < 0;
    return small_big(negative,
                     negative ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value));
  }

  bool unsigned_integer(std::uint64_t value) noexcept {
    if (value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      return integer(static_cast<std::int64_t>(value));
    return small_big(false, value);
  }

  // An integer of any size by its magnitude; leading zeros are dropped and small values take the small forms.
  bool big(bool negative, Bytes little_endian_magnitude) noexcept;

  // For a magnitude that the host writes by itself: puts the header for `size` bytes (no leading zero
  // allowed, the value beyond 32 bits signed) and returns where the magnitude goes, or nullptr. It counts as
  // written.
  [[nodiscard]] std::uint8_t* big_in_place(bool negative, std::size_t size) noexcept;

  // --- floats, atoms, binaries ---

  // False for infinities and NaN: the BEAM has none.
  bool floating(double value) noexcept {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    constexpr std::uint64_t kExponent = 0x7ff0'0000'0000'0000;
    if ((bits & kExponent) == kExponent) [[unlikely]]
      return fail(Code::kInvalid, "a finite float");
    std::uint8_t* const p = room(9);
    if (p == nullptr) [[unlikely]]
      return false;
    p[0] = kNewFloat;
    store_big(p + 1, bits);
    return wrote(9);
  }

  // At most 255 characters of valid UTF-8: checked.
  bool atom(std::string_view utf8) noexcept;

  // For text known to be good: at most 255 bytes, valid UTF-8 (literals, atoms that were decoded).
  bool known_atom(std::string_view utf8) noexcept {
    std::uint8_t* const p = room(2 + utf8.size());
    if (p == nullptr) [[unlikely]]
      return false;
    p[0] = kSmallAtomUtf8;
    p[1] = static_cast<std::uint8_t>(utf8.size());
    if (!utf8.empty()) std::memcpy(p + 2, utf8.data(), utf8.size());
    return wrote(2 + utf8.size());
  }

  // The same text in the form that was there before UTF-8, ATOM_EXT; ASCII only.
  bool old_atom(std::string_view ascii) noexcept {
    std::uint8_t* const p = room(3 + ascii.size());
    if (p == nullptr) [[unlikely]]
      return false;
    p[0] = kAtomLatin1;
    store_big(p + 1, static_cast<std::uint16_t>(ascii.size()));
    if (!ascii.empty()) std::memcpy(p + 3, ascii.data(), ascii.size());
    return wrote(3 + ascii.size());
  }

  bool binary(Bytes bytes) noexcept {
    std::uint8_t* const p = binary_in_place(bytes.size());
    if (p == nullptr) [[unlikely]]
      return false;
    if (!bytes.empty()) std::memcpy(p, bytes.data(), bytes.size());
    return true;
  }
  bool binary(std::string_view text) noexcept {
    return binary(Bytes(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
  }

  // Header of a binary of `size` bytes; returns where they go (they count as written), or nullptr.
  [[nodiscard]] std::uint8_t* binary_in_place(std::size_t size) noexcept {
    if (size >= Sink::kLargeBinary) [[unlikely]]
      sink_.has_large_binary = true;
    if (size > std::numeric_limits<std::uint32_t>::max()) [[unlikely]] {
      fail(Code::kTooLarge, "a binary of fewer than 2^32 bytes");
      return nullptr;
    }
    std::uint8_t* const p = room(5 + size);
    if (p == nullptr) [[unlikely]]
      return nullptr;
    p[0] = kBinary;
    store_big(p + 1, static_cast<std::uint32_t>(size));
    sink_.size += 5 + size;
    return p + 5;
  }

  // A binary that goes as loan `index` of the frame, and not here.
  bool lent(std::uint32_t index) noexcept {
    sink_.has_large_binary = true;
    return counted(kLent, index);
  }

  // bits_in_last_byte 1..8 (8, or no bytes: a plain binary). Unused bits are written as zeros, as OTP does.
  bool bits(Bytes bytes, unsigned bits_in_last_byte) noexcept;

  // --- containers: the header; the caller writes what follows ---

  bool tuple_header(std::size_t arity) noexcept {
    if (arity <= 255) [[likely]] {
      std::uint8_t* const p = room(2);
      if (p == nullptr) [[unlikely]]
        return false;
      p[0] = kSmallTuple;
      p[1] = static_cast<std::uint8_t>(arity);
      return wrote(2);
    }
    return counted(kLargeTuple, arity);
  }
  // `length` >= 1 (an empty list is nil()). Then the elements, then the tail: nil() when proper.
  bool list_header(std::size_t length) noexcept { return counted(kList, length); }
  // Then `pairs` times a key and its value. Distinct keys are the caller's part.
  bool map_header(std::size_t pairs) noexcept { return counted(kMap, pairs); }
  bool nil() noexcept { return put_tag(kNil); }
  // The list of these bytes as integers, in the form OTP takes: [] for none, LIST_EXT beyond 65535.
  bool string(Bytes bytes) noexcept;
  // STRING_EXT of 1 to kMaxStringLength bytes; returns where they go (they count as written), or nullptr.
  [[nodiscard]] std::uint8_t* string_in_place(std::size_t size) noexcept;

  // --- identifiers and funs: newest forms, as OTP emits them. To echo one that came in, raw() its bytes. ---

  bool pid(const PidView&) noexcept;
  bool port(const PortView&) noexcept;
  bool reference(const ReferenceView&) noexcept;
  bool exported_fun(std::string_view module, std::string_view function, std::uint32_t arity) noexcept;

  // --- whole terms and repairs ---

  // Bytes of a whole term without its version byte. Not validated.
  bool raw(Bytes term) noexcept {
    std::uint8_t* const p = room(term.size());
    if (p == nullptr) [[unlikely]]
      return false;
    if (!term.empty()) std::memcpy(p, term.data(), term.size());
    return wrote(term.size());
  }

  // A count that was not known when its header was written (map_header, list_header: at header position + 1).
  void patch_count(std::size_t position, std::uint32_t count) const noexcept {
    if (ok()) store_big(sink_.data + position, count);
  }

  // Forgets everything from `position` on, also an error that happened there.
  void rewind(std::size_t position) noexcept {
    if (!ok() && position_ >= position) expected_ = nullptr;
    sink_.size = position;
  }

  // Stops the writing with an error of the caller's (a static sentence).
  [[gnu::cold]] bool fail(Code code, const char* expected) noexcept {
    if (expected_ == nullptr) {
      code_ = code;
      expected_ = expected;
      position_ = sink_.size;
    }
    return false;
  }

 private:
  // Where the next `bytes` go; nullptr after an error.
  std::uint8_t* room(std::size_t bytes) noexcept {
    if (sink_.capacity - sink_.size < bytes || expected_ != nullptr) [[unlikely]] {
      if (!make_room(bytes)) return nullptr;
    }
    return sink_.data + sink_.size;
  }
  bool wrote(std::size_t bytes) noexcept {
    sink_.size += bytes;
    return true;
  }
  bool put_tag(std::uint8_t tag) noexcept {
    std::uint8_t* const p = room(1);
    if (p == nullptr) [[unlikely]]
      return false;
    p[0] = tag;
    return wrote(1);
  }
  bool counted(std::uint8_t tag, std::size_t count) noexcept {
    if (count > std::numeric_limits<std::uint32_t>::max()) [[unlikely]]
      return fail(Code::kTooLarge, "fewer than 2^32 elements");
    std::uint8_t* const p = room(5);
    if (p == nullptr) [[unlikely]]
      return false;
    p[0] = tag;
    store_big(p + 1, static_cast<std::uint32_t>(count));
    return wrote(5);
  }
  bool small_big(bool negative, std::uint64_t magnitude) noexcept;
  bool make_room(std::size_t bytes) noexcept;

  Sink& sink_;
  const char* expected_ = nullptr;
  std::size_t position_ = 0;
  Code code_{};
};

// Replaces the term at `start` (its version byte) up to the sink's end by its compressed form, at zlib
// level 1..9, as term_to_binary(T, [{compressed, Level}]) does: unless that is longer (and with the same
// bytes where both use the same zlib). Level 0 does nothing. False when memory is short; the term is left as
// it was then.
bool compress(Sink& sink, std::size_t start, int level) noexcept;

}  // namespace typhon::etf

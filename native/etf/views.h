// What a decoder gets for identifiers and funs: the fields, and the bytes of the whole term for an identical
// round trip. Views borrow from the input (or from a scratch buffer, see `node`) and are valid during that
// call only.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/bytes.h"

namespace typhon::etf {

using Bytes = std::span<const std::uint8_t>;

// `raw` is the term without the version byte, in the form in which it came (old forms stay old: writing raw
// back is always valid ETF). Equality of two identifiers is equality of the fields, not of `raw`: the same
// pid has several encodings. `node` is UTF-8 in every case.
struct PidView {
  std::string_view node;
  std::uint32_t id = 0;
  std::uint32_t serial = 0;
  std::uint32_t creation = 0;
  Bytes raw;
};

struct PortView {
  std::string_view node;
  std::uint64_t id = 0;
  std::uint32_t creation = 0;
  Bytes raw;
};

struct ReferenceView {
  std::string_view node;
  std::uint32_t creation = 0;
  Bytes words;  // 0..5 words of 4 bytes, big endian, in wire order
  Bytes raw;

  [[nodiscard]] std::uint32_t count() const noexcept { return static_cast<std::uint32_t>(words.size() / 4); }
  [[nodiscard]] std::uint32_t word(std::uint32_t index) const noexcept {
    return load_big<std::uint32_t>(words.data() + std::size_t{index} * 4);
  }
};

// fun Module:Function/Arity
struct ExportView {
  std::string_view module;
  std::string_view function;
  std::uint32_t arity = 0;
  Bytes raw;
};

// A closure. Its free variables are validated (so raw is good ETF to its end) but not built.
struct FunView {
  std::string_view module;
  std::uint8_t arity = 0;
  Bytes uniq;  // 16 bytes
  std::uint32_t index = 0;
  std::uint32_t free_count = 0;
  std::int64_t old_index = 0;
  std::int64_t old_uniq = 0;
  Bytes free_variables;  // free_count terms, one after the other
  Bytes raw;
};

// A term in some decoder's private format (term_to_binary(T, [local])): opaque, and only ever a whole term.
struct LocalView {
  Bytes payload;  // everything after the tag
  Bytes raw;      // with the tag
};

}  // namespace typhon::etf

// Readers for single terms without structure: the rare leaves of decode() and every leaf of skip(). Not
// templates, so that their code exists once. All are noexcept, check bounds before each read, and allocate
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "etf/outcome.h"
#include "etf/tags.h"
#include "etf/views.h"

namespace typhon::etf::detail {

// A cursor and, after a function returned false, why.
struct Scan {
  const std::uint8_t* at = nullptr;
  const std::uint8_t* end = nullptr;
  Code code{};
  const char* expected = nullptr;
  const std::uint8_t* fault = nullptr;  // where, when not at the start of the term
  std::uint32_t loans = 0;              // as in Limits

  [[nodiscard]] std::size_t left() const noexcept { return static_cast<std::size_t>(end - at); }
  [[gnu::cold]] bool fail(Code why, const char* what) noexcept {
    code = why;
    expected = what;
    return false;
  }
  [[gnu::cold]] bool truncated() noexcept {
    return fail(Code::kTruncated, "more bytes: the input ends inside a term");
  }
};

// Latin-1 text of an atom as UTF-8; only old forms need it.
struct AtomScratch {
  char text[2 * kMaxAtomCharacters];
};

struct BigView {
  bool negative = false;
  bool fits = false;  // in 64 bits: then `small` has it
  std::int64_t small = 0;
  Bytes magnitude;  // else: little endian, no leading zeros
};

// True when `text` is valid UTF-8 and has at most 255 characters.
[[nodiscard]] bool check_atom(std::string_view text) noexcept;

// Each reads the term at scan.at (its tag matters and is one that the function is for) and moves scan.at
// behind it.

// Any atom form; the text is not validated for the UTF-8 ones: pass it to check_atom.
bool scan_atom_text(Scan&, AtomScratch&, std::string_view&) noexcept;
// Any atom form, validated. Anything else than an atom fails.
bool scan_atom(Scan&, AtomScratch&, std::string_view&) noexcept;
bool scan_string(Scan&, Bytes&) noexcept;
bool scan_big(Scan&, BigView&) noexcept;
bool scan_float_text(Scan&, double&) noexcept;
// bits_in_last_byte is 1..8; an empty bit string has 8.
bool scan_bits(Scan&, Bytes&, unsigned& bits_in_last_byte) noexcept;
bool scan_pid(Scan&, AtomScratch&, PidView&) noexcept;
bool scan_port(Scan&, AtomScratch&, PortView&) noexcept;
bool scan_reference(Scan&, AtomScratch&, ReferenceView&) noexcept;
bool scan_export(Scan&, AtomScratch& module, AtomScratch& function, ExportView&) noexcept;
// Validates the free variables, too: `depth` containers are open around it, and those still need `owed`
// terms.
bool scan_fun(Scan&, AtomScratch&, std::uint32_t max_depth, std::uint32_t depth, std::uint64_t owed,
              FunView&) noexcept;
// The index of a loan, below scan.loans; without any it is an unknown tag.
bool scan_lent(Scan&, std::uint32_t& index) noexcept;
// Fails, and says why this tag cannot be read.
bool scan_unknown(Scan&) noexcept;

}  // namespace typhon::etf::detail

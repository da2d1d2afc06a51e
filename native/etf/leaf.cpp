#include "etf/leaf.h"

#include <charconv>
#include <cstring>
#include <limits>
#include <system_error>

#include "base/bytes.h"
#include "etf/skip_terms.h"

namespace typhon::etf::detail {
namespace {

constexpr const char* kExpectAtom = "an atom of at most 255 characters in UTF-8";

// Old identifiers have one byte of creation, of which two bits count; OTP refuses others.
constexpr std::uint8_t kMaxTinyCreation = 3;

bool scan_creation(Scan& scan, bool tiny, std::uint32_t& creation) noexcept {
  if (tiny) {
    if (scan.left() < 1) return scan.truncated();
    if (*scan.at > kMaxTinyCreation)
      return scan.fail(Code::kInvalid, "a creation of 0 to 3 in an old identifier");
    creation = *scan.at++;
    return true;
  }
  if (scan.left() < 4) return scan.truncated();
  creation = load_big<std::uint32_t>(scan.at);
  scan.at += 4;
  return true;
}

bool scan_u32(Scan& scan, std::uint32_t& value) noexcept {
  if (scan.left() < 4) return scan.truncated();
  value = load_big<std::uint32_t>(scan.at);
  scan.at += 4;
  return true;
}

// A field that is an integer term: any form whose value fits.
bool scan_integer(Scan& scan, std::int64_t& value) noexcept {
  if (scan.left() < 1) return scan.truncated();
  switch (*scan.at) {
    case kSmallInteger:
      if (scan.left() < 2) return scan.truncated();
      value = scan.at[1];
      scan.at += 2;
      return true;
    case kInteger:
      if (scan.left() < 5) return scan.truncated();
      value = static_cast<std::int32_t>(load_big<std::uint32_t>(scan.at + 1));
      scan.at += 5;
      return true;
    case kSmallBig:
    case kLargeBig: {
      BigView big;
      if (!scan_big(scan, big)) return false;
      if (!big.fits) return scan.fail(Code::kInvalid, "a small integer");
      value = big.small;
      return true;
    }
    default:
      return scan.fail(Code::kInvalid, "an integer");
  }
}

// Length of the UTF-8 sequence at `at`, 0 when it is not a valid one (overlong forms, surrogates and values
// beyond U+10FFFF are not).
std::size_t sequence(const std::uint8_t* at, std::size_t left) noexcept {
  const std::uint8_t lead = at[0];
  if (lead < 0x80) return 1;
  const auto continues = [&](std::size_t i) { return (at[i] & 0xc0) == 0x80; };
  if (lead < 0xc2) return 0;
  if (lead < 0xe0) return left >= 2 && continues(1) ? 2 : 0;
  if (lead < 0xf0) {
    if (left < 3 || !continues(1) || !continues(2)) return 0;
    if (lead == 0xe0 && at[1] < 0xa0) return 0;
    if (lead == 0xed && at[1] > 0x9f) return 0;
    return 3;
  }
  if (lead > 0xf4 || left < 4 || !continues(1) || !continues(2) || !continues(3)) return 0;
  if (lead == 0xf0 && at[1] < 0x90) return 0;
  if (lead == 0xf4 && at[1] > 0x8f) return 0;
  return 4;
}

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

}  // namespace

bool check_atom(std::string_view text) noexcept {
  const auto* at = reinterpret_cast<const std::uint8_t*>(text.data());
  std::size_t left = text.size();
  if (left > std::size_t{4} * kMaxAtomCharacters) return false;
  // Nearly all atoms are ASCII, and then bytes are characters.
  std::uint64_t high = 0;
  std::size_t i = 0;
  for (; i + 8 <= left; i += 8) high |= load_big<std::uint64_t>(at + i);
  for (; i < left; ++i) high |= at[i];
  if ((high & 0x8080'8080'8080'8080) == 0) return left <= kMaxAtomCharacters;

  std::size_t characters = 0;
  while (left != 0) {
    const std::size_t length = sequence(at, left);
    if (length == 0) return false;
    at += length;
    left -= length;
    ++characters;
  }
  return characters <= kMaxAtomCharacters;
}

bool scan_atom_text(Scan& scan, AtomScratch& scratch, std::string_view& text) noexcept {
  if (scan.left() < 1) return scan.truncated();
  const std::uint8_t tag = scan.at[0];
  std::size_t header = 0;
  switch (tag) {
    case kSmallAtomUtf8:
    case kSmallAtomLatin1:
      header = 2;
      break;
    case kAtomUtf8:
    case kAtomLatin1:
      header = 3;
      break;
    case kAtomCacheRef:
      return scan.fail(Code::kUnsupported, "an atom by its text, not by a cache reference");
    default:
      return scan.fail(Code::kInvalid, "an atom");
  }
  if (scan.left() < header) return scan.truncated();
  const std::size_t size = header == 2 ? scan.at[1] : load_big<std::uint16_t>(scan.at + 1);
  const std::uint8_t* const bytes = scan.at + header;
  if (scan.left() - header < size) return scan.truncated();
  scan.at = bytes + size;
  if (tag == kSmallAtomUtf8 || tag == kAtomUtf8) {
    text = std::string_view(reinterpret_cast<const char*>(bytes), size);
    return true;
  }
  if (size > kMaxAtomCharacters) return scan.fail(Code::kInvalid, kExpectAtom);
  std::size_t length = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const std::uint8_t c = bytes[i];
    if (c < 0x80) {
      scratch.text[length++] = static_cast<char>(c);
    } else {
      scratch.text[length++] = static_cast<char>(0xc0 | (c >> 6));
      scratch.text[length++] = static_cast<char>(0x80 | (c & 0x3f));
    }
  }
  text = std::string_view(scratch.text, length);
  return true;
}

bool scan_atom(Scan& scan, AtomScratch& scratch, std::string_view& text) noexcept {
  if (!scan_atom_text(scan, scratch, text)) return false;
  return check_atom(text) || scan.fail(Code::kInvalid, kExpectAtom);
}

bool scan_string(Scan& scan, Bytes& bytes) noexcept {
  if (scan.left() < 3) return scan.truncated();
  const std::size_t size = load_big<std::uint16_t>(scan.at + 1);
  if (scan.left() - 3 < size) return scan.truncated();
  bytes = Bytes(scan.at + 3, size);
  scan.at += 3 + size;
  return true;
}

bool scan_big(Scan& scan, BigView& big) noexcept {
  const std::size_t header = scan.at[0] == kSmallBig ? 3 : 6;
  if (scan.left() < header) return scan.truncated();
  const std::size_t claimed = header == 3 ? scan.at[1] : load_big<std::uint32_t>(scan.at + 1);
  if (scan.left() - header < claimed) return scan.truncated();
  const std::uint8_t* const digits = scan.at + header;
  big.negative = digits[-1] != 0;
  scan.at = digits + claimed;

  std::size_t size = claimed;
  while (size != 0 && digits[size - 1] == 0) --size;
  big.magnitude = Bytes(digits, size);
  if (size > 8) return true;
  std::uint64_t magnitude = 0;
  for (std::size_t i = size; i-- != 0;) magnitude = magnitude << 8 | digits[i];
  constexpr std::uint64_t kMinimum = std::uint64_t{1} << 63;
  if (magnitude < kMinimum) {
    const auto value = static_cast<std::int64_t>(magnitude);
    big.fits = true;
    big.small = big.negative ? -value : value;
  } else if (big.negative && magnitude == kMinimum) {
    big.fits = true;
    big.small = std::numeric_limits<std::int64_t>::min();
  }
  return true;
}

bool scan_float_text(Scan& scan, double& value) noexcept {
  constexpr std::size_t kSize = 31;
  constexpr const char* kExpected = "a finite float as text, such as 1.50000000000000000000e+00";
  if (scan.left() < 1 + kSize) return scan.truncated();
  char text[kSize];
  std::memcpy(text, scan.at + 1, kSize);
  scan.at += 1 + kSize;
  const void* const zero = std::memchr(text, 0, kSize);
  const char* const end = zero != nullptr ? static_cast<const char*>(zero) : text + kSize;

  // Stricter than from_chars, as OTP is: digits on both sides of the point. A comma is some C locale's point.
  char* at = text;
  if (at != end && (*at == '+' || *at == '-')) ++at;
  const char* digits = at;
  while (at != end && is_digit(*at)) ++at;
  if (at == digits || at == end || (*at != '.' && *at != ',')) return scan.fail(Code::kInvalid, kExpected);
  *at++ = '.';
  digits = at;
  while (at != end && is_digit(*at)) ++at;
  if (at == digits) return scan.fail(Code::kInvalid, kExpected);
  bool shrinks = false;
  if (at != end) {
    if (*at != 'e' && *at != 'E') return scan.fail(Code::kInvalid, kExpected);
    ++at;
    if (at != end && (*at == '+' || *at == '-')) shrinks = *at++ == '-';
    digits = at;
    while (at != end && is_digit(*at)) ++at;
    if (at == digits || at != end) return scan.fail(Code::kInvalid, kExpected);
  }
  const char* const from = text[0] == '+' ? text + 1 : text;
  const auto [stop, error] = std::from_chars(from, end, value);
  if (error == std::errc::result_out_of_range && shrinks) {
    value = text[0] == '-' ? -0.0 : 0.0;  // too small for a double rather than too large
    return true;
  }
  return (error == std::errc{} && stop == end) || scan.fail(Code::kInvalid, kExpected);
}

bool scan_bits(Scan& scan, Bytes& bytes, unsigned& bits_in_last_byte) noexcept {
  if (scan.left() < 6) return scan.truncated();
  const std::size_t size = load_big<std::uint32_t>(scan.at + 1);
  const unsigned bits = scan.at[5];
  if (scan.left() - 6 < size) return scan.truncated();
  if (bits > 8 || (bits == 0) != (size == 0))
    return scan.fail(Code::kInvalid, "1 to 8 bits in the last byte");
  bytes = Bytes(scan.at + 6, size);
  bits_in_last_byte = size == 0 ? 8 : bits;
  scan.at += 6 + size;
  return true;
}

bool scan_pid(Scan& scan, AtomScratch& scratch, PidView& pid) noexcept {
  const std::uint8_t* const start = scan.at;
  if (scan.left() < 1) return scan.truncated();
  if (*start != kPid && *start != kNewPid) return scan.fail(Code::kInvalid, "a pid");
  ++scan.at;
  if (!scan_atom(scan, scratch, pid.node) || !scan_u32(scan, pid.id) || !scan_u32(scan, pid.serial) ||
      !scan_creation(scan, *start == kPid, pid.creation))
    return false;
  pid.raw = Bytes(start, scan.at);
  return true;
}

bool scan_port(Scan& scan, AtomScratch& scratch, PortView& port) noexcept {
  const std::uint8_t* const start = scan.at++;
  if (!scan_atom(scan, scratch, port.node)) return false;
  if (*start == kV4Port) {
    if (scan.left() < 8) return scan.truncated();
    port.id = load_big<std::uint64_t>(scan.at);
    scan.at += 8;
  } else {
    std::uint32_t id = 0;
    if (!scan_u32(scan, id)) return false;
    port.id = id;
  }
  if (!scan_creation(scan, *start == kPort, port.creation)) return false;
  port.raw = Bytes(start, scan.at);
  return true;
}

bool scan_reference(Scan& scan, AtomScratch& scratch, ReferenceView& reference) noexcept {
  const std::uint8_t* const start = scan.at++;
  if (*start == kReference) {
    if (!scan_atom(scan, scratch, reference.node)) return false;
    if (scan.left() < 4) return scan.truncated();
    reference.words = Bytes(scan.at, 4);
    scan.at += 4;
    if (!scan_creation(scan, true, reference.creation)) return false;
  } else {
    if (scan.left() < 2) return scan.truncated();
    const std::size_t words = load_big<std::uint16_t>(scan.at);
    scan.at += 2;
    if (words > kMaxReferenceWords) return scan.fail(Code::kInvalid, "a reference of at most 5 words");
    if (!scan_atom(scan, scratch, reference.node) ||
        !scan_creation(scan, *start == kNewReference, reference.creation))
      return false;
    if (scan.left() < words * 4) return scan.truncated();
    reference.words = Bytes(scan.at, words * 4);
    scan.at += words * 4;
  }
  reference.raw = Bytes(start, scan.at);
  return true;
}

bool scan_export(Scan& scan, AtomScratch& module, AtomScratch& function, ExportView& view) noexcept {
  const std::uint8_t* const start = scan.at++;
  std::int64_t arity = 0;
  if (!scan_atom(scan, module, view.module) || !scan_atom(scan, function, view.function) ||
      !scan_integer(scan, arity))
    return false;
  if (arity < 0 || arity > std::numeric_limits<std::uint32_t>::max())
    return scan.fail(Code::kInvalid, "an arity that is not negative");
  view.arity = static_cast<std::uint32_t>(arity);
  view.raw = Bytes(start, scan.at);
  return true;
}

bool scan_fun_header(Scan& scan, AtomScratch& scratch, FunView& fun, const std::uint8_t*& fun_end) noexcept {
  constexpr std::size_t kFixed = 1 + 4 + 1 + 16 + 4 + 4;
  const std::uint8_t* const start = scan.at;
  if (scan.left() < kFixed) return scan.truncated();
  const std::size_t size = load_big<std::uint32_t>(start + 1);
  fun.arity = start[5];
  fun.uniq = Bytes(start + 6, 16);
  fun.index = load_big<std::uint32_t>(start + 22);
  fun.free_count = load_big<std::uint32_t>(start + 26);
  if (scan.left() - 1 < size) return scan.truncated();
  fun_end = start + 1 + size;
  scan.at += kFixed;
  AtomScratch node;
  PidView pid;
  return scan_atom(scan, scratch, fun.module) && scan_integer(scan, fun.old_index) &&
         scan_integer(scan, fun.old_uniq) && scan_pid(scan, node, pid);
}

bool scan_fun(Scan& scan, AtomScratch& scratch, std::uint32_t max_depth, std::uint32_t depth,
              std::uint64_t owed, FunView& fun) noexcept {
  const std::uint8_t* const start = scan.at;
  if (depth >= max_depth) return scan.fail(Code::kTooDeep, kExpectLessNesting);
  const std::uint8_t* fun_end = nullptr;
  if (!scan_fun_header(scan, scratch, fun, fun_end)) return false;
  if (scan.left() < owed || scan.left() - owed < fun.free_count) return scan.truncated();
  const std::uint8_t* const variables = scan.at;
  if (!skip_terms(scan, fun.free_count, max_depth, depth + 1, owed)) return false;
  if (scan.at != fun_end) return scan.fail(Code::kInvalid, kExpectFunSize);
  fun.free_variables = Bytes(variables, scan.at);
  fun.raw = Bytes(start, scan.at);
  return true;
}

bool scan_lent(Scan& scan, std::uint32_t& index) noexcept {
  if (scan.loans == 0) return scan_unknown(scan);
  if (scan.left() < 5) return scan.truncated();
  index = load_big<std::uint32_t>(scan.at + 1);
  if (index >= scan.loans) return scan.fail(Code::kInvalid, "a loan that came with the term");
  scan.at += 5;
  return true;
}

bool scan_unknown(Scan& scan) noexcept {
  switch (scan.at[0]) {
    case kFun:
      return scan.fail(Code::kUnsupported, "a fun in the form that OTP 23 and newer know");
    case kAtomCacheRef:
      return scan.fail(Code::kUnsupported, "an atom by its text, not by a cache reference");
    case kLocal:
      return scan.fail(Code::kUnsupported, "a term in a decoder's private format only as the whole message");
    case kCompressed:
      return scan.fail(Code::kInvalid, "a compressed term only as the whole message");
    case kVersion:
      return scan.fail(Code::kInvalid, "a version byte only before the first tag");
    default:
      return scan.fail(Code::kInvalid, "the tag of a term");
  }
}

}  // namespace typhon::etf::detail

#include "etf/skip.h"

#include <cstdlib>
#include <cstring>

#include "base/bytes.h"
#include "etf/inflate.h"
#include "etf/leaf.h"
#include "etf/skip_terms.h"

namespace typhon::etf {
namespace detail {
namespace {

// One open container.
struct Level {
  std::uint64_t left;           // terms it still has to read
  std::uint64_t owed;           // terms that the levels below still have to read
  const std::uint8_t* fun;      // of a fun: its tag
  const std::uint8_t* fun_end;  //           and where its size says that it ends
  bool list;                    // its last term is a tail
  bool in_fun;                  // whose bytes are kept as they are: no loans there
};

// A stack of levels: 64 inline, then heap. Owns its memory.
class Levels {
 public:
  Levels() noexcept = default;
  Levels(const Levels&) = delete;
  Levels& operator=(const Levels&) = delete;
  ~Levels() {
    if (levels_ != inline_) std::free(levels_);
  }

  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] Level& top() noexcept { return levels_[size_ - 1]; }
  void pop() noexcept { --size_; }

  bool push(const Level& level) noexcept {
    if (size_ == capacity_ && !grow()) return false;
    levels_[size_++] = level;
    return true;
  }

 private:
  bool grow() noexcept {
    const std::size_t capacity = std::size_t{capacity_} * 2;
    auto* const levels = static_cast<Level*>(std::malloc(capacity * sizeof(Level)));
    if (levels == nullptr) return false;
    std::memcpy(levels, levels_, size_ * sizeof(Level));
    if (levels_ != inline_) std::free(levels_);
    levels_ = levels;
    capacity_ = static_cast<std::uint32_t>(capacity);
    return true;
  }

  static constexpr std::uint32_t kInline = 64;
  Level inline_[kInline];
  Level* levels_ = inline_;
  std::uint32_t size_ = 0;
  std::uint32_t capacity_ = kInline;
};

// Skips the leaf at scan.at; containers and funs are not for this function.
bool skip_leaf(Scan& scan) noexcept {
  const std::uint8_t* const start = scan.at;
  switch (start[0]) {
    case kSmallInteger:
      if (scan.left() < 2) return scan.truncated();
      scan.at += 2;
      return true;
    case kInteger:
      if (scan.left() < 5) return scan.truncated();
      scan.at += 5;
      return true;
    case kNewFloat: {
      if (scan.left() < 9) return scan.truncated();
      constexpr std::uint16_t kExponent = 0x7ff0;
      if ((load_big<std::uint16_t>(start + 1) & kExponent) == kExponent)
        return scan.fail(Code::kInvalid, "a finite float");
      scan.at += 9;
      return true;
    }
    case kBinary: {
      if (scan.left() < 5) return scan.truncated();
      const std::size_t size = load_big<std::uint32_t>(start + 1);
      if (scan.left() - 5 < size) return scan.truncated();
      scan.at += 5 + size;
      return true;
    }
    case kNil:
      ++scan.at;
      return true;
    case kString: {
      Bytes bytes;
      return scan_string(scan, bytes);
    }
    case kSmallAtomUtf8:
    case kAtomUtf8:
    case kSmallAtomLatin1:
    case kAtomLatin1: {
      AtomScratch scratch;
      std::string_view text;
      return scan_atom(scan, scratch, text);
    }
    case kSmallBig:
    case kLargeBig: {
      BigView big;
      return scan_big(scan, big);
    }
    case kFloatText: {
      double value = 0;
      return scan_float_text(scan, value);
    }
    case kBitBinary: {
      Bytes bytes;
      unsigned bits = 0;
      return scan_bits(scan, bytes, bits);
    }
    case kPid:
    case kNewPid: {
      AtomScratch scratch;
      PidView view;
      return scan_pid(scan, scratch, view);
    }
    case kPort:
    case kNewPort:
    case kV4Port: {
      AtomScratch scratch;
      PortView view;
      return scan_port(scan, scratch, view);
    }
    case kReference:
    case kNewReference:
    case kNewerReference: {
      AtomScratch scratch;
      ReferenceView view;
      return scan_reference(scan, scratch, view);
    }
    case kExport: {
      AtomScratch module;
      AtomScratch function;
      ExportView view;
      return scan_export(scan, module, function, view);
    }
    case kLent: {
      std::uint32_t index = 0;
      return scan_lent(scan, index);
    }
    default:
      return scan_unknown(scan);
  }
}

bool blame(Scan& scan, const std::uint8_t* where) noexcept {
  scan.fault = where;
  return false;
}

}  // namespace

bool skip_terms(Scan& scan, std::uint64_t count, std::uint32_t max_depth, std::uint32_t depth,
                std::uint64_t owed) noexcept {
  Levels levels;
  const std::uint32_t loans = scan.loans;
  if (scan.left() < owed || scan.left() - owed < count) {
    scan.truncated();
    return blame(scan, scan.at);
  }
  if (!levels.push({count, owed, nullptr, nullptr, false, false}))
    return scan.fail(Code::kSystem, "memory for nesting this deep");
  for (;;) {
    while (levels.top().left == 0) {
      const Level& level = levels.top();
      if (level.fun_end != scan.at && level.fun != nullptr) {
        scan.fail(Code::kInvalid, kExpectFunSize);
        return blame(scan, level.fun);
      }
      levels.pop();
      if (levels.size() == 0) return true;
    }
    Level& level = levels.top();
    const std::uint8_t* const start = scan.at;
    if (start == scan.end) {
      scan.truncated();
      return blame(scan, start);
    }
    --level.left;

    std::size_t header = 0;
    std::uint64_t children = 0;
    bool list = false;
    switch (start[0]) {
      case kSmallTuple:
        header = 2;
        break;
      case kLargeTuple:
      case kList:
      case kMap:
        header = 5;
        break;
      case kNewFun: {
        if (depth + levels.size() - 1 >= max_depth) {
          scan.fail(Code::kTooDeep, kExpectLessNesting);
          return blame(scan, start);
        }
        AtomScratch scratch;
        FunView fun;
        const std::uint8_t* fun_end = nullptr;
        if (!scan_fun_header(scan, scratch, fun, fun_end)) return blame(scan, start);
        const std::uint64_t around = level.owed + level.left;
        if (scan.left() < around || scan.left() - around < fun.free_count) {
          scan.truncated();
          return blame(scan, start);
        }
        if (!levels.push({fun.free_count, around, start, fun_end, false, true})) {
          scan.fail(Code::kSystem, "memory for nesting this deep");
          return blame(scan, start);
        }
        continue;
      }
      default:
        scan.loans = level.in_fun ? 0 : loans;
        if (!skip_leaf(scan)) return blame(scan, start);
        continue;
    }

    if (scan.left() < header) {
      scan.truncated();
      return blame(scan, start);
    }
    const std::uint64_t arity = header == 2 ? start[1] : load_big<std::uint32_t>(start + 1);
    scan.at += header;
    if (start[0] == kList) {
      list = true;
      children = arity + 1;
    } else {
      children = start[0] == kMap ? arity * 2 : arity;
    }
    const std::uint64_t around = level.owed + level.left;
    if (scan.left() < around || scan.left() - around < children) {
      scan.truncated();
      return blame(scan, start);
    }
    if (arity == 0) {
      if (list) ++level.left;  // a list of no elements is its tail: that comes in its place
      continue;
    }
    if (list && level.list && level.left == 0) {
      level.left = children;  // a list as the tail of a list continues it
      continue;
    }
    if (depth + levels.size() - 1 >= max_depth) {
      scan.fail(Code::kTooDeep, kExpectLessNesting);
      return blame(scan, start);
    }
    if (!levels.push({children, around, nullptr, nullptr, list, level.in_fun})) {
      scan.fail(Code::kSystem, "memory for nesting this deep");
      return blame(scan, start);
    }
  }
}

}  // namespace detail

namespace {

Outcome skip_one(Bytes input, std::size_t from, const Limits& limits) noexcept {
  detail::Scan scan;
  scan.at = input.data() + from;
  scan.end = input.data() + input.size();
  scan.loans = limits.loans;
  const std::uint8_t* const start = scan.at;
  if (detail::skip_terms(scan, 1, limits.max_depth, 0, 0))
    return Outcome::success(static_cast<std::uint64_t>(scan.at - input.data()));
  const std::uint8_t* const fault = scan.fault != nullptr ? scan.fault : start;
  return Outcome::failure(scan.code, static_cast<std::uint64_t>(fault - input.data()), scan.expected);
}

}  // namespace

Outcome skip_inner(Bytes input, const Limits& limits) noexcept {
  if (input.empty()) return Outcome::failure(Code::kTruncated, 0, "a term");
  return skip_one(input, 0, limits);
}

Outcome skip(Bytes input, const Limits& limits) noexcept {
  if (input.empty()) return Outcome::failure(Code::kTruncated, 0, "the version byte 131");
  if (input[0] != kVersion) return Outcome::failure(Code::kInvalid, 0, "the version byte 131");
  if (input.size() < 2) return Outcome::failure(Code::kTruncated, 1, "a term");
  if (input[1] == kLocal) {
    if (input.size() < 3)
      return Outcome::failure(Code::kTruncated, 1, "more bytes: the input ends inside a term");
    return Outcome::success(input.size());
  }
  if (input[1] != kCompressed) return skip_one(input, 1, limits);

  Inflated buffer;
  const Outcome inflation = inflate(input, limits.max_inflated, buffer);
  if (!inflation.ok()) return inflation;
  Outcome outcome = skip_one(buffer.bytes(), 0, limits);
  if (outcome.ok() && outcome.used != buffer.bytes().size())
    outcome = Outcome::failure(Code::kTrailing, outcome.used, "the end of the inflated term");
  if (outcome.ok()) return Outcome::success(inflation.used);
  outcome.in_inflated = true;
  if (outcome.code == Code::kTruncated) outcome.code = Code::kInvalid;  // more input cannot lengthen it
  return outcome;
}

}  // namespace typhon::etf

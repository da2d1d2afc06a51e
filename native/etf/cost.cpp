#include "etf/cost.h"

#include <cstddef>
#include <string_view>

#include "base/bytes.h"
#include "etf/decode.h"
#include "etf/sink.h"
#include "etf/tags.h"

namespace typhon::etf {
namespace {

constexpr std::uint64_t kWord = 8;
// Of an element of a list that takes a byte.
constexpr std::uint64_t kMostForAByte = 2 * kWord;
// A pid, port or reference of another node.
constexpr std::uint64_t kIdentifier = 8 * kWord;
constexpr std::uint64_t kSmallMap = 32;
constexpr std::size_t kHeader = 6;  // of a compressed term: 131, 80, size

class Meter {
 public:
  struct Value {};
  struct Container {};

  explicit Meter(std::uint64_t bytes) noexcept : left_(bytes) {}
  [[nodiscard]] bool exceeded() const noexcept { return exceeded_; }

  bool integer(std::int64_t value, Value&) noexcept {
    constexpr std::int64_t kSmall = std::int64_t{1} << 59;
    return value >= -kSmall && value < kSmall ? true : spend(2 * kWord);
  }
  bool big(bool, Bytes magnitude, Value&) noexcept { return spend(2 * kWord + magnitude.size()); }
  bool floating(double, Value&) noexcept { return spend(2 * kWord); }
  bool atom(std::string_view, Value&) noexcept { return true; }
  bool binary(Bytes bytes, Value&) noexcept {
    return spend(6 * kWord + (bytes.size() < Sink::kLargeBinary ? bytes.size() : 0));
  }
  bool lent(std::uint32_t, Value&) noexcept { return spend(6 * kWord); }
  bool bits(Bytes bytes, unsigned, Value&) noexcept { return spend(9 * kWord + bytes.size()); }
  bool nil(Value&) noexcept { return true; }
  bool string(Bytes bytes, Value&) noexcept { return spend(bytes.size() * kMostForAByte); }
  bool pid(const PidView&, Value&) noexcept { return spend(kIdentifier); }
  bool port(const PortView&, Value&) noexcept { return spend(kIdentifier); }
  bool reference(const ReferenceView&, Value&) noexcept { return spend(kIdentifier); }
  bool exported_fun(const ExportView&, Value&) noexcept { return spend(kIdentifier); }
  bool fun(const FunView& view, Value&) noexcept { return spend(view.raw.size() * kMostForAByte); }
  bool local(const LocalView& view, Value&) noexcept { return spend(view.raw.size() * kMostForAByte); }
  bool open_tuple(std::uint32_t n, Container&) noexcept { return spend((std::uint64_t{n} + 1) * kWord); }
  bool open_list(std::uint32_t n, Container&) noexcept { return spend(std::uint64_t{n} * 2 * kWord); }
  bool open_map(std::uint32_t n, Container&) noexcept {
    return spend((3 + std::uint64_t{n} * (n <= kSmallMap ? 2 : 5)) * kWord);
  }
  bool extend_list(Container&, std::uint32_t more) noexcept { return spend(std::uint64_t{more} * 2 * kWord); }
  bool element(Container&, std::uint32_t, Value&&) noexcept { return true; }
  bool map_key(Container&, std::uint32_t, Value&&) noexcept { return true; }
  bool map_value(Container&, std::uint32_t, Value&&) noexcept { return true; }
  bool close(Container&, Value&) noexcept { return true; }
  bool close_improper(Container&, Value&&, Value&) noexcept { return true; }
  void abandon(Container&) noexcept {}
  void drop(Value&) noexcept {}

 private:
  bool spend(std::uint64_t bytes) noexcept {
    if (bytes > left_) {
      exceeded_ = true;
      return false;
    }
    left_ -= bytes;
    return true;
  }

  std::uint64_t left_;
  bool exceeded_ = false;
};

bool is_compressed(Bytes input) noexcept { return input.size() >= kHeader && input[1] == kCompressed; }

std::uint64_t expanded(Bytes input) noexcept { return load_big<std::uint32_t>(input.data() + 2); }

}  // namespace

std::uint64_t most_it_can_cost(Bytes input) noexcept {
  return (is_compressed(input) ? expanded(input) : input.size()) * kMostCostOfAByte;
}

bool costs_at_most(Bytes input, const Limits& limits, std::uint64_t bytes) noexcept {
  if (is_compressed(input) && expanded(input) > bytes) return false;
  Meter meter(bytes);
  Meter::Value value;
  static_cast<void>(decode(input, meter, limits, value));
  return !meter.exceeded();
}

}  // namespace typhon::etf

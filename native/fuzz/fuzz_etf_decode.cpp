// Arbitrary bytes behind the version byte. Whatever decodes can be written, and what is written decodes to
// the same. A second decoder owns heap values and refuses at a point that the input chooses: nothing may leak
// or be freed twice.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "etf/decode.h"
#include "fuzz/check.h"
#include "testing/tree.h"

namespace {

using namespace typhon;
using namespace typhon::etf;

// Values are heap blocks behind raw pointers, as a host's references are; AddressSanitizer watches them.
class Owner {
 public:
  explicit Owner(std::uint32_t calls) : calls_(calls) {}

  using Value = int*;
  struct Container {
    int* held = nullptr;
    int* key = nullptr;
  };

  bool integer(std::int64_t, Value& v) noexcept { return make(v); }
  bool big(bool, Bytes b, Value& v) noexcept { return look(b) && make(v); }
  bool floating(double, Value& v) noexcept { return make(v); }
  bool atom(std::string_view text, Value& v) noexcept { return look(Tree::bytes_of(text)) && make(v); }
  bool binary(Bytes b, Value& v) noexcept { return look(b) && make(v); }
  bool bits(Bytes b, unsigned n, Value& v) noexcept {
    return n >= 1 && n <= 7 && !b.empty() && look(b) && make(v);
  }
  bool nil(Value& v) noexcept { return make(v); }
  bool string(Bytes b, Value& v) noexcept { return !b.empty() && look(b) && make(v); }
  bool pid(const PidView& p, Value& v) noexcept { return look(p.raw) && make(v); }
  bool port(const PortView& p, Value& v) noexcept { return look(p.raw) && make(v); }
  bool reference(const ReferenceView& r, Value& v) noexcept {
    return look(r.raw) && look(r.words) && make(v);
  }
  bool exported_fun(const ExportView& f, Value& v) noexcept { return look(f.raw) && make(v); }
  bool fun(const FunView& f, Value& v) noexcept { return look(f.raw) && look(f.free_variables) && make(v); }
  bool local(const LocalView& l, Value& v) noexcept { return look(l.raw) && make(v); }
  bool open_tuple(std::uint32_t, Container& c) noexcept { return make(c.held); }
  bool open_list(std::uint32_t, Container& c) noexcept { return make(c.held); }
  bool open_map(std::uint32_t, Container& c) noexcept { return make(c.held); }
  bool extend_list(Container&, std::uint32_t) noexcept { return allowed(); }
  bool element(Container& c, std::uint32_t, Value&& v) noexcept { return use(c, v); }
  bool map_key(Container& c, std::uint32_t, Value&& v) noexcept {
    CHECK(c.key == nullptr);
    c.key = v;
    return allowed();
  }
  bool map_value(Container& c, std::uint32_t, Value&& v) noexcept {
    CHECK(c.key != nullptr);
    delete c.key;
    c.key = nullptr;
    return use(c, v);
  }
  bool close(Container& c, Value& v) noexcept {
    CHECK(c.key == nullptr);
    if (!allowed()) return false;
    v = c.held;
    c.held = nullptr;
    return true;
  }
  bool close_improper(Container& c, Value&& tail, Value& v) noexcept { return use(c, tail) && close(c, v); }
  void abandon(Container& c) noexcept {
    delete c.held;
    delete c.key;
    c = {};
  }
  void drop(Value& v) noexcept { delete v; }
  bool lent(std::uint32_t index, Value& v) noexcept {
    CHECK(index < 2);
    return make(v);
  }

 private:
  bool allowed() noexcept { return calls_-- != 0; }
  bool make(int*& v) noexcept {
    if (!allowed()) return false;
    v = new int(1);
    return true;
  }
  bool use(Container& c, int* v) noexcept {
    *c.held += *v;
    delete v;
    return allowed();
  }
  bool look(Bytes bytes) noexcept {
    for (const std::uint8_t byte : bytes) sum_ = sum_ * 31 + byte;
    return true;
  }

  std::uint32_t calls_;
  std::uint64_t sum_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // A block of its own: reads beyond it are seen.
  const std::unique_ptr<std::uint8_t[]> copy(new std::uint8_t[size + 1]);
  copy[0] = kVersion;
  std::copy(data, data + size, copy.get() + 1);
  const Bytes input(copy.get(), size + 1);
  Limits limits;
  limits.max_inflated = 1 << 20;
  limits.loans = 2;

  Tree first;
  first.reject_duplicate_keys = false;
  Tree::Value value{};
  const Outcome outcome = decode(input, first, limits, value);
  CHECK(first.open() == 0);
  CHECK(first.failures() == (outcome.ok() ? 0 : 1));
  if (outcome.ok()) {
    CHECK(outcome.used == input.size());
    const std::string written = first.encode(value);
    Tree second;
    second.reject_duplicate_keys = false;
    CHECK(decode(Tree::bytes_of(written), second, limits, value).ok());
    CHECK(second.encode(value) == written);
  } else {
    CHECK(outcome.in_inflated || outcome.offset <= input.size());
    CHECK(outcome.code != Code::kHost);
  }

  std::uint32_t seed = 2'166'136'261u;
  for (const std::uint8_t byte : input) seed = (seed ^ byte) * 16'777'619u;
  Owner owner(seed % 4 == 0 ? UINT32_MAX : (seed >> 2) % 64);
  int* owned = nullptr;
  const Outcome again = decode(input, owner, limits, owned);
  if (again.ok()) {
    CHECK(outcome.ok());
    delete owned;
  } else {
    CHECK(owned == nullptr);
    CHECK(again.code == Code::kHost || again.code == outcome.code);
  }
  return 0;
}

#include "etf/decode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "etf/skip.h"
#include "etf/writer.h"
#include "testing/tree.h"

namespace typhon::etf {
namespace {

using namespace std::string_literals;

struct Read {
  Tree tree;
  Tree::Value value = 0;
  Outcome outcome;
};

// Decodes and asserts what holds in every case: nothing left open, one report a failure, skip() of the same
// mind.
Read read(const std::string& bytes, const Limits& limits = {}, bool reject_duplicate_keys = true) {
  Read result;
  result.tree.reject_duplicate_keys = reject_duplicate_keys;
  result.outcome = decode(Tree::bytes_of(bytes), result.tree, limits, result.value);
  EXPECT_EQ(result.tree.open(), 0);
  EXPECT_EQ(result.tree.failures(), result.outcome.ok() ? 0 : 1);
  const Outcome skipped = skip(Tree::bytes_of(bytes), limits);
  if (result.outcome.ok() ||
      (result.outcome.code != Code::kHost && result.outcome.code != Code::kTooManyAtoms &&
       result.outcome.code != Code::kTrailing)) {
    EXPECT_EQ(skipped.ok(), result.outcome.ok());
    if (!skipped.ok() && !result.outcome.ok()) {
      EXPECT_EQ(skipped.code, result.outcome.code);
      EXPECT_EQ(skipped.offset, result.outcome.offset) << result.outcome.expected;
    }
  }
  return result;
}

std::string u16(std::uint16_t value) {
  std::string bytes(2, '\0');
  store_big(bytes.data(), value);
  return bytes;
}
std::string u32(std::uint32_t value) {
  std::string bytes(4, '\0');
  store_big(bytes.data(), value);
  return bytes;
}
std::string term(const std::string& body) { return "\x83" + body; }
std::string list(std::uint32_t size) { return "l" + u32(size); }
std::string repeat(const std::string& text, std::size_t times) {
  std::string all;
  all.reserve(text.size() * times);
  for (std::size_t i = 0; i < times; ++i) all += text;
  return all;
}

TEST(EtfDecode, GivesIntegersThatFitAs64Bits) {
  const auto integer = [](const std::string& body) {
    const Read r = read(term(body));
    EXPECT_TRUE(r.outcome.ok());
    EXPECT_EQ(r.tree.at(r.value).type, Tree::Type::kInteger);
    return r.tree.at(r.value).integer;
  };
  EXPECT_EQ(integer("a\xff"), 255);
  EXPECT_EQ(integer("b\xff\xff\xff\xfe"), -2);
  EXPECT_EQ(integer("n\x08\x01"s + "\0\0\0\0\0\0\0\x80"s), INT64_MIN);
  EXPECT_EQ(integer("n\x08\0"s + "\xff\xff\xff\xff\xff\xff\xff\x7f"), INT64_MAX);
  EXPECT_EQ(integer("o"s + u32(9) + "\0"s + "\x05\0\0\0\0\0\0\0\0"s), 5);
}

TEST(EtfDecode, GivesLargerIntegersWithoutLeadingZeros) {
  const Read r = read(term("n\x0a\x01"s + "\0\0\0\0\0\0\0\0\x01\0"s));
  ASSERT_TRUE(r.outcome.ok());
  EXPECT_EQ(r.tree.at(r.value).type, Tree::Type::kBig);
  EXPECT_EQ(r.tree.at(r.value).bytes, "\0\0\0\0\0\0\0\0\x01"s);
  EXPECT_TRUE(r.tree.at(r.value).negative);
  // one beyond INT64_MAX, one below INT64_MIN
  EXPECT_EQ(read(term("n\x08\0"s + "\0\0\0\0\0\0\0\x80"s)).tree.nodes().back().type, Tree::Type::kBig);
  EXPECT_EQ(read(term("n\x08\x01"s + "\x01\0\0\0\0\0\0\x80"s)).tree.nodes().back().type, Tree::Type::kBig);
}

TEST(EtfDecode, ReadsTheTextOfOldFloats) {
  const auto number = [](std::string text) {
    text.resize(31);
    const Read r = read(term("c" + text));
    EXPECT_TRUE(r.outcome.ok()) << text;
    return std::bit_cast<double>(r.tree.at(r.value).integer);
  };
  EXPECT_EQ(number("1.50000000000000000000e+00"), 1.5);
  EXPECT_EQ(number("-2.5e-3"), -0.0025);
  EXPECT_EQ(number("1.0e-400"), 0.0);
  EXPECT_TRUE(std::signbit(number("-1.0e-400")));
  EXPECT_EQ(number("1.234567890123456789012345e+000"), 1.2345678901234567);  // all 31 bytes
}

TEST(EtfDecode, TellsAtomsThatItKnowsByTheirBytes) {
  // [ok, ok, 'é' in UTF-8, 'é' in Latin-1]
  const Read r = read(term(list(4) + "w\x02ok" + "w\x02ok" + "w\x02\xc3\xa9" + "s\x01\xe9" + "j"));
  ASSERT_TRUE(r.outcome.ok());
  EXPECT_EQ(r.tree.atoms(), 2u);
  EXPECT_EQ(r.tree.at(r.tree.at(r.value).children[3]).bytes, "\xc3\xa9");
}

TEST(EtfDecode, CountsNewAtomsOnly) {
  Limits limits;
  limits.max_atoms = 2;
  EXPECT_TRUE(
      read(term(list(4) + "w\x01"s + "a" + "w\x01"s + "b" + "w\x01"s + "a" + "w\x01"s + "b" + "j"), limits)
          .outcome.ok());
  const Read r = read(term(list(3) + "w\x01"s + "a" + "w\x01"s + "b" + "w\x01"s + "c" + "j"), limits);
  ASSERT_FALSE(r.outcome.ok());
  EXPECT_EQ(r.outcome.code, Code::kTooManyAtoms);
  EXPECT_EQ(r.outcome.offset, 12u);
}

TEST(EtfDecode, TakesAtomsOf255CharactersAndNoMore) {
  EXPECT_TRUE(read(term("v" + u16(1020) + repeat("\xf0\x9f\x98\x80", 255))).outcome.ok());
  EXPECT_EQ(read(term("v" + u16(1024) + repeat("\xf0\x9f\x98\x80", 256))).outcome.code, Code::kInvalid);
  EXPECT_EQ(read(term("v" + u16(256) + repeat("a", 256))).outcome.code, Code::kInvalid);
  EXPECT_EQ(read(term("d" + u16(256) + repeat("a", 256))).outcome.code, Code::kInvalid);
  EXPECT_TRUE(read(term("d" + u16(255) + repeat("\xe9", 255))).outcome.ok());
}

TEST(EtfDecode, GoesTenThousandDeepAndNoDeeper) {
  const auto nested = [](const std::string& open, const std::string& close, std::size_t depth) {
    return read(term(repeat(open, depth) + "a\x01" + repeat(close, depth)), {}, false).outcome;
  };
  for (const auto& [open, close] : std::vector<std::pair<std::string, std::string>>{
           {"h\x01", ""},                 // tuples
           {list(1), "j"},                // lists
           {"t" + u32(1) + "a\x01", ""},  // maps, in values
           {"t" + u32(1), "a\x02"},       // maps, in keys
           {list(1) + "a\x01", ""},       // lists, in improper tails: one list, see below
           {"h\x03" + "jj"s, ""}}) {
    const bool chain = open == list(1) + "a\x01";
    EXPECT_TRUE(nested(open, close, 10'000).ok());
    const Outcome deeper = nested(open, close, 10'001);
    EXPECT_EQ(deeper.ok(), chain);
    if (!chain) {
      EXPECT_EQ(deeper.code, Code::kTooDeep);
      EXPECT_EQ(deeper.offset, 1 + open.size() * 10'000);
    }
  }
}

TEST(EtfDecode, JoinsAListThatIsATailWithoutGoingDeeper) {
  const std::size_t many = 100'000;
  const Read r = read(term(repeat(list(1) + "a\x01", many) + "j"));
  ASSERT_TRUE(r.outcome.ok());
  EXPECT_EQ(r.tree.at(r.value).type, Tree::Type::kList);
  EXPECT_EQ(r.tree.at(r.value).children.size(), many);
  EXPECT_EQ(r.tree.extensions(), static_cast<int>(many) - 1);
}

TEST(EtfDecode, TakesAnyNumberOfEmptyListHeaders) {
  EXPECT_TRUE(read(term(repeat(list(0), 1'000'000) + "a\x01")).outcome.ok());
  EXPECT_EQ(read(term(repeat(list(0), 1'000))).outcome.code, Code::kTruncated);
}

TEST(EtfDecode, AFunCountsAsALevel) {
  const std::string head = "\x05"s + std::string(16, 'u') + u32(0);
  const auto fun = [&](std::uint32_t free, const std::string& variables) {
    const std::string rest = head + u32(free) + "w\x01m" + "a\x01" + "a\x02" + "X" + "w\x03" + "a@b" +
                             u32(1) + u32(0) + u32(1) + variables;
    return "p" + u32(static_cast<std::uint32_t>(4 + rest.size())) + rest;
  };
  Limits limits;
  limits.max_depth = 3;
  EXPECT_TRUE(read(term(fun(1, fun(1, fun(0, "")))), limits).outcome.ok());
  EXPECT_EQ(read(term(fun(1, fun(1, fun(1, fun(0, ""))))), limits).outcome.code, Code::kTooDeep);
  EXPECT_TRUE(read(term("h\x01" + fun(1, "h\x01" + "a\x01"s)), limits).outcome.ok());
  EXPECT_EQ(read(term("h\x01" + fun(1, "h\x01" + "h\x01"s + "a\x01")), limits).outcome.code, Code::kTooDeep);

  // 9,000 funs inside one another: no recursion
  std::string inner = fun(0, "");
  std::string open;
  for (int i = 0; i < 9'000; ++i) inner = fun(1, inner);
  const Read r = read(term(inner));
  ASSERT_TRUE(r.outcome.ok());
  EXPECT_EQ(r.tree.at(r.value).raw, inner);

  EXPECT_EQ(read(term(fun(0xffff'ffff, "a\x01"))).outcome.code, Code::kTruncated);
  EXPECT_EQ(read(term(fun(1, "F\x7f\xf0\0\0\0\0\0\0"s))).outcome.code, Code::kInvalid);
}

// Each header alone would pass: its claim is not above what remains. Together they cannot be true.
TEST(EtfDecode, AddsUpWhatNestedContainersClaim) {
  const std::uint32_t half = 30'000;
  const std::string filler(40'000, 'j');
  EXPECT_EQ(read(term("i" + u32(half) + "i" + u32(half) + filler)).outcome.code, Code::kTruncated);
  EXPECT_EQ(read(term("i" + u32(half) + "i" + u32(half) + filler)).outcome.offset, 6u);
  EXPECT_EQ(read(term(list(half) + list(half) + filler)).outcome.offset, 6u);
  EXPECT_EQ(read(term("t" + u32(half / 2) + "t" + u32(half / 2) + filler)).outcome.offset, 6u);
  EXPECT_EQ(read(term("t" + u32(half) + filler)).outcome.offset, 1u);
  // exactly enough: 2 + (1 + 1) + tail
  EXPECT_TRUE(read(term("h\x02" + list(1) + "jj" + "j")).outcome.ok());
  EXPECT_EQ(read(term("h\x02" + list(2) + "jj" + "j")).outcome.offset, 3u);
}

TEST(EtfDecode, RefusesAbsurdLengthsWithoutReserving) {
  for (const std::string& open : {"l"s, "i"s, "t"s, "m"s}) {
    for (const std::uint32_t size : {0xffff'ffffu, 0x8000'0000u, 0x7fff'ffffu, 1'000'000u}) {
      const Read r = read(term(open + u32(size) + "a\x01"));
      EXPECT_EQ(r.outcome.code, Code::kTruncated) << open;
      EXPECT_EQ(r.outcome.offset, 1u);
    }
  }
  EXPECT_EQ(read(term("M" + u32(0xffff'ffff) + "\x03" + "abc")).outcome.code, Code::kTruncated);
  EXPECT_EQ(read(term("o" + u32(0xffff'ffff) + "\0"s + "abc")).outcome.code, Code::kTruncated);
  EXPECT_EQ(read(term("k\xff\xff" + "abc"s)).outcome.code, Code::kTruncated);
}

TEST(EtfDecode, SaysWhereItFailed) {
  const auto path = [](const std::string& body) {
    const Read r = read(term(body));
    EXPECT_FALSE(r.outcome.ok());
    return std::to_string(r.outcome.offset) + " " + r.tree.path();
  };
  const std::string bad = "\xff";
  const std::string map2 = "t" + u32(2);
  EXPECT_EQ(path(bad), "1 ");
  EXPECT_EQ(path("h\x03" + "a\x01"s + bad + "j"), "5 [1]");
  EXPECT_EQ(path(list(2) + "a\x01" + bad + "jj"), "8 [1]");
  EXPECT_EQ(path(map2 + "a\x01" + "a\x02" + bad + "jjj"), "10 {1:key}");
  EXPECT_EQ(path(map2 + "a\x01" + "a\x02" + "a\x03" + bad + "jjj"), "12 {1:value}");
  EXPECT_EQ(path("h\x01" + map2 + "a\x01" + "h\x02" + "j" + bad + "jjjj"), "13 [0]{0:value}[1]");
  EXPECT_EQ(path("h\x02" + "h\x01"s + "j" + map2 + "h\x01" + bad + "jjjjj"), "13 [1]{0:key}[0]");
  EXPECT_EQ(path(list(1) + "j" + bad), "7 [tail]");
  EXPECT_EQ(path(list(1) + "j" + "h\x01" + bad), "9 [tail][0]");
  // behind containers that were closed
  EXPECT_EQ(path("h\x02" + list(1) + "h\x01" + "jj" + bad), "12 [1]");
}

TEST(EtfDecode, LeavesDuplicateKeysToTheDecoder) {
  const std::string twice = term("t" + u32(2) + "a\x01" + "j" + "a\x01" + "j");
  const Read r = read(twice);
  EXPECT_EQ(r.outcome.code, Code::kHost);
  EXPECT_EQ(r.outcome.offset, 1u);
  EXPECT_EQ(r.tree.path(), "[2]");  // index == count: the map itself
  Tree lenient;
  lenient.reject_duplicate_keys = false;
  Tree::Value value{};
  EXPECT_TRUE(decode(Tree::bytes_of(twice), lenient, Limits{}, value).ok());
}

// A decoder that refuses its n-th call, and counts what it holds: values are owned.
class Refuser {
 public:
  explicit Refuser(int calls) : calls_(calls) {}

  using Value = std::unique_ptr<int>;
  struct Container {
    std::vector<std::unique_ptr<int>> held;
    bool open = false;
  };

  [[nodiscard]] int open() const { return open_; }
  [[nodiscard]] bool refused() const { return calls_ <= 0; }

  bool integer(std::int64_t, Value& v) noexcept { return make(v); }
  bool big(bool, Bytes, Value& v) noexcept { return make(v); }
  bool floating(double, Value& v) noexcept { return make(v); }
  bool atom(std::string_view, Value& v) noexcept { return make(v); }
  bool binary(Bytes, Value& v) noexcept { return make(v); }
  bool bits(Bytes, unsigned, Value& v) noexcept { return make(v); }
  bool nil(Value& v) noexcept { return make(v); }
  bool string(Bytes, Value& v) noexcept { return make(v); }
  bool pid(const PidView&, Value& v) noexcept { return make(v); }
  bool port(const PortView&, Value& v) noexcept { return make(v); }
  bool reference(const ReferenceView&, Value& v) noexcept { return make(v); }
  bool exported_fun(const ExportView&, Value& v) noexcept { return make(v); }
  bool fun(const FunView&, Value& v) noexcept { return make(v); }
  bool local(const LocalView&, Value& v) noexcept { return make(v); }
  bool open_tuple(std::uint32_t, Container& c) noexcept { return start(c); }
  bool open_list(std::uint32_t, Container& c) noexcept { return start(c); }
  bool open_map(std::uint32_t, Container& c) noexcept { return start(c); }
  bool extend_list(Container&, std::uint32_t) noexcept { return allowed(); }
  bool element(Container& c, std::uint32_t, Value&& v) noexcept { return keep(c, std::move(v)); }
  bool map_key(Container& c, std::uint32_t, Value&& v) noexcept { return keep(c, std::move(v)); }
  bool map_value(Container& c, std::uint32_t, Value&& v) noexcept { return keep(c, std::move(v)); }
  bool close(Container& c, Value& v) noexcept { return end(c) && (v = std::make_unique<int>(1), true); }
  bool close_improper(Container& c, Value&& tail, Value& v) noexcept {
    const Value mine = std::move(tail);
    return mine != nullptr && close(c, v);
  }
  void abandon(Container& c) noexcept {
    EXPECT_TRUE(c.open);
    c.open = false;
    --open_;
  }
  static void drop(Value& v) noexcept { v.reset(); }

 private:
  bool allowed() noexcept { return --calls_ > 0; }
  bool make(Value& v) noexcept {
    if (!allowed()) return false;
    v = std::make_unique<int>(1);
    return true;
  }
  bool start(Container& c) noexcept {
    if (!allowed()) return false;
    c.open = true;
    ++open_;
    return true;
  }
  bool keep(Container& c, Value&& v) noexcept {
    EXPECT_NE(v, nullptr);
    EXPECT_TRUE(c.open);
    Value mine = std::move(v);
    if (!allowed()) return false;
    c.held.push_back(std::move(mine));
    return true;
  }
  bool end(Container& c) noexcept {
    EXPECT_TRUE(c.open);
    if (!allowed()) return false;
    c.open = false;
    --open_;
    return true;
  }

  int calls_;
  int open_ = 0;
};
static_assert(HostDecoder<Refuser> && !HasFindAtom<Refuser> && !HasFailed<Refuser>);

TEST(EtfDecode, CleansUpWhereverTheDecoderRefuses) {
  const std::string everything =
      term("h\x08" + list(2) + "a\x01" + "h\x00"s + "a\x02"           // improper
           + list(1) + "a\x01" + list(1) + "j" + "k" + u16(2) + "ab"  // a list in three parts
           + "t" + u32(2) + "h\x01" + "j" + "t" + u32(0) + "a\x05" + list(1) + "a\x01" + "t" + u32(1) + "jj" +
           "F\x3f\xf0\0\0\0\0\0\0"s + "m" + u32(2) + "ab" + "w\x02ok" + "n\x09\0"s + "123456789" + "M" +
           u32(1) + "\x03" + "\xe0");
  // nested deeper than the inline frames, in each part of a container
  const std::string deep = term(repeat("h\x01", 40) + repeat("t" + u32(1), 40) +
                                repeat(list(1) + "a\x01" + "h\x01", 40) + "j" + repeat("j", 40));
  for (const std::string& bytes : {everything, deep}) {
    bool done = false;
    int calls = 1;
    for (; !done && calls < 1'000; ++calls) {
      Refuser decoder(calls);
      Refuser::Value value;
      const Outcome outcome = decode(Tree::bytes_of(bytes), decoder, Limits{}, value);
      EXPECT_EQ(decoder.open(), 0);
      done = outcome.ok();
      EXPECT_EQ(value != nullptr, done);
      if (!done) {
        ASSERT_EQ(outcome.code, Code::kHost) << outcome.expected << " " << outcome.offset;
        EXPECT_TRUE(decoder.refused());
      }
    }
    EXPECT_TRUE(done);
    EXPECT_GT(calls, 30);
  }
}

std::string lent(std::uint32_t index) { return "\xc8" + u32(index); }

TEST(EtfDecode, TakesABinaryThatCameBesideTheTermOnlyWhenThereIsOne) {
  Limits limits;
  limits.loans = 2;
  const std::string bytes = term("h\x02" + lent(1) + "t" + u32(1) + lent(0) + lent(1));
  const Read r = read(bytes, limits);
  ASSERT_TRUE(r.outcome.ok());
  const Tree::Node& first = r.tree.at(r.tree.at(r.value).children[0]);
  EXPECT_EQ(first.type, Tree::Type::kLoan);
  EXPECT_EQ(first.integer, 1);
  EXPECT_EQ(r.tree.encode(r.value), bytes);

  for (const std::uint32_t index : {2u, 3u, 0xffff'ffffu}) {
    const Read beyond = read(term("h\x01" + lent(index)), limits);
    EXPECT_EQ(beyond.outcome.code, Code::kInvalid);
    EXPECT_EQ(beyond.outcome.offset, 3u);
  }
  for (std::size_t size = 1; size < bytes.size(); ++size)
    EXPECT_EQ(read(bytes.substr(0, size), limits).outcome.code, Code::kTruncated);
  const Read unknown = read(term(lent(0)));
  EXPECT_EQ(unknown.outcome.code, Code::kInvalid);
  EXPECT_EQ(unknown.outcome.expected, read(term("\xc9")).outcome.expected);
}

TEST(EtfDecode, AFunHoldsNoLoans) {
  Limits limits;
  limits.loans = 1;
  const auto fun = [](const std::string& variable) {
    const std::string rest = "\x05"s + std::string(16, 'u') + u32(0) + u32(1) + "w\x01m" + "a\x01" + "a\x02" +
                             "X" + "w\x03" + "a@b" + u32(1) + u32(0) + u32(1) + variable;
    return "p" + u32(static_cast<std::uint32_t>(4 + rest.size())) + rest;
  };
  EXPECT_TRUE(read(term("h\x02" + fun("a\x01") + lent(0)), limits).outcome.ok());
  EXPECT_EQ(read(term(fun(lent(0))), limits).outcome.code, Code::kInvalid);
  EXPECT_EQ(read(term(fun("h\x01" + lent(0))), limits).outcome.code, Code::kInvalid);
}

TEST(EtfDecode, ReleasesAValueThatHasBytesBehindIt) {
  Refuser decoder(100);
  Refuser::Value value;
  EXPECT_EQ(decode(Tree::bytes_of(term("h\x01" + "a\x01"s + "rest")), decoder, Limits{}, value).code,
            Code::kTrailing);
  EXPECT_EQ(value, nullptr);
}

TEST(EtfDecode, WantsTheVersionByteFirst) {
  EXPECT_EQ(read("").outcome.code, Code::kTruncated);
  EXPECT_EQ(read("a\x01").outcome.code, Code::kInvalid);
  EXPECT_EQ(read("\x83").outcome.code, Code::kTruncated);
}

TEST(EtfDecode, SaysWhatItDoesNotSupport) {
  const auto code = [](const std::string& body) {
    const Read r = read(term(body));
    return std::make_pair(r.outcome.code, std::string(r.outcome.expected));
  };
  EXPECT_EQ(code("R\x01").first, Code::kUnsupported);
  EXPECT_EQ(code("u" + u32(0) + "jjj").first, Code::kUnsupported);
  EXPECT_EQ(code("h\x01" + "y\x01\x02\x03\x04"s).first, Code::kUnsupported);
  EXPECT_EQ(code("h\x01" + "P"s + u32(2) + "xx").first, Code::kInvalid);
  EXPECT_NE(code("u" + u32(0) + "jjj").second.find("OTP 23"), std::string::npos);
}

// --- compressed terms ---

std::string compressed(const std::string& bytes, int level = 6) {
  HeapSink sink;
  Writer writer(sink);
  EXPECT_TRUE(writer.raw(Tree::bytes_of(bytes)));
  EXPECT_TRUE(compress(sink, 0, level));
  return Tree::text(sink.bytes());
}

TEST(EtfInflate, ReadsWhatCompressWrites) {
  const std::string plain = term("h\x02" + ("m" + u32(5'000) + std::string(5'000, 'x')) + "w\x02ok");
  for (int level = 1; level <= 9; ++level) {
    const std::string packed = compressed(plain, level);
    EXPECT_LT(packed.size(), 100u);
    const Read r = read(packed);
    ASSERT_TRUE(r.outcome.ok()) << r.outcome.expected;
    EXPECT_EQ(r.outcome.used, packed.size());
    EXPECT_EQ(r.tree.encode(r.value), plain);
    for (std::size_t size = 0; size < packed.size(); ++size)
      EXPECT_EQ(read(packed.substr(0, size)).outcome.code, Code::kTruncated);
  }
}

TEST(EtfInflate, HoldsTheLimit) {
  const std::string plain = term("m" + u32(100'000) + std::string(100'000, 'x'));
  const std::string packed = compressed(plain);
  Limits limits;
  limits.max_inflated = plain.size() - 1;
  EXPECT_TRUE(read(packed, limits).outcome.ok());
  limits.max_inflated = plain.size() - 2;
  EXPECT_EQ(read(packed, limits).outcome.code, Code::kTooLarge);
}

TEST(EtfInflate, DoesNotReserveWhatTheBytesCannotYield) {
  // 200 MB claimed, a few bytes given
  std::string packed = compressed(term("m" + u32(1'000) + std::string(1'000, 'x')));
  packed.replace(2, 4, u32(200'000'000));
  EXPECT_EQ(read(packed).outcome.code, Code::kTruncated);
}

TEST(EtfInflate, RefusesASizeThatIsNotTrue) {
  const std::string plain = term("m" + u32(1'000) + std::string(1'000, 'x'));
  for (const int off : {-1000, -1, 1, 1000}) {
    std::string packed = compressed(plain);
    packed.replace(2, 4, u32(static_cast<std::uint32_t>(1'005 + off)));
    EXPECT_FALSE(read(packed).outcome.ok()) << off;
  }
}

TEST(EtfInflate, CountsOffsetsOfAnErrorInsideInInflatedBytes) {
  const Read r = read(compressed(term("h\x02" + ("m" + u32(500) + std::string(500, 'x')) + "\xff")));
  EXPECT_EQ(r.outcome.code, Code::kInvalid);
  EXPECT_TRUE(r.outcome.in_inflated);
  EXPECT_EQ(r.outcome.offset, 507u);
  EXPECT_EQ(r.tree.path(), "[1]");
  EXPECT_FALSE(r.outcome.incomplete);
  // cut off inside: no further input can help, which is why the code is another, but the term is incomplete
  const std::string cut = compressed(term("h\x02" + ("m" + u32(500) + std::string(500, 'x'))));
  for (const Outcome& outcome : {read(cut).outcome, skip(Tree::bytes_of(cut), Limits{})}) {
    EXPECT_EQ(outcome.code, Code::kInvalid);
    EXPECT_TRUE(outcome.incomplete);
  }
  EXPECT_FALSE(read(compressed(term("m" + u32(500) + std::string(501, 'x')))).outcome.ok());
}

TEST(EtfInflate, SurvivesDamage) {
  const std::string packed = compressed(term("m" + u32(3'000) + std::string(3'000, 'x')));
  for (std::size_t i = 0; i < packed.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = packed;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      (void)read(damaged);
    }
  }
}

// A decoder that keeps spans may keep the buffer they point into.
struct Keeper : Refuser {
  Keeper() : Refuser(1'000) {}
  Inflated kept;
  Bytes seen;
  bool binary(Bytes bytes, Value& v) noexcept {
    seen = bytes;
    return Refuser::binary(bytes, v);
  }
  void inflated(Inflated& buffer) noexcept { kept = std::move(buffer); }
};

TEST(EtfInflate, LetsTheDecoderKeepTheBuffer) {
  static_assert(HasInflated<Keeper>);
  const std::string packed = compressed(term("m" + u32(500) + std::string(500, 'x')));
  Keeper decoder;
  Keeper::Value value;
  ASSERT_TRUE(decode(Tree::bytes_of(packed), decoder, Limits{}, value).ok());
  EXPECT_EQ(Tree::text(decoder.seen), std::string(500, 'x'));
  EXPECT_EQ(decoder.kept.bytes().size(), 505u);
}

// --- skip ---

TEST(EtfSkip, FindsTheEndOfATermInsideOthers) {
  const std::string inner = "h\x02" + list(1) + "a\x01" + "j" + "w\x02ok";
  const Outcome outcome = skip_inner(Tree::bytes_of(inner + "whatever follows"), Limits{});
  ASSERT_TRUE(outcome.ok());
  EXPECT_EQ(outcome.used, inner.size());
  EXPECT_EQ(skip_inner({}, Limits{}).code, Code::kTruncated);
  EXPECT_EQ(skip_inner(Tree::bytes_of("P"s + u32(2)), Limits{}).code, Code::kInvalid);
}

}  // namespace
}  // namespace typhon::etf

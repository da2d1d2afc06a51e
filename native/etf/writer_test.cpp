#include "etf/writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "etf/decode.h"
#include "etf/skip.h"
#include "testing/tree.h"

namespace typhon::etf {
namespace {

using namespace std::string_literals;

template <class Function>
std::string written(Function function) {
  HeapSink sink;
  Writer writer(sink);
  EXPECT_TRUE(function(writer)) << writer.outcome().expected;
  EXPECT_TRUE(writer.outcome().ok());
  EXPECT_EQ(writer.outcome().used, sink.size);
  const Outcome skipped = skip_inner(sink.bytes(), Limits{});
  EXPECT_TRUE(skipped.ok() && skipped.used == sink.size) << "not one whole term";
  return Tree::text(sink.bytes());
}
std::string integer(std::int64_t value) {
  return written([=](Writer& w) { return w.integer(value); });
}
std::string big(bool negative, const std::string& magnitude) {
  return written([&](Writer& w) { return w.big(negative, Tree::bytes_of(magnitude)); });
}

TEST(EtfWriter, ChoosesTheShortestFormOfAnInteger) {
  EXPECT_EQ(integer(0), "a\0"s);
  EXPECT_EQ(integer(255), "a\xff");
  EXPECT_EQ(integer(256), "b\0\0\x01\0"s);
  EXPECT_EQ(integer(-1), "b\xff\xff\xff\xff");
  EXPECT_EQ(integer(INT32_MAX), "b\x7f\xff\xff\xff");
  EXPECT_EQ(integer(INT32_MIN), "b\x80\0\0\0"s);
  EXPECT_EQ(integer(std::int64_t{INT32_MAX} + 1), "n\x04\0\0\0\0\x80"s);
  EXPECT_EQ(integer(std::int64_t{INT32_MIN} - 1), "n\x04\x01\x01\0\0\x80"s);
  EXPECT_EQ(integer(INT64_MAX), "n\x08\0"s + "\xff\xff\xff\xff\xff\xff\xff\x7f");
  EXPECT_EQ(integer(INT64_MIN), "n\x08\x01\0\0\0\0\0\0\0\x80"s);
  EXPECT_EQ(written([](Writer& w) { return w.unsigned_integer(UINT64_MAX); }),
            "n\x08\0"s + "\xff\xff\xff\xff\xff\xff\xff\xff");
  EXPECT_EQ(written([](Writer& w) { return w.unsigned_integer(7); }), "a\x07");
}

TEST(EtfWriter, ChoosesTheSameFormForAMagnitude) {
  for (int shift = 0; shift < 63; ++shift) {
    for (const std::int64_t near : {-1, 0, 1}) {
      const std::int64_t value = (std::int64_t{1} << shift) + near;
      std::string magnitude(12, '\0');
      store_big(magnitude.data(), byte_swap(static_cast<std::uint64_t>(value)));
      EXPECT_EQ(big(false, magnitude), integer(value)) << value;
      EXPECT_EQ(big(true, magnitude), integer(-value)) << value;
    }
  }
  EXPECT_EQ(big(false, ""), "a\0"s);
  EXPECT_EQ(big(true, "\0\0"s), "a\0"s);
}

TEST(EtfWriter, GoesOverToLargeBigsBeyond255Bytes) {
  EXPECT_EQ(big(true, std::string(255, '\x01')), "n\xff\x01" + std::string(255, '\x01'));
  EXPECT_EQ(big(false, std::string(255, '\x01') + "\0"s), "n\xff\0"s + std::string(255, '\x01'));
  EXPECT_EQ(big(false, std::string(256, '\x01')), "o\0\0\x01\0\0"s + std::string(256, '\x01'));
}

TEST(EtfWriter, RefusesFloatsThatTheBeamDoesNotHave) {
  for (const double value : {HUGE_VAL, -HUGE_VAL, std::nan("")}) {
    HeapSink sink;
    Writer writer(sink);
    EXPECT_FALSE(writer.floating(value));
    EXPECT_EQ(writer.outcome().code, Code::kInvalid);
    EXPECT_EQ(sink.size, 0u);
  }
  EXPECT_EQ(written([](Writer& w) { return w.floating(-0.0); }), "F\x80\0\0\0\0\0\0\0"s);
}

TEST(EtfWriter, ChecksAtoms) {
  EXPECT_EQ(written([](Writer& w) { return w.atom("ok"); }), "w\x02ok");
  EXPECT_EQ(written([](Writer& w) { return w.known_atom(""); }), "w\0"s);
  const std::string wide = "\xc3\xa9";
  std::string text;
  for (int i = 0; i < 255; ++i) text += wide;
  EXPECT_EQ(written([&](Writer& w) { return w.atom(text); }), "v\x01\xfe" + text);
  for (const std::string& bad : {text + "a", std::string(256, 'a'), "\xff"s, "\xc0\x80"s, "\xed\xa0\x80"s}) {
    HeapSink sink;
    Writer writer(sink);
    EXPECT_FALSE(writer.atom(bad));
    EXPECT_EQ(writer.outcome().code, Code::kInvalid);
  }
}

TEST(EtfWriter, ClearsTheUnusedBitsOfABitString) {
  EXPECT_EQ(written([](Writer& w) { return w.bits(Tree::bytes_of("\xff"), 3); }), "M\0\0\0\x01\x03\xe0"s);
  EXPECT_EQ(written([](Writer& w) { return w.bits(Tree::bytes_of("\xff"), 8); }), "m\0\0\0\x01\xff"s);
  EXPECT_EQ(written([](Writer& w) { return w.bits({}, 3); }), "m\0\0\0\0"s);
  HeapSink sink;
  Writer writer(sink);
  EXPECT_FALSE(writer.bits(Tree::bytes_of("a"), 9));
}

TEST(EtfWriter, WritesListsOfBytesAsOtpDoes) {
  const auto string = [](std::size_t size) {
    const std::string text(size, '\x07');
    return written([&](Writer& w) { return w.string(Tree::bytes_of(text)); });
  };
  EXPECT_EQ(string(0), "j");
  EXPECT_EQ(string(3), "k\0\x03\x07\x07\x07"s);
  EXPECT_EQ(string(65'535).substr(0, 3), "k\xff\xff");
  EXPECT_EQ(string(65'536).substr(0, 7), "l\0\x01\0\0a\x07"s);
  EXPECT_EQ(string(65'536).size(), 5u + 2 * 65'536 + 1);
}

TEST(EtfWriter, ChoosesTupleHeadersByArity) {
  HeapSink sink;
  Writer writer(sink);
  EXPECT_TRUE(writer.tuple_header(255));
  EXPECT_TRUE(writer.tuple_header(256));
  EXPECT_EQ(Tree::text(sink.bytes()), "h\xffi\0\0\x01\0"s);
}

TEST(EtfWriter, WritesIdentifiersInTheirNewestForm) {
  EXPECT_EQ(written([](Writer& w) {
              return w.pid({"a@b", 1, 2, 3, {}});
            }),
            "Xw\x03"
            "a@b\0\0\0\x01\0\0\0\x02\0\0\0\x03"s);
  EXPECT_EQ(written([](Writer& w) {
              return w.port({"a@b", 1, 3, {}});
            }),
            "Yw\x03"
            "a@b\0\0\0\x01\0\0\0\x03"s);
  EXPECT_EQ(written([](Writer& w) {
              return w.port({"a@b", 1u << 28, 3, {}});
            }),
            "xw\x03"
            "a@b\0\0\0\0\x10\0\0\0\0\0\0\x03"s);
  EXPECT_EQ(written([](Writer& w) {
              return w.reference({"a@b", 3, Tree::bytes_of("\0\0\0\x09"s), {}});
            }),
            "Z\0\x01w\x03"
            "a@b\0\0\0\x03\0\0\0\x09"s);
  EXPECT_EQ(written([](Writer& w) { return w.exported_fun("m", "f", 2); }),
            "qw\x01mw\x01"
            "fa\x02");
  HeapSink sink;
  Writer writer(sink);
  EXPECT_FALSE(writer.reference({"a@b", 3, Tree::bytes_of(std::string(24, 'x')), {}}));
}

TEST(EtfWriter, StopsAtTheFirstErrorAndKeepsIt) {
  HeapSink sink;
  Writer writer(sink);
  EXPECT_TRUE(writer.integer(1));
  EXPECT_FALSE(writer.floating(HUGE_VAL));
  EXPECT_FALSE(writer.integer(1));
  EXPECT_FALSE(writer.binary("text"));
  EXPECT_FALSE(writer.fail(Code::kHost, "something later"));
  EXPECT_EQ(sink.size, 2u);
  EXPECT_EQ(writer.outcome().offset, 2u);
  EXPECT_EQ(std::string(writer.outcome().expected), "a finite float");
  writer.rewind(2);  // the caller has another way to write that value
  EXPECT_TRUE(writer.known_atom("infinity"));
  EXPECT_EQ(Tree::text(sink.bytes()), "a\x01w\x08infinity");
}

TEST(EtfWriter, SaysWhenTheDestinationIsFull) {
  std::uint8_t memory[16];
  for (std::size_t capacity = 0; capacity < sizeof memory; ++capacity) {
    FixedSink sink(memory, capacity);
    Writer writer(sink);
    const bool fits =
        writer.version() && writer.tuple_header(2) && writer.binary("abc") && writer.integer(300);
    EXPECT_FALSE(fits);
    EXPECT_LE(sink.size, capacity);
    EXPECT_EQ(writer.outcome().code, Code::kTooLarge);
  }
  HeapSink bounded(100);
  Writer writer(bounded);
  EXPECT_FALSE(writer.binary(std::string(96, 'x')));
  EXPECT_TRUE(writer.outcome().code == Code::kTooLarge && bounded.size == 0);
  HeapSink enough(101);
  Writer second(enough);
  EXPECT_TRUE(second.binary(std::string(96, 'x')));
}

TEST(EtfWriter, MovesToABiggerPlace) {
  // Starts in a small block and moves to the heap, as a frame does that outgrows its ring.
  struct Moving final : Sink {
    Moving() noexcept {
      data = first;
      capacity = sizeof first;
    }
    bool grow(std::size_t at_least) noexcept override {
      second.resize(at_least * 2);
      std::copy(data, data + size, second.data());
      std::vector<std::uint8_t> moved = second;
      keep.swap(moved);
      data = keep.data();
      capacity = keep.size();
      return true;
    }
    std::uint8_t first[8];
    std::vector<std::uint8_t> second;
    std::vector<std::uint8_t> keep;
  };
  Moving sink;
  Writer writer(sink);
  ASSERT_TRUE(writer.version() && writer.list_header(1'000));
  for (int i = 0; i < 1'000; ++i) ASSERT_TRUE(writer.integer(i));
  ASSERT_TRUE(writer.nil());
  Tree tree;
  Tree::Value value{};
  ASSERT_TRUE(decode({sink.data, sink.size}, tree, Limits{}, value).ok());
  EXPECT_EQ(tree.at(value).children.size(), 1'000u);
}

TEST(EtfWriter, PatchesACountThatWasNotKnown) {
  HeapSink sink;
  Writer writer(sink);
  ASSERT_TRUE(writer.version());
  const std::size_t header = writer.position();
  ASSERT_TRUE(writer.map_header(0) && writer.integer(1) && writer.integer(2));
  writer.patch_count(header + 1, 1);
  Tree tree;
  Tree::Value value{};
  ASSERT_TRUE(decode(sink.bytes(), tree, Limits{}, value).ok());
  EXPECT_EQ(tree.at(value).children.size(), 2u);
}

TEST(EtfWriter, CompressesOnlyWhatGetsNoLonger) {
  const auto packed = [](const std::string& plain, int level) {
    HeapSink sink;
    Writer writer(sink);
    EXPECT_TRUE(writer.raw(Tree::bytes_of("frame header" + plain)));
    EXPECT_TRUE(compress(sink, 12, level));
    EXPECT_EQ(Tree::text(sink.bytes()).substr(0, 12), "frame header");
    return Tree::text(sink.bytes()).substr(12);
  };
  const std::string shortest =
      "\x83"
      "a\x01";
  EXPECT_EQ(packed(shortest, 9), shortest);
  const std::string text = "\x83m\0\0\x04\0"s + std::string(1'024, 'x');
  EXPECT_EQ(packed(text, 0), text);
  const std::string small = packed(text, 6);
  EXPECT_LT(small.size(), 40u);
  EXPECT_EQ(packed(small, 6), small) << "compressed twice";
}

TEST(EtfWriter, WritesALoanAndSaysThatTheTermHasALargeBinary) {
  HeapSink sink;
  Writer writer(sink);
  EXPECT_TRUE(writer.lent(0x01020304));
  EXPECT_EQ(Tree::text(sink.bytes()), "\xc8\x01\x02\x03\x04");
  EXPECT_TRUE(sink.has_large_binary);
}

}  // namespace
}  // namespace typhon::etf

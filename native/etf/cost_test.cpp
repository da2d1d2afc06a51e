#include "etf/cost.h"

#include <gtest/gtest.h>

#include <string>

#include "etf/writer.h"
#include "testing/tree.h"

namespace typhon::etf {
namespace {

using namespace std::string_literals;

bool at_most(const std::string& bytes, std::uint64_t limit) {
  return costs_at_most(Tree::bytes_of(bytes), Limits{}, limit);
}

TEST(EtfCost, CountsTheElementsOfContainers) {
  const std::string list = "\x83l\x00\x00\x00\x03jjjj"s;
  EXPECT_TRUE(at_most(list, 3 * 16));
  EXPECT_FALSE(at_most(list, 3 * 16 - 1));
  const std::string tuple = "\x83h\x02jj"s;
  EXPECT_TRUE(at_most(tuple, 3 * 8));
  EXPECT_FALSE(at_most(tuple, 3 * 8 - 1));
  EXPECT_FALSE(
      at_most("\x83k\x00\x04"
              "abcd"s,
              63));
  EXPECT_TRUE(
      at_most("\x83k\x00\x04"
              "abcd"s,
              64));
}

TEST(EtfCost, CountsSmallBinariesAndNotTheBytesOfLargeOnes) {
  HeapSink sink;
  Writer writer(sink);
  const std::string large(Sink::kLargeBinary, 'x');
  ASSERT_TRUE(writer.version() && writer.binary(large));
  EXPECT_TRUE(costs_at_most(sink.bytes(), Limits{}, 64));
  EXPECT_FALSE(at_most("\x83m\x00\x00\x00\x28"s + std::string(40, 'x'), 80));
}

TEST(EtfCost, CountsWhatACompressedTermExpandsTo) {
  HeapSink sink;
  Writer writer(sink);
  ASSERT_TRUE(writer.version() && writer.list_header(100'000));
  for (int i = 0; i < 100'000; ++i) writer.nil();
  ASSERT_TRUE(writer.nil());
  ASSERT_TRUE(compress(sink, 0, 6));
  ASSERT_LT(sink.size, 1000u);
  EXPECT_TRUE(costs_at_most(sink.bytes(), Limits{}, 1'600'000));
  EXPECT_FALSE(costs_at_most(sink.bytes(), Limits{}, 1'599'999));
  EXPECT_GE(most_it_can_cost(sink.bytes()), 1'600'000u);
  // What it claims, when that alone is too much: nothing is expanded.
  EXPECT_FALSE(at_most("\x83P\xff\xff\xff\xff\x78\x9c"s, 1'000'000));
}

TEST(EtfCost, LeavesWhatIsNoTermToTheDecoder) {
  EXPECT_TRUE(at_most("", 10));
  EXPECT_TRUE(at_most("\x83", 10));
  EXPECT_TRUE(at_most("\x83l\x00\x00\x00\x01"s, 100));
}

TEST(EtfCost, NeverIsMoreThanTheSizeSays) {
  for (const std::string& body :
       {"j"s, "l\x00\x00\x00\x01jj"s, "h\x00"s, "t\x00\x00\x00\x00"s, "m\x00\x00\x00\x00"s,
        "M\x00\x00\x00\x01\x01\x80"s, "F\x3f\xf0\x00\x00\x00\x00\x00\x00"s,
        "k\x00\x01"
        "a"s,
        "n\x08\x00\xff\xff\xff\xff\xff\xff\xff\xff"s,
        "w\x01"
        "a"s}) {
    std::string list = "\x83l\x00\x00\x00\x64"s;
    for (int i = 0; i < 100; ++i) list += body;
    list += "j";
    EXPECT_TRUE(at_most(list, most_it_can_cost(Tree::bytes_of(list)))) << body;
  }
}

}  // namespace
}  // namespace typhon::etf

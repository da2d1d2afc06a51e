// Every vector in test/vectors/index.tsv, which a real BEAM made and checked.
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "etf/decode.h"
#include "etf/skip.h"
#include "etf/writer.h"
#include "testing/tree.h"

namespace typhon::etf {
namespace {

struct Vector {
  std::string name;
  std::string flags;
  std::string bytes;
  std::string canonical;  // what a writer makes of it

  [[nodiscard]] bool has(std::string_view flag) const {
    std::istringstream all(flags);
    for (std::string one; std::getline(all, one, ',');) {
      if (one == flag) return true;
    }
    return false;
  }
};

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

const std::vector<Vector>& vectors() {
  static const std::vector<Vector> kAll = [] {
    std::vector<Vector> read;
    std::ifstream file(TYPHON_SOURCE_DIR "/test/vectors/index.tsv");
    for (std::string line; std::getline(file, line);) {
      if (line.empty() || line[0] == '#') continue;
      std::istringstream columns(line);
      std::string hex;
      std::string canonical;
      Vector vector;
      std::getline(columns, vector.name, '\t');
      std::getline(columns, vector.flags, '\t');
      std::getline(columns, hex, '\t');
      std::getline(columns, canonical, '\t');
      vector.bytes = from_hex(hex);
      vector.canonical = canonical == "-" ? vector.bytes : from_hex(canonical);
      read.push_back(vector);
    }
    return read;
  }();
  return kAll;
}

// Bytes in a heap block of exactly their size, so that AddressSanitizer sees each read beyond.
class Exact {
 public:
  explicit Exact(std::string_view text) : size_(text.size()), data_(new std::uint8_t[text.size()]) {
    std::copy(text.begin(), text.end(), data_.get());
  }
  [[nodiscard]] Bytes bytes() const { return {data_.get(), size_}; }

 private:
  std::size_t size_;
  std::unique_ptr<std::uint8_t[]> data_;
};

Outcome read(Tree& tree, Bytes bytes, Tree::Value& value) {
  Outcome outcome = decode(bytes, tree, Limits{}, value);
  EXPECT_EQ(tree.open(), 0);
  EXPECT_EQ(tree.failures(), outcome.ok() ? 0 : 1);
  EXPECT_LE(outcome.offset, outcome.in_inflated ? UINT64_MAX : bytes.size());
  return outcome;
}

TEST(EtfVectors, AreThere) { EXPECT_GT(vectors().size(), 200u); }

TEST(EtfVectors, AcceptedOnesDecodeAndAreWrittenAsTheBeamWritesThem) {
  for (const Vector& vector : vectors()) {
    if (!vector.has("accept")) continue;
    SCOPED_TRACE(vector.name);
    const Exact exact(vector.bytes);
    Tree tree;
    Tree::Value value{};
    const Outcome outcome = read(tree, exact.bytes(), value);
    ASSERT_TRUE(outcome.ok()) << outcome.expected << " at " << outcome.offset;
    EXPECT_EQ(outcome.used, vector.bytes.size());
    EXPECT_EQ(tree.encode(value), vector.canonical);

    const Outcome skipped = skip(exact.bytes(), Limits{});
    ASSERT_TRUE(skipped.ok()) << skipped.expected;
    EXPECT_EQ(skipped.used, vector.bytes.size());
  }
}

TEST(EtfVectors, RejectedOnesAreRejectedWithACodeAndASentence) {
  for (const Vector& vector : vectors()) {
    if (!vector.has("reject")) continue;
    SCOPED_TRACE(vector.name);
    const Exact exact(vector.bytes);
    Tree tree;
    Tree::Value value = 77;
    const Outcome outcome = read(tree, exact.bytes(), value);
    ASSERT_FALSE(outcome.ok());
    EXPECT_EQ(value, 77u) << "the result was touched";
    EXPECT_NE(std::string(outcome.expected), "");
    EXPECT_EQ(outcome.error().message, outcome.expected);
  }
}

TEST(EtfVectors, EveryProperPrefixIsTruncated) {
  for (const Vector& vector : vectors()) {
    if (!vector.has("accept") || vector.name == "local") continue;
    SCOPED_TRACE(vector.name);
    for (std::size_t size = 0; size < vector.bytes.size(); ++size) {
      const Exact exact(std::string_view(vector.bytes).substr(0, size));
      Tree tree;
      Tree::Value value{};
      const Outcome outcome = read(tree, exact.bytes(), value);
      ASSERT_FALSE(outcome.ok()) << "at " << size;
      EXPECT_EQ(outcome.code, Code::kTruncated) << "at " << size << ": " << outcome.expected;
      const Outcome skipped = skip(exact.bytes(), Limits{});
      ASSERT_FALSE(skipped.ok()) << "at " << size;
      EXPECT_EQ(skipped.code, Code::kTruncated) << "at " << size << ": " << skipped.expected;
    }
  }
}

TEST(EtfVectors, AByteBehindIsRefusedOrLeft) {
  for (const Vector& vector : vectors()) {
    if (!vector.has("accept") || vector.name == "local") continue;
    SCOPED_TRACE(vector.name);
    const Exact exact(vector.bytes + "x");
    Tree tree;
    Tree::Value value{};
    const Outcome outcome = read(tree, exact.bytes(), value);
    ASSERT_FALSE(outcome.ok());
    EXPECT_EQ(outcome.code, Code::kTrailing);
    EXPECT_EQ(outcome.offset, vector.bytes.size());

    Tree other;
    const Outcome prefix = decode_prefix(exact.bytes(), other, Limits{}, value);
    ASSERT_TRUE(prefix.ok());
    EXPECT_EQ(prefix.used, vector.bytes.size());
    EXPECT_EQ(skip(exact.bytes(), Limits{}).used, vector.bytes.size());
  }
}

// What comes out of any damage is either good ETF or an error, and decoder and skipper agree on which.
TEST(EtfVectors, SurviveRandomDamage) {
  std::mt19937 random(20260101);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same in every run
  const auto below = [&](std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(random);
  };
  std::size_t accepted = 0;
  for (const Vector& vector : vectors()) {
    SCOPED_TRACE(vector.name);
    if (vector.bytes.size() < 2) continue;
    for (int round = 0; round < 200; ++round) {
      std::string bytes = vector.bytes;
      for (std::size_t i = 0; i <= below(3); ++i) {
        switch (below(4)) {
          case 0:
            bytes[below(bytes.size())] = static_cast<char>(below(256));
            break;
          case 1:
            bytes.erase(below(bytes.size()), 1 + below(4));
            break;
          case 2: {
            const std::string& other = vectors()[below(vectors().size())].bytes;
            bytes.insert(below(bytes.size() + 1), other.substr(0, below(other.size() + 1)));
            break;
          }
          default:
            bytes[below(bytes.size())] = static_cast<char>(70 + below(52));
            break;
        }
        if (bytes.empty()) bytes.push_back(static_cast<char>(kVersion));
      }
      const Exact exact(bytes);
      Tree tree;
      tree.reject_duplicate_keys = false;
      Tree::Value value{};
      const Outcome outcome = read(tree, exact.bytes(), value);
      const Outcome skipped = skip(exact.bytes(), Limits{});
      ASSERT_EQ(outcome.ok(), skipped.ok() && skipped.used == bytes.size());
      if (!outcome.ok()) continue;
      ++accepted;
      const std::string again = tree.encode(value);
      Tree second;
      second.reject_duplicate_keys = false;
      ASSERT_TRUE(decode(Tree::bytes_of(again), second, Limits{}, value).ok());
      EXPECT_EQ(second.encode(value), again);
    }
  }
  EXPECT_GT(accepted, 100u);
}

}  // namespace
}  // namespace typhon::etf

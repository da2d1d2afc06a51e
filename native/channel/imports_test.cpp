#include "channel/imports.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "channel/claim.h"
#include "testing/channel.h"

namespace typhon::channel {
namespace {

using testing::attach_again;
using testing::kStressDivisor;
using testing::small_region;

struct ChannelImports : ::testing::Test {
  std::unique_ptr<Region> region = small_region();
  std::unique_ptr<Region> peer = attach_again(*region);
  Imports beam{region->header()};
  Imports worker{peer->header()};
};

TEST_F(ChannelImports, AreNoneAtFirst) {
  EXPECT_FALSE(beam.is_any());
  EXPECT_EQ(beam.name_for(7), "");
  EXPECT_EQ(beam.name_for(0), "");
}

TEST_F(ChannelImports, AreKnownByTheirCall) {
  const int first = worker.begin(7, "sklearn.linear_model");
  const int second = worker.begin(8, "pandas");
  EXPECT_TRUE(beam.is_any());
  EXPECT_EQ(beam.name_for(7), "sklearn.linear_model");
  EXPECT_EQ(beam.name_for(8), "pandas");
  worker.end(first);
  EXPECT_EQ(beam.name_for(8), "pandas");
  worker.end(second);
  EXPECT_FALSE(beam.is_any());
}

TEST_F(ChannelImports, OfACallWithoutAMarkIsTheOnlyOneThatThereIs) {
  const int loop = worker.begin(0, "torch");
  EXPECT_EQ(beam.name_for(9), "torch");
  EXPECT_EQ(beam.name_for(0), "torch");
  const int other = worker.begin(3, "numpy");
  EXPECT_EQ(beam.name_for(9), "");
  worker.end(loop);
  EXPECT_EQ(beam.name_for(9), "numpy");
  worker.end(other);
}

TEST_F(ChannelImports, OfOneModuleHaveItsNameForACallWithoutAMark) {
  worker.begin(1, "m");
  const int other = worker.begin(2, "m");
  EXPECT_EQ(beam.name_for(3), "m");
  worker.end(other);
  worker.begin(2, "n");
  EXPECT_EQ(beam.name_for(3), "");
  EXPECT_EQ(beam.name_for(1), "m");
}

TEST_F(ChannelImports, AreMoreThanThereAreMarksFor) {
  for (std::size_t i = 0; i < kImportMarks; ++i) EXPECT_EQ(worker.begin(i + 1, "m"), static_cast<int>(i));
  EXPECT_EQ(worker.begin(100, "n"), Imports::kNone);
  worker.end(Imports::kNone);
  EXPECT_EQ(beam.name_for(100), "");
  worker.end(3);
  EXPECT_EQ(worker.begin(100, "n"), 3);
  EXPECT_EQ(beam.name_for(100), "n");
}

TEST_F(ChannelImports, HaveNamesOfABoundedLength) {
  const std::string longest(kImportName, 'x');
  worker.end(worker.begin(1, "a name that is overwritten"));
  const int mark = worker.begin(1, longest + "y");
  EXPECT_EQ(beam.name_for(1), longest);
  worker.end(mark);
  worker.begin(1, "");
  EXPECT_EQ(beam.name_for(1), "");
}

// Whoever reads while a mark is written has one of its names, or none.
TEST_F(ChannelImports, AreReadWhileTheyAreWritten) {
  const std::string names[2] = {std::string(kImportName, 'a'), std::string(kImportName, 'b')};
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (unsigned i = 0; !stop.load(std::memory_order_relaxed); ++i)
      worker.end(worker.begin(1, names[i % 2]));
  });
  for (unsigned i = 0; i < 200'000 / kStressDivisor; ++i) {
    const std::string name = beam.name_for(1);
    EXPECT_TRUE(name.empty() || name == names[0] || name == names[1]) << name;
  }
  stop = true;
  writer.join();
}

TEST_F(ChannelImports, AreSaidOfTakenCallsAlone) {
  const Claims claims = peer->claims();
  const Claims seen = region->claims();
  constexpr std::uint64_t id = (std::uint64_t{1} << 32) | 5;
  claims.set_imports(id, true);
  EXPECT_EQ(seen.state(id), Claim::kOpen);
  EXPECT_TRUE(claims.take(id));
  EXPECT_TRUE(seen.is_taken(id));
  claims.set_imports(id, true);
  EXPECT_EQ(seen.state(id), Claim::kImports);
  EXPECT_TRUE(seen.is_taken(id));
  EXPECT_FALSE(seen.withdraw(id));
  claims.set_imports(id, false);
  EXPECT_EQ(seen.state(id), Claim::kTaken);
  constexpr std::uint64_t next = (std::uint64_t{2} << 32) | 5;
  EXPECT_TRUE(seen.withdraw(next));
  claims.set_imports(next, true);
  EXPECT_EQ(seen.state(next), Claim::kWithdrawn);
  EXPECT_FALSE(seen.is_taken(next));
  claims.set_imports(~std::uint64_t{0}, true);  // in nobody's range
}

}  // namespace
}  // namespace typhon::channel

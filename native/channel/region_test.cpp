#include "channel/region.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "os/descriptor.h"
#include "os/memory.h"
#include "os/process.h"
#include "testing/channel.h"

namespace typhon::channel {
namespace {

using os::Limit;
using testing::attach_again;
using testing::kPageSize;
using testing::run_in_child;
using testing::small_region;

constexpr std::size_t kMiB = 1024 * 1024;
constexpr std::size_t kGiB = 1024 * kMiB;
const std::size_t kWholeSmallRegion = kHeaderSize + kClaimsSize + 2 * kMinRing + 2 * kPageSize;

// The constants at the start of the header, as an attacker would write them.
struct Constants {
  std::uint64_t magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t header_size = kHeaderSize;
  std::uint64_t ring_size = kMinRing;
  std::uint64_t arena_size = kPageSize;
};
static_assert(offsetof(Header, arena_size) == offsetof(Constants, arena_size));

constexpr unsigned kSeals = os::kNoShrinking | os::kNoGrowing;

os::UniqueFd forged(const Constants& constants, std::size_t size, unsigned seals = kSeals) {
  os::UniqueFd fd = os::make_shared_memory("forged");
  EXPECT_TRUE(os::set_size(fd.get(), size));
  if (size >= sizeof constants) {
    EXPECT_EQ(::pwrite(fd.get(), &constants, sizeof constants, 0), static_cast<ssize_t>(sizeof constants));
  }
  EXPECT_TRUE(os::seal(fd.get(), seals));
  return fd;
}

std::string attach_error(os::UniqueFd fd) {
  auto attached = Region::attach(std::move(fd));
  return attached.ok() ? "" : attached.error().message;
}

std::size_t count_lines(const char* path) {
  std::ifstream file(path);
  return static_cast<std::size_t>(
      std::count(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>(), '\n'));
}

std::size_t count_descriptors() {
  std::size_t count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder)) ++count;
  ::closedir(folder);
  return count;
}

std::size_t mappings_of_regions() {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) count += line.find("memfd:") != std::string::npos;
  return count;
}

TEST(ChannelRegion, StartsZeroedBehindItsConstants) {
  RegionOptions options;
  options.ring_size = 128 * 1024;
  options.arena_size = kMiB;
  options.worker_spin_us = 7;
  options.flags = kFlagMapsetVersion;
  auto created = Region::create(options);
  ASSERT_TRUE(created.ok()) << created.error().message;
  Region& region = *created.value();
  Header& header = region.header();
  EXPECT_EQ(header.magic, kMagic);
  EXPECT_EQ(std::memcmp(&header.magic, "\x01Typhon1", 8), 0)
      << "the magic number reads as text in a hex dump";
  EXPECT_EQ(header.version, kVersion);
  EXPECT_EQ(header.header_size, kHeaderSize);
  EXPECT_EQ(header.ring_size, 128U * 1024);
  EXPECT_EQ(header.arena_size, kMiB);
  EXPECT_EQ(header.beam_pid, static_cast<std::uint32_t>(::getpid()));
  EXPECT_EQ(header.worker_spin_us, 7U);
  EXPECT_EQ(header.flags, kFlagMapsetVersion);
  EXPECT_EQ(header.reserved, 0U);
  EXPECT_EQ(header.reader_word.value.load(), kAsleep) << "nobody owns the reply ring before the reader runs";
  EXPECT_EQ(header.worker_word.value.load(), kAwake);
  EXPECT_EQ(region.ring_size(), 128U * 1024);
  EXPECT_EQ(region.arena_size(), kMiB);
  const auto zero = [](const std::uint8_t* from, std::size_t size) {
    return std::all_of(from, from + size, [](std::uint8_t byte) { return byte == 0; });
  };
  EXPECT_TRUE(zero(region.request_ring(), 2 * region.ring_size()));
  EXPECT_TRUE(zero(region.reply_ring(), 2 * region.ring_size()));
  EXPECT_TRUE(zero(region.request_arena(), region.arena_size()));
  EXPECT_TRUE(zero(region.reply_arena(), region.arena_size()));
}

TEST(ChannelRegion, MapsEachRingTwiceInARow) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  const std::size_t size = region->ring_size();
  for (std::uint8_t* ring : {region->request_ring(), region->reply_ring()}) {
    std::memcpy(ring + size - 3, "across", 6);
    EXPECT_EQ(std::memcmp(ring + size, "oss", 3), 0);
    EXPECT_EQ(std::memcmp(ring, "oss", 3), 0);
    EXPECT_EQ(std::memcmp(ring + 2 * size - 3, "acr", 3), 0);
  }
}

TEST(ChannelRegion, PartsDoNotOverlap) {
  const auto region = small_region(kMinRing, kPageSize);
  ASSERT_TRUE(region);
  const auto peer = attach_again(*region);
  ASSERT_TRUE(peer);
  std::memset(region->request_ring(), 1, kMinRing);
  std::memset(region->reply_ring(), 2, kMinRing);
  std::memset(region->request_arena(), 3, kPageSize);
  std::memset(region->reply_arena(), 4, kPageSize);
  const auto holds = [](const std::uint8_t* from, std::size_t size, std::uint8_t value) {
    return std::all_of(from, from + size, [value](std::uint8_t byte) { return byte == value; });
  };
  EXPECT_TRUE(holds(peer->request_ring(), 2 * kMinRing, 1));
  EXPECT_TRUE(holds(peer->reply_ring(), 2 * kMinRing, 2));
  EXPECT_TRUE(holds(peer->request_arena(), kPageSize, 3));
  EXPECT_TRUE(holds(peer->reply_arena(), kPageSize, 4));
  EXPECT_EQ(peer->header().magic, kMagic);
}

TEST(ChannelRegion, AnotherProcessReachesItByItsDescriptor) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  const int code = run_in_child([&] {
    auto attached = Region::attach(os::open_descriptor_of(::getppid(), region->fd(), os::Access::kReadWrite));
    if (!attached.ok()) return 1;
    const Region& mine = *attached.value();
    if (mine.header().beam_pid != static_cast<std::uint32_t>(::getppid())) return 2;
    std::memcpy(mine.reply_arena() + 100, "hello", 5);
    mine.header().reply_tail.value.store(4711);
    return 0;
  });
  EXPECT_EQ(code, 0);
  EXPECT_EQ(std::memcmp(region->reply_arena() + 100, "hello", 5), 0);
  EXPECT_EQ(region->header().reply_tail.value.load(), 4711U);
}

TEST(ChannelRegion, NobodyCanResizeIt) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  EXPECT_NE(::ftruncate(region->fd(), 0), 0);
  EXPECT_NE(::ftruncate(region->fd(), static_cast<off_t>(kGiB)), 0);
  EXPECT_FALSE(os::seal(region->fd(), os::kNoWriting)) << "nor can it be made read-only under a peer";
}

TEST(ChannelRegion, DescriptorIsCloseOnExec) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  EXPECT_NE(::fcntl(region->fd(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(ChannelRegion, StaysMappedWithoutItsDescriptor) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  const auto peer = attach_again(*region);
  ASSERT_TRUE(peer);
  region->close_fd();
  peer->close_fd();
  EXPECT_EQ(region->fd(), -1);
  region->request_ring()[5] = 55;
  EXPECT_EQ(peer->request_ring()[5], 55);
}

TEST(ChannelRegion, ArenasCostNoMemoryUntilTouched) {
  auto created = Region::create({});
  ASSERT_TRUE(created.ok()) << created.error().message;
  const int fd = created.value()->fd();
  EXPECT_GE(static_cast<std::size_t>(os::size_of(fd)), 2 * created.value()->arena_size());
  EXPECT_LE(static_cast<std::size_t>(os::memory_behind(fd)), kMiB);
}

TEST(ChannelRegion, LeavesNothingBehind) {
  small_region().reset();  // whatever the first use allocates for good
  const std::size_t descriptors = count_descriptors();
  for (int i = 0; i < 10; ++i) {
    const auto region = small_region();
    ASSERT_TRUE(region);
    ASSERT_TRUE(attach_again(*region));
    EXPECT_NE(attach_error(forged({}, kWholeSmallRegion + kPageSize)), "");
  }
  EXPECT_EQ(count_descriptors(), descriptors);
  EXPECT_EQ(mappings_of_regions(), 0U);
  EXPECT_GT(count_lines("/proc/self/maps"), 0U);
}

TEST(ChannelRegion, RefusesSizesThatMakeNoSense) {
  const auto refused = [](std::size_t ring_size, std::size_t arena_size) {
    RegionOptions options;
    options.ring_size = ring_size;
    options.arena_size = arena_size;
    auto created = Region::create(options);
    return !created.ok() && created.error().code == Code::kInvalid;
  };
  EXPECT_TRUE(refused(0, kMiB));
  EXPECT_TRUE(refused(kMinRing / 2, kMiB));
  EXPECT_TRUE(refused(kMinRing + kArenaUnit, kMiB));
  EXPECT_TRUE(refused(2 * kMaxRing, kMiB));
  EXPECT_TRUE(refused(~std::size_t{0}, kMiB));
  EXPECT_TRUE(refused(kMinRing, 0));
  EXPECT_TRUE(refused(kMinRing, kArenaUnit - 1));
  EXPECT_TRUE(refused(kMinRing, kArenaUnit + 1));
  EXPECT_TRUE(refused(kMinRing, std::size_t{1} << 45));
  EXPECT_TRUE(refused(kMinRing, ~std::size_t{0} & ~(kArenaUnit - 1)));
  EXPECT_FALSE(refused(kMinRing, kArenaUnit));
  EXPECT_FALSE(refused(kMaxRing, kArenaUnit));
}

TEST(ChannelRegion, ItsArenasAreWholePagesOfThisMachine) {
  RegionOptions options;
  options.ring_size = kMinRing;
  options.arena_size = kArenaUnit;
  auto created = Region::create(options);
  ASSERT_TRUE(created.ok()) << created.error().message;
  EXPECT_EQ(created.value()->arena_size(), kPageSize);
  EXPECT_TRUE(attach_again(*created.value()));
}

TEST(ChannelRegion, ShrinksItsArenasWhenAddressSpaceIsLimited) {
  const int code = run_in_child([] {
    if (!os::set_limit(Limit::kAddressSpace, os::mapped_bytes() + 8 * kGiB)) return 1;
    auto created = Region::create({});
    if (!created.ok()) return 2;
    const Region& region = *created.value();
    if (region.arena_size() < 1 * kGiB || region.arena_size() > 4 * kGiB) return 3;
    if (region.header().arena_size != region.arena_size()) return 4;
    region.request_arena()[region.arena_size() - 1] = 1;
    region.reply_arena()[region.arena_size() - 1] = 1;
    return 0;
  });
  EXPECT_EQ(code, 0);
}

TEST(ChannelRegion, ShrinksToWholePages) {
  // Half of an odd number of pages is no place where a mapping can start.
  const int code = run_in_child([] {
    if (!os::set_limit(Limit::kAddressSpace, os::mapped_bytes() + 3 * kGiB)) return 1;
    RegionOptions options;
    options.arena_size = 2 * kGiB + kPageSize;
    auto created = Region::create(options);
    if (!created.ok()) return 2;
    if (created.value()->arena_size() % kPageSize != 0) return 3;
    if (!os::set_limit(Limit::kAddressSpace, os::kNoLimit)) return 4;
    return attach_again(*created.value()) ? 0 : 5;
  });
  EXPECT_EQ(code, 0);
}

TEST(ChannelRegion, ShrinksItsArenasWhenFileSizesAreLimited) {
  // ftruncate() beyond RLIMIT_FSIZE raises SIGXFSZ, which ends a process that does not expect it.
  const int code = run_in_child([] {
    if (!os::set_limit(Limit::kFileSize, kGiB)) return 1;
    auto created = Region::create({});
    if (!created.ok()) return 2;
    if (created.value()->arena_size() < 128 * kMiB) return 3;
    return attach_again(*created.value()) ? 0 : 4;
  });
  EXPECT_EQ(code, 0) << (code == -SIGXFSZ ? "ended by SIGXFSZ" : "");
}

TEST(ChannelRegion, SaysSoWhenEvenTheSmallestDoesNotFit) {
  const int address_space = run_in_child([] {
    if (!os::set_limit(Limit::kAddressSpace, os::mapped_bytes() + 64 * kMiB)) return 1;
    auto created = Region::create({});
    if (created.ok() || created.error().code != Code::kSystem) return 2;
    if (mappings_of_regions() != 0) return 3;
    return created.error().message.find("memory") == std::string::npos ? 4 : 0;
  });
  EXPECT_EQ(address_space, 0);
  const int file_size = run_in_child([] {
    if (!os::set_limit(Limit::kFileSize, kMiB)) return 1;
    auto created = Region::create({});
    return !created.ok() && created.error().code == Code::kSystem ? 0 : 2;
  });
  EXPECT_EQ(file_size, 0);
  const int descriptors = run_in_child([] {
    if (!os::set_limit(Limit::kDescriptors, 0)) return 1;
    auto created = Region::create({});
    return !created.ok() && created.error().code == Code::kSystem ? 0 : 2;
  });
  EXPECT_EQ(descriptors, 0);
}

TEST(ChannelRegion, AttachTakesWhatCreateMakes) {
  EXPECT_EQ(attach_error(forged({}, kWholeSmallRegion)), "")
      << "the forger of the tests below writes good regions";
}

TEST(ChannelRegion, AttachRefusesWhatIsNoSealedMemory) {
  EXPECT_NE(attach_error(os::UniqueFd()), "");
  EXPECT_NE(attach_error(os::UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC))), "");
  EXPECT_NE(attach_error(os::UniqueFd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC))), "");
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  os::UniqueFd other(ends[1]);
  EXPECT_NE(attach_error(os::UniqueFd(ends[0])), "");
  // A peer that could shrink the memory could make any access fault.
  EXPECT_NE(attach_error(forged({}, kWholeSmallRegion, 0)), "");
  EXPECT_NE(attach_error(forged({}, kWholeSmallRegion, os::kNoGrowing)), "");
  EXPECT_NE(attach_error(forged({}, kWholeSmallRegion, os::kNoShrinking)), "");
  // Memory that this side may not write.
  EXPECT_NE(attach_error(forged({}, kWholeSmallRegion, kSeals | os::kNoWriting)), "");
  const auto region = small_region();
  ASSERT_TRUE(region);
  const std::string path = "/proc/self/fd/" + std::to_string(region->fd());
  EXPECT_NE(attach_error(os::UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC))), "");
}

TEST(ChannelRegion, AttachRefusesTruncatedRegions) {
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, sizeof(Constants), kPageSize, kHeaderSize - 1, kHeaderSize,
        kHeaderSize + 1, kHeaderSize + kClaimsSize, kHeaderSize + kClaimsSize + kMinRing,
        kWholeSmallRegion - kPageSize, kWholeSmallRegion - 1, kWholeSmallRegion + 1,
        kWholeSmallRegion + kPageSize}) {
    EXPECT_NE(attach_error(forged({}, size)), "") << size << " bytes";
  }
}

TEST(ChannelRegion, AttachRefusesForgedConstants) {
  const auto error_with = [](auto change) {
    Constants constants;
    change(constants);
    return attach_error(forged(constants, kWholeSmallRegion));
  };
  EXPECT_NE(error_with([](Constants& c) { c.magic ^= 1; }), "");
  EXPECT_NE(error_with([](Constants& c) { c.version += 1; }), "");
  EXPECT_NE(error_with([](Constants& c) { c.header_size = 0; }), "");
  for (const std::uint64_t size :
       {std::uint64_t{0}, std::uint64_t{1}, kMinRing / 2 + 0UL, kMinRing + kPageSize + 0UL,
        2 * kMinRing + 0UL, std::uint64_t{1} << 32, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    EXPECT_NE(error_with([size](Constants& c) { c.ring_size = size; }), "") << "ring_size " << size;
    EXPECT_NE(error_with([size](Constants& c) { c.arena_size = size; }), "") << "arena_size " << size;
  }
  // Sums that only fit because they overflow.
  EXPECT_NE(error_with([](Constants& c) { c.arena_size = kPageSize + (std::uint64_t{1} << 63); }), "");
}

TEST(ChannelRegion, AttachSurvivesEveryFlippedBitOfTheConstants) {
  for (std::size_t bit = 0; bit < sizeof(Constants) * 8; ++bit) {
    Constants constants;
    reinterpret_cast<std::uint8_t*>(&constants)[bit / 8] ^= static_cast<std::uint8_t>(1U << (bit % 8));
    EXPECT_NE(attach_error(forged(constants, kWholeSmallRegion)), "") << "bit " << bit;
  }
}

TEST(ChannelRegion, SizesAreNotReadAgainFromSharedMemory) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  const auto peer = attach_again(*region);
  ASSERT_TRUE(peer);
  region->header().ring_size = std::uint64_t{1} << 40;
  region->header().arena_size = std::uint64_t{1} << 60;
  EXPECT_EQ(peer->ring_size(), kMinRing);
  EXPECT_EQ(peer->arena_size(), kMiB);
}

TEST(Region, TellsWhetherASegmentWasWritten) {
  auto region = small_region();
  ASSERT_TRUE(region);
  auto peer = attach_again(*region);
  ASSERT_TRUE(peer);
  EXPECT_FALSE(region->reply_written(0, 1));
  EXPECT_TRUE(region->reply_written(0, 0));
  std::memset(peer->reply_arena() + kPageSize, 1, 2 * kPageSize);
  EXPECT_TRUE(region->reply_written(kPageSize, 2 * kPageSize));
  EXPECT_TRUE(region->reply_written(kPageSize + 7, kPageSize));
  EXPECT_FALSE(region->reply_written(kPageSize, 2 * kPageSize + 1));
  EXPECT_FALSE(region->reply_written(0, kPageSize + 1));
  os::discard_shared(peer->reply_arena() + kPageSize, 2 * kPageSize);
  EXPECT_FALSE(region->reply_written(kPageSize, 1));
}

TEST(Region, TellsTheWorkerHowLargeAResultMayBe) {
  RegionOptions options;
  options.ring_size = kMinRing;
  options.arena_size = kPageSize;
  options.max_result = 123'456;
  auto region = Region::create(options);
  ASSERT_TRUE(region.ok());
  auto peer = attach_again(*region.value());
  ASSERT_TRUE(peer);
  EXPECT_EQ(region.value()->max_result(), 123'456u);
  EXPECT_EQ(peer->max_result(), 123'456u);
}

}  // namespace
}  // namespace typhon::channel

#include "os/memory.h"

#include <gtest/gtest.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <string>

#include "os/process.h"

namespace typhon::os {
namespace {

const std::size_t kPage = page_size();

UniqueFd shared(std::size_t size) {
  UniqueFd fd = make_shared_memory("os_test");
  EXPECT_TRUE(fd.valid() && set_size(fd.get(), size));
  return fd;
}

TEST(OsMemory, PagesAreOfAKnownSize) {
  EXPECT_TRUE(std::has_single_bit(kPage));
  EXPECT_GE(kPage, 4096U);
  EXPECT_LE(kPage, kLargestPage);
  EXPECT_EQ(whole_pages(0), 0U);
  EXPECT_EQ(whole_pages(1), kPage);
  EXPECT_EQ(whole_pages(kPage), kPage);
  EXPECT_EQ(whole_pages(kPage + 1), 2 * kPage);
  EXPECT_EQ(round_up(16'385, 16'384), 32'768U);
}

TEST(OsMemory, TwoMappingsAreTheSameMemory) {
  const UniqueFd fd = shared(2 * kPage);
  std::uint8_t* const one = map_shared(fd.get(), 0, 2 * kPage);
  std::uint8_t* const other = map_shared(fd.get(), kPage, kPage);
  ASSERT_TRUE(one && other);
  one[kPage] = 42;
  EXPECT_EQ(other[0], 42);
  unmap(one, 2 * kPage);
  EXPECT_EQ(other[0], 42);
  unmap(other, kPage);
}

TEST(OsMemory, MapsTheSameBytesTwiceInARow) {
  const UniqueFd fd = shared(3 * kLargestPage);
  std::uint8_t* const ring = map_shared_twice(fd.get(), kLargestPage, kLargestPage);
  ASSERT_TRUE(ring);
  std::memcpy(ring + kLargestPage - 3, "across", 6);
  EXPECT_EQ(std::memcmp(ring, "oss", 3), 0);
  unmap(ring, 2 * kLargestPage);
}

TEST(OsMemory, WhatCannotBeMappedIsNull) {
  EXPECT_EQ(map_shared(-1, 0, kPage), nullptr);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(map_shared_twice(-1, 0, kPage), nullptr);
  EXPECT_EQ(errno, EBADF) << "not what unmapping the rest came to";
  EXPECT_EQ(size_of(-1), -1);
  EXPECT_EQ(memory_behind(-1), -1);
  EXPECT_EQ(first_hole(-1, 0), -1);
  EXPECT_EQ(seals_of(-1), 0U);
}

TEST(OsMemory, ASealedSizeStaysWhatItIs) {
  const UniqueFd fd = shared(kPage);
  EXPECT_EQ(seals_of(fd.get()), 0U);
  ASSERT_TRUE(seal(fd.get(), kNoShrinking | kNoGrowing | kNoMoreSeals));
  EXPECT_EQ(seals_of(fd.get()), kNoShrinking | kNoGrowing | kNoMoreSeals);
  EXPECT_FALSE(set_size(fd.get(), 0));
  EXPECT_FALSE(set_size(fd.get(), 2 * kPage));
  EXPECT_FALSE(seal(fd.get(), kNoWriting));
  EXPECT_EQ(size_of(fd.get()), static_cast<std::int64_t>(kPage));
}

TEST(OsMemory, TellsWhereNothingWasWritten) {
  const UniqueFd fd = shared(4 * kPage);
  std::uint8_t* const at = map_shared(fd.get(), 0, 4 * kPage);
  ASSERT_TRUE(at);
  EXPECT_EQ(memory_behind(fd.get()), 0);
  EXPECT_EQ(first_hole(fd.get(), 0), 0);
  std::memset(at, 1, 2 * kPage);
  EXPECT_EQ(first_hole(fd.get(), 0), static_cast<std::int64_t>(2 * kPage));
  EXPECT_GE(memory_behind(fd.get()), static_cast<std::int64_t>(2 * kPage));
  discard_shared(at, kPage);
  EXPECT_EQ(first_hole(fd.get(), 0), 0);
  EXPECT_EQ(at[0], 0) << "a discarded page comes back as zeros";
  EXPECT_EQ(at[kPage], 1);
  unmap(at, 4 * kPage);
}

TEST(OsMemory, PrivateMemoryIsZeroed) {
  for (const Touch touch : {Touch::kLater, Touch::kNow, Touch::kUnlikely}) {
    std::uint8_t* const at = map_private(8 * kPage, touch);
    ASSERT_TRUE(at);
    leave_out_of_dumps(at, 8 * kPage);
    prefer_huge_pages(at, 8 * kPage);
    for (std::size_t i = 0; i < 8 * kPage; ++i) ASSERT_EQ(at[i], 0);
    unmap(at, 8 * kPage);
  }
  EXPECT_EQ(map_private(~std::size_t{0} & ~(kPage - 1)), nullptr);
}

TEST(OsMemory, WritesOnlyWhereItMay) {
  int word = 1;
  const int other = 2;
  EXPECT_TRUE(write_if_writable(&word, &other, sizeof word));
  EXPECT_EQ(word, 2);
  EXPECT_FALSE(write_if_writable(nullptr, &other, sizeof other)) << "an error, not a fault";
}

TEST(OsMemory, CountsTheAddressSpaceInUse) {
  constexpr std::size_t kMuch = std::size_t{1} << 30;
  const std::size_t before = mapped_bytes();
  EXPECT_GT(before, 0U);
  std::uint8_t* const at = map_private(kMuch, Touch::kUnlikely);
  ASSERT_TRUE(at);
  EXPECT_GE(mapped_bytes(), before + kMuch);
  unmap(at, kMuch);
  EXPECT_GT(machine_memory(), std::size_t{1} << 20);
}

}  // namespace
}  // namespace typhon::os

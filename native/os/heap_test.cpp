#include "os/heap.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

namespace typhon::os {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

TEST(OsHeap, KnowsTheSizeOfABlock) {
  void* const block = std::malloc(1000);
  ASSERT_NE(block, nullptr);
  EXPECT_GE(heap::size_of(block), 1000U);
  std::free(block);
  EXPECT_EQ(heap::size_of(nullptr), 0U);
}

TEST(OsHeap, CountsWhatIsInUse) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer has a malloc of its own";
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  GTEST_SKIP() << "a sanitizer has a malloc of its own";
#endif
#endif
  if (!heap::can_tell()) {
    EXPECT_EQ(heap::in_use(), 0U);
    GTEST_SKIP() << "this C library does not tell";
  }
  const std::size_t before = heap::in_use();
  void* volatile block = std::malloc(64 * kMiB);
  EXPECT_GE(heap::in_use(), before + 64 * kMiB);
  std::free(block);
  EXPECT_LT(heap::in_use(), before + kMiB);
}

TEST(OsHeap, GivesBackWithoutTouchingWhatIsInUse) {
  heap::keep_large_blocks();
  auto* const kept = static_cast<unsigned char*>(std::malloc(kMiB));
  ASSERT_NE(kept, nullptr);
  std::memset(kept, 7, kMiB);
  for (int round = 0; round < 10; ++round) {
    void* volatile freed = std::malloc(8 * kMiB);
    std::free(freed);
    heap::trim();
    heap::trim_own();
  }
  for (std::size_t i = 0; i < kMiB; ++i) ASSERT_EQ(kept[i], 7);
  std::free(kept);
}

}  // namespace
}  // namespace typhon::os

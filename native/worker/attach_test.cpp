// How a worker comes to its channel's memory, and what it says when it cannot.
#include "worker/attach.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "testing/channel.h"

namespace typhon::worker {
namespace {

TEST(Attach, MapsTheMemoryOfAnotherProcess) {
  const auto region = channel::testing::small_region();
  ASSERT_TRUE(region);
  auto attached = attach(::getpid(), region->fd());
  ASSERT_TRUE(attached.ok()) << attached.error().message;
  EXPECT_EQ(attached.value()->fd(), -1);
  region->header().closing.value.store(1);
  EXPECT_EQ(attached.value()->header().closing.value.load(), 1U);
}

TEST(Attach, TakesTheDescriptorInTheVmItself) {
  const auto region = channel::testing::small_region();
  ASSERT_TRUE(region);
  const int own = ::dup(region->fd());
  auto attached = attach(0, own);
  ASSERT_TRUE(attached.ok()) << attached.error().message;
  EXPECT_EQ(::fcntl(own, F_GETFD), -1);
}

TEST(Attach, SaysWhichDescriptorOfWhichProcessCannotBeOpened) {
  const auto attached = attach(::getpid(), 1'000'000);
  ASSERT_FALSE(attached.ok());
  const std::string& message = attached.error().message;
  EXPECT_NE(message.find("descriptor 1000000 of process " + std::to_string(::getpid())), std::string::npos)
      << message;
  EXPECT_NE(message.find("does the worker run as another user"), std::string::npos) << message;
}

TEST(Attach, RefusesWhatIsNoChannel) {
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  EXPECT_FALSE(attach(0, null).ok());
  EXPECT_EQ(::fcntl(null, F_GETFD), -1);
}

}  // namespace
}  // namespace typhon::worker

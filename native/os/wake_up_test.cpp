#include "os/wake_up.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <thread>

namespace typhon::os {
namespace {

bool is_set(const UniqueFd& fd, int limit_ms = 0) {
  pollfd event{fd.get(), POLLIN, 0};
  return ::poll(&event, 1, limit_ms) == 1;
}

TEST(OsWakeUp, IsReadableUntilItIsCleared) {
  const UniqueFd wake_up = make_wake_up();
  ASSERT_TRUE(wake_up.valid());
  EXPECT_FALSE(is_set(wake_up));
  clear_wake_up(wake_up.get());  // does not wait
  set_wake_up(wake_up.get());
  set_wake_up(wake_up.get());
  EXPECT_TRUE(is_set(wake_up));
  EXPECT_TRUE(is_set(wake_up)) << "looking does not clear it";
  clear_wake_up(wake_up.get());
  EXPECT_FALSE(is_set(wake_up)) << "once is enough, however often it was set";
}

TEST(OsWakeUp, MayBeSetFromTheStart) {
  const UniqueFd wake_up = make_wake_up(true);
  ASSERT_TRUE(wake_up.valid());
  EXPECT_TRUE(is_set(wake_up));
}

TEST(OsWakeUp, OfATimerComesOnce) {
  const UniqueFd timer = make_timer();
  ASSERT_TRUE(timer.valid());
  EXPECT_FALSE(is_set(timer));
  EXPECT_TRUE(set_timer(timer.get(), 1'000'000));
  EXPECT_TRUE(is_set(timer, -1));
  clear_wake_up(timer.get());
  EXPECT_FALSE(is_set(timer));
  EXPECT_FALSE(set_timer(-1, 1));
}

TEST(OsWakeUp, WakesAThreadThatWaits) {
  const UniqueFd wake_up = make_wake_up();
  ASSERT_TRUE(wake_up.valid());
  std::thread setter([&] { set_wake_up(wake_up.get()); });
  EXPECT_TRUE(is_set(wake_up, -1));
  setter.join();
}

}  // namespace
}  // namespace typhon::os

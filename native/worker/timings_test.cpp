// What a timed reply tells.
#include "worker/timings.h"

#include <gtest/gtest.h>

#include "os/clock.h"

namespace typhon::worker {
namespace {

using channel::FrameHeader;

// Nothing here says how long something takes: only that all of it is told, and once.
TEST(Timings, TellWhereTheWholeTimeWent) {
  FrameHeader request{};
  request.flags = channel::kTimings;
  request.times[0] = os::monotonic_ns();
  Timings timings(request);
  timings.add(Timings::Part::kDecoding);
  timings.add(Timings::Part::kRunning);
  // In an event loop it runs in pieces.
  timings.add(Timings::Part::kRunning);
  FrameHeader reply{};
  timings.write_to(reply);
  EXPECT_EQ(reply.flags, channel::kTimings);
  EXPECT_EQ(reply.times[0] + reply.times[1] + reply.times[2] + reply.times[3],
            reply.times[4] - request.times[0]);
}

TEST(Timings, OfARequestThatNobodyServesTellWhenItWasAnswered) {
  FrameHeader request{};
  request.flags = channel::kTimings;
  request.times[0] = 1;
  Timings timings = Timings::unserved(request);
  FrameHeader reply{};
  timings.write_to(reply);
  EXPECT_EQ(reply.times[0] + reply.times[1] + reply.times[2], 0U);
  EXPECT_GT(reply.times[4], 0U);
}

// The BEAM's clock is the worker's; a request from the future waited for no time.
TEST(Timings, DoNotRunBackwards) {
  FrameHeader request{};
  request.flags = channel::kTimings;
  request.times[0] = UINT64_MAX;
  Timings timings(request);
  FrameHeader reply{};
  timings.write_to(reply);
  EXPECT_EQ(reply.times[0], 0U);
}

TEST(Timings, AreNotToldUnasked) {
  FrameHeader request{};
  request.times[0] = os::monotonic_ns();
  for (Timings timings : {Timings(request), Timings::unserved(request), Timings()}) {
    timings.add(Timings::Part::kDecoding);
    FrameHeader reply{};
    timings.write_to(reply);
    EXPECT_EQ(reply.flags, 0);
    for (const std::uint64_t time : reply.times) EXPECT_EQ(time, 0U);
  }
}

}  // namespace
}  // namespace typhon::worker

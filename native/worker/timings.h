// Timings: where the time of a call went, which its reply tells when the request asks for it (kTimings).
// Otherwise nothing is measured, and no clock is read.
//
// One thread. All zeros is a state of its own: nothing is measured.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "channel/layout.h"
#include "os/clock.h"

namespace typhon::worker {

class Timings {
 public:
  // In the order of a reply's header, where the time at which it was sent comes last.
  enum class Part : std::uint8_t { kWaiting, kDecoding, kRunning, kEncoding };

  Timings() noexcept = default;
  // A worker has picked the request up now.
  explicit Timings(const channel::FrameHeader& request) noexcept : Timings(unserved(request)) {
    const std::uint64_t submitted = request.times[0];
    if (measures_) times_[0] = times_[kNow] - std::min(times_[kNow], submitted);
  }
  // Of a request that nobody serves: it tells when it was answered.
  static Timings unserved(const channel::FrameHeader& request) noexcept {
    Timings timings;
    timings.measures_ = (request.flags & channel::kTimings) != 0;
    if (timings.measures_) timings.times_[kNow] = os::monotonic_ns();
    return timings;
  }

  // What has passed since the last time was for this.
  void add(Part part) noexcept {
    if (!measures_) return;
    const std::uint64_t now = os::monotonic_ns();
    times_[static_cast<std::size_t>(part)] += now - std::min(now, times_[kNow]);
    times_[kNow] = now;
  }
  // The reply has been encoded, and goes out.
  void write_to(channel::FrameHeader& reply) noexcept {
    if (!measures_) return;
    add(Part::kEncoding);
    reply.flags |= channel::kTimings;
    std::memcpy(reply.times, times_, sizeof reply.times);
  }

 private:
  static constexpr std::size_t kNow = 4;

  std::uint64_t times_[5] = {};
  bool measures_ = false;
};

}  // namespace typhon::worker

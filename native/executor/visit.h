// Worker::Visit: a thread that is about to wait for the BEAM.
#pragma once

#include "executor/worker.h"

namespace typhon::executor {

// The lane of this thread while it waits; a thread of the user's, or the event loop's, has none of its own.
// Then the router reads: the main thread may be busy, so it cannot be left to read the answer.
class Worker::Visit {
 public:
  explicit Visit(Worker& worker) noexcept : worker_(worker), lane_(worker.this_lane()) {
    if (lane_ || !worker.start_router()) return;
    worker.enter_lane(visitor_);
    lane_ = &visitor_;
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;
  ~Visit() {
    if (lane_ == &visitor_) worker_.leave_lane(visitor_);
  }
  // nullptr, with an exception set: there is no thread for the router.
  [[nodiscard]] Lane* lane() const noexcept { return lane_; }

 private:
  Worker& worker_;
  Lane visitor_;
  Lane* lane_;
};

}  // namespace typhon::executor

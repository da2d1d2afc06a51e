// Worker::Visit: a thread that is about to wait for the BEAM.
#pragma once

#include "executor/worker.h"

namespace typhon::executor {

// The lane of this thread while it waits; a thread of the user's, or the event loop's, has none of its own.
// Then the router reads: the main thread may be busy, so it cannot be left to read the answer.
//
// `call`: whose code waits. When that is given up, the wait ends as it does in a thread that serves the call.
class Worker::Visit {
 public:
  Visit(Worker& worker, std::uint64_t call) noexcept
      : worker_(worker), call_(call), lane_(worker.this_lane()) {
    if (!lane_) {
      if (!worker.start_router()) return;
      worker.enter_lane(visitor_);
      lane_ = &visitor_;
    }
    waits_ = call != 0 && call != kThisCall && worker.mailroom_.cancels().begin_wait(*lane_, call);
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;
  ~Visit() {
    if (!lane_) return;
    const bool interrupted =
        waits_ && worker_.mailroom_.cancels().end_wait(*lane_) == Lane::State::kInterrupted;
    if (lane_ != &visitor_) return;
    worker_.leave_lane(visitor_);
    if (interrupted) worker_.tell_task(call_);
  }
  // nullptr, with an exception set: there is no thread for the router.
  [[nodiscard]] Lane* lane() const noexcept { return lane_; }

 private:
  Worker& worker_;
  const std::uint64_t call_;
  Lane visitor_;
  Lane* lane_;
  bool waits_ = false;
};

}  // namespace typhon::executor

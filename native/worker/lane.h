// Lane: a thread that serves calls, or waits for what others bring. Waiter: what it waits for when it has
// asked something.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "channel/imports.h"
#include "worker/incoming.h"
#include "worker/parker.h"

namespace typhon::worker {

// Whoever has one adds it to the mailroom and removes it, and it lives in between. A language has a Lane of
// its own when it knows more of its threads.
class Lane {
 public:
  enum class State : std::uint8_t { kRuns, kCancelled, kInterrupted };

  Parker parker;
  bool is_main = false;
  // An exception is on its way to its thread. Set and cleared as whoever sends it sees fit.
  std::atomic<bool> interrupted{false};

 private:
  friend class Cancels;
  struct Call {
    std::uint64_t id;
    State state;         // once interrupted it is left in peace: it cleans up
    bool waits = false;  // it is served elsewhere: this thread waits for something in its name
  };

  // Guarded by the mutex of Cancels:
  std::vector<Call> calls_;  // that it is serving, innermost last
  unsigned imports_ = 0;     // modules import modules
  unsigned sections_ = 0;
  int mark_ = channel::Imports::kNone;
};

// A thread that waits for the answer to what it asked; guarded by the mailroom's mutex while it is added.
struct Waiter {
  Lane* lane;
  // Its thread runs whatever comes: what is called in order to answer is in the queue of all calls, too, as
  // any thread that waits may have to run it.
  bool serves_all = false;
  std::optional<Incoming> answer = {};
  std::deque<Incoming> nested = {};
};

}  // namespace typhon::worker

// Readers: threads that wait for frames where whoever waits reads the ring, and no router does. That is how a
// language does it whose lock is held by whoever takes frames out.
//
// One of those that sleep is the *reader*: it sleeps on the worker's word, which the BEAM rings. The others
// sleep on the generation, which changes whenever there may be something for them. The reader's sleep ends;
// it makes the generation a new one, and of those who look then and find nothing the first that sleeps again
// is the reader. So nobody but the reader makes the word asleep, and a sleep needs no limit.
//
// A thread that waits: notes the generation, looks for what it wants in the mailroom, and if there is nothing
// it read()s, and sleeps if there was nothing and the generation is the same.
//
// Threads: sleep() and wake() from any; read() from one at a time.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/mutex.h"
#include "base/thread_annotations.h"
#include "channel/layout.h"
#include "os/wait.h"
#include "worker/mailroom.h"

namespace typhon::worker {

class Readers {
 public:
  Readers(Mailroom& mailroom, channel::Header& header) noexcept
      : mailroom_(mailroom), word_(header.worker_word.value) {}
  Readers(const Readers&) = delete;
  Readers& operator=(const Readers&) = delete;
  ~Readers() = default;

  [[nodiscard]] std::uint32_t generation() const noexcept {
    return generation_.load(std::memory_order_seq_cst);
  }
  // Takes out all frames that are there. False: there was none.
  bool read() noexcept TYPHON_EXCLUDES(mutex_);
  // Everybody who waits looks again.
  void wake() noexcept;

  // Until there may be something since that generation, or `unless()` holds: whoever makes that true calls
  // wake() then. `limit_of(alone)`: nanoseconds, negative: no limit; alone: nobody else sleeps. True: nothing
  // has come to the reader.
  template <class Unless, class LimitOf>
  bool sleep(std::uint32_t generation, Unless unless, LimitOf limit_of) noexcept TYPHON_EXCLUDES(mutex_) {
    bool alone = false;
    if (!begin(alone)) {
      if (!unless()) os::wait_word(generation_, generation, limit_of(false));
      end(false);
      return false;
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (mailroom_.ring_empty() && this->generation() == generation && !unless())
      os::wait_word(word_, channel::kAsleep, limit_of(alone));
    const bool rested = word_.load(std::memory_order_relaxed) == channel::kAsleep && mailroom_.ring_empty();
    end(true);
    return rested;
  }

 private:
  bool begin(bool& alone) noexcept TYPHON_EXCLUDES(mutex_);
  void end(bool reads) noexcept TYPHON_EXCLUDES(mutex_);

  Mailroom& mailroom_;
  std::atomic<std::uint32_t>& word_;
  std::atomic<std::uint32_t> generation_{0};  // a futex
  std::atomic<std::uint32_t> sleepers_{0};    // changes with the mutex
  Mutex mutex_;
  bool has_reader_ TYPHON_GUARDED_BY(mutex_) = false;
};

}  // namespace typhon::worker

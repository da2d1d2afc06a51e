// Outlet: the worker's end of the reply ring and the reply arena, whatever language the worker is for. Frames
// go out here, whole, from any thread.
//
// A frame is encoded into memory of its own first (ReplySink), and copied into the ring under the mutex.
// Nothing that holds the mutex runs code of the host language or waits for its lock, so it may be taken with
// that held.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "base/mutex.h"
#include "base/thread_annotations.h"
#include "channel/arena.h"
#include "channel/loan.h"
#include "channel/region.h"
#include "channel/ring.h"

namespace typhon::worker {

class ReplySink;
class Timings;

class Outlet {
 public:
  // How much of the arena is given back at a time: requests may come meanwhile.
  static constexpr std::size_t kTrimStep = std::size_t{64} << 20;

  // `stop`: nobody reads any more; then frames are dropped.
  Outlet(channel::Region& region, const std::atomic<bool>& stop) noexcept;
  Outlet(const Outlet&) = delete;
  Outlet& operator=(const Outlet&) = delete;
  virtual ~Outlet() = default;

  // Wakes the reader if it sleeps. `more`: further frames are about to follow, so it may be put off.
  void ring_reader(bool more) noexcept TYPHON_EXCLUDES(mutex_);
  void set_more_to_come(bool more) noexcept { more_.store(more, std::memory_order_relaxed); }
  // Whether the next statement, if it is a small one, has to wait until others have been heard.
  [[nodiscard]] bool must_wait_to_speak() noexcept TYPHON_EXCLUDES(mutex_);
  // The BEAM overwrote the ring's counters.
  [[nodiscard]] bool broken() const noexcept { return broken_.load(std::memory_order_relaxed); }

  // For an idle worker, without the host's lock: gives pages back. has_idle_pages() also takes back what was
  // released; will_have_idle_pages(): also of what the BEAM has not released yet, and will not tell of.
  bool has_idle_pages() noexcept TYPHON_EXCLUDES(mutex_);
  bool will_have_idle_pages() noexcept TYPHON_EXCLUDES(mutex_);
  bool trim(std::size_t bytes = kTrimStep) noexcept TYPHON_EXCLUDES(mutex_);

  // What lies in the arena counts as the worker's memory: `allows` says whether there may be so much of it.
  // Before anything is sent.
  void limit_memory(bool (*allows)(std::size_t bytes) noexcept) noexcept { allows_ = allows; }

  // For ReplySink.
  [[nodiscard]] std::uint64_t max_result() const noexcept { return region_.max_result(); }
  [[nodiscard]] bool has_memory(std::size_t bytes) noexcept TYPHON_EXCLUDES(mutex_);
  std::optional<channel::Segment> allocate(std::size_t bytes, std::size_t at_least) noexcept
      TYPHON_EXCLUDES(mutex_);
  bool grow(channel::Segment& segment, std::size_t used, std::size_t bytes) noexcept TYPHON_EXCLUDES(mutex_);
  void shrink(channel::Segment& segment, std::size_t used) noexcept TYPHON_EXCLUDES(mutex_);
  void discard(const channel::Segment& segment) noexcept TYPHON_EXCLUDES(mutex_);
  // Where a segment lies depends on nothing that changes.
  [[nodiscard]] std::uint8_t* data(const channel::Segment& segment) const noexcept
      TYPHON_NO_THREAD_SAFETY_ANALYSIS {
    return arena_.data(segment);
  }

 protected:
  // Completes the frame whose body is in the sink, and publishes it. `header`: kind, id and what else it
  // carries; size and flags of the body are added. `has_objects`: the body has handles. `timings`: for an
  // answer to a call, or nullptr. `loans`: the first one, or nullptr. False: nobody reads any more. What
  // wants no answer waits first until enough of what was said before has been heard.
  bool publish(ReplySink& sink, channel::FrameHeader header, bool has_objects, Timings* timings,
               channel::Loan* loans = nullptr) noexcept TYPHON_EXCLUDES(mutex_);
  // Waits on the futex `room` while it is 1, for `limit_ns` at most, and lets other threads of the host run
  // meanwhile.
  virtual void wait_for_room(std::atomic<std::uint32_t>& room, std::int64_t limit_ns) noexcept = 0;

  channel::Region& region_;
  channel::Header& header_;

 private:
  bool put_into_ring(const std::uint8_t* frame, std::size_t size) noexcept TYPHON_EXCLUDES(mutex_);
  void ring_reader_locked(bool more) noexcept TYPHON_REQUIRES(mutex_);
  bool wait_until_heard(std::uint32_t weight) noexcept TYPHON_EXCLUDES(mutex_);
  [[nodiscard]] bool may_speak_locked(std::uint32_t weight) const noexcept TYPHON_REQUIRES(mutex_);
  [[nodiscard]] bool has_memory_locked(std::size_t bytes) noexcept TYPHON_REQUIRES(mutex_);

  const std::atomic<bool>& stop_;
  bool (*allows_)(std::size_t bytes) noexcept = nullptr;

  Mutex mutex_;
  channel::RingProducer replies_ TYPHON_GUARDED_BY(mutex_);
  channel::ArenaOwner arena_ TYPHON_GUARDED_BY(mutex_);
  std::uint32_t deferred_wakes_ TYPHON_GUARDED_BY(mutex_) = 0;
  std::uint64_t spoken_ TYPHON_GUARDED_BY(mutex_) = 0;  // the weight of all statements, ever

  std::atomic<bool> more_{false};
  std::atomic<bool> broken_{false};
};

}  // namespace typhon::worker

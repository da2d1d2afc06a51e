// Outlet: the worker's end of the reply ring and the reply arena, whatever language the worker is for. Frames
// go out here, whole, from any thread.
//
// A frame is encoded into memory of its own first (ReplySink), and copied into the ring under the mutex.
// Nothing that holds the mutex runs code of the host language or waits for its lock, so it may be taken with
// that held.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>

#include "channel/arena.h"
#include "channel/region.h"
#include "channel/ring.h"

namespace typhon::worker {

class Outlet {
 public:
  // `stop`: nobody reads any more; then frames are dropped.
  Outlet(channel::Region& region, const std::atomic<bool>& stop) noexcept;
  Outlet(const Outlet&) = delete;
  Outlet& operator=(const Outlet&) = delete;
  virtual ~Outlet() = default;

  // Wakes the reader if it sleeps. `more`: further frames are about to follow, so it may be put off.
  void ring_reader(bool more) noexcept;
  void set_more_to_come(bool more) noexcept { more_.store(more, std::memory_order_relaxed); }
  // Whether the next statement, if it is a small one, has to wait until others have been heard.
  [[nodiscard]] bool must_wait_to_speak() noexcept;
  // The BEAM overwrote the ring's counters.
  [[nodiscard]] bool broken() const noexcept { return broken_.load(std::memory_order_relaxed); }

  // For an idle worker, without the host's lock: gives pages back. has_idle_pages() also takes back what was
  // released; will_have_idle_pages(): also of what the BEAM has not released yet, and will not tell of.
  bool has_idle_pages() noexcept;
  bool will_have_idle_pages() noexcept;
  bool trim(std::size_t bytes) noexcept;

  // What lies in the arena counts as the worker's memory: `allows` says whether there may be so much of it.
  // Before anything is sent.
  void limit_memory(bool (*allows)(std::size_t bytes) noexcept) noexcept { allows_ = allows; }

  // For ReplySink.
  [[nodiscard]] std::uint64_t max_result() const noexcept { return region_.max_result(); }
  [[nodiscard]] bool has_memory(std::size_t bytes) noexcept;
  std::optional<channel::Segment> allocate(std::size_t bytes, std::size_t at_least) noexcept;
  bool grow(channel::Segment& segment, std::size_t used, std::size_t bytes) noexcept;
  void shrink(channel::Segment& segment, std::size_t used) noexcept;
  void discard(const channel::Segment& segment) noexcept;
  [[nodiscard]] std::uint8_t* data(const channel::Segment& segment) const noexcept {
    return arena_.data(segment);
  }

 protected:
  // False: nobody reads any more. What wants no answer waits first until enough of what was said before has
  // been heard.
  bool publish(const std::uint8_t* frame, std::size_t size) noexcept;
  // Waits on the futex `room` while it is 1, for `limit_ns` at most, and lets other threads of the host run
  // meanwhile.
  virtual void wait_for_room(std::atomic<std::uint32_t>& room, std::int64_t limit_ns) noexcept = 0;

  channel::Region& region_;
  channel::Header& header_;

 private:
  void ring_reader_locked(bool more) noexcept;
  bool wait_until_heard(std::uint32_t weight) noexcept;
  bool may_speak_locked(std::uint32_t weight) const noexcept;
  [[nodiscard]] bool has_memory_locked(std::size_t bytes) noexcept;

  const std::atomic<bool>& stop_;
  bool (*allows_)(std::size_t bytes) noexcept = nullptr;

  std::mutex mutex_;
  // Guarded by mutex_:
  channel::RingProducer replies_;
  channel::ArenaOwner arena_;
  std::uint32_t deferred_wakes_ = 0;
  std::uint64_t spoken_ = 0;  // the weight of all statements, ever

  std::atomic<bool> more_{false};
  std::atomic<bool> broken_{false};
};

}  // namespace typhon::worker

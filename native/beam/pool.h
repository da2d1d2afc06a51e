// Pool: the places of a pool's workers, from which a call picks the least loaded one without asking any
// process.
//
// pick() runs on every call: it takes a shared lock that is a single atomic increment, so that put(), which
// is rare, can wait out the few nanoseconds in which a place's channel is read but not yet kept. Any thread.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstddef>
#include <limits>
#include <memory>
#include <vector>

#include "beam/worker_channel.h"

namespace typhon::beam {

class Pool {
 public:
  explicit Pool(std::size_t size) : size_(size), places_(std::make_unique<Place[]>(size)) {}
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    for (std::size_t i = 0; i < size_; ++i) {
      if (WorkerChannel* channel = places_[i].channel.load()) enif_release_resource(channel);
    }
    for (WorkerChannel* channel : retired_) enif_release_resource(channel);
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  // Keeps a reference to `channel` (nullptr empties the place) and drops the former one's.
  void put(std::size_t index, WorkerChannel* channel) noexcept {
    if (channel) enif_keep_resource(channel);
    while (writer_.exchange(true, std::memory_order_seq_cst)) ::sched_yield();
    while (readers_.load(std::memory_order_seq_cst) != 0) ::sched_yield();
    WorkerChannel* former = places_[index].channel.exchange(channel, std::memory_order_seq_cst);
    // Callers that poll find their channel by its place: keep it in reach for them.
    if (former && former->retire()) {
      retired_.push_back(former);
      former = nullptr;
    }
    std::erase_if(retired_, [](WorkerChannel* retired) {
      if (retired->polling() != 0) return false;
      enif_release_resource(retired);
      return true;
    });
    writer_.store(false, std::memory_order_seq_cst);
    if (former) enif_release_resource(former);
  }

  // The least loaded open channel, the first of equals (a warm worker answers faster than a cold one); or
  // that of one place. A reference is kept for the caller. nullptr when there is none.
  [[nodiscard]] WorkerChannel* pick(std::size_t pinned_plus_one, std::size_t& place) noexcept {
    enter();
    WorkerChannel* best = nullptr;
    if (pinned_plus_one != 0) {
      place = pinned_plus_one - 1;
      if (place < size_) best = places_[place].channel.load(std::memory_order_acquire);
      if (best && best->closed()) best = nullptr;
    } else {
      std::uint32_t least = std::numeric_limits<std::uint32_t>::max();
      for (std::size_t i = 0; i < size_; ++i) {
        WorkerChannel* channel = places_[i].channel.load(std::memory_order_acquire);
        if (!channel || channel->closed()) continue;
        const std::uint32_t load = channel->in_flight();
        if (load < least) {
          least = load;
          best = channel;
          place = i;
          if (load == 0) break;
        }
      }
    }
    if (best) enif_keep_resource(best);
    readers_.fetch_sub(1, std::memory_order_release);
    return best;
  }

  // The channel with this serial number if it still has its place; a reference is kept for the caller.
  [[nodiscard]] WorkerChannel* find(std::size_t place, std::uint64_t serial) noexcept {
    if (place >= size_) return nullptr;
    enter();
    WorkerChannel* channel = places_[place].channel.load(std::memory_order_acquire);
    if (channel && channel->serial() != serial) channel = nullptr;
    for (WorkerChannel* retired : retired_) {
      if (retired->serial() == serial) channel = retired;
    }
    if (channel) enif_keep_resource(channel);
    readers_.fetch_sub(1, std::memory_order_release);
    return channel;
  }

  static constexpr std::size_t kNoPlace = std::numeric_limits<std::size_t>::max();
  // kNoPlace for a channel of another pool.
  [[nodiscard]] std::size_t place_of(const WorkerChannel* channel) noexcept {
    for (std::size_t i = 0; i < size_; ++i) {
      if (places_[i].channel.load(std::memory_order_acquire) == channel) return i;
    }
    return kNoPlace;
  }

 private:
  struct Place {
    std::atomic<WorkerChannel*> channel{nullptr};
  };

  void enter() noexcept {
    for (;;) {
      readers_.fetch_add(1, std::memory_order_seq_cst);
      if (!writer_.load(std::memory_order_seq_cst)) [[likely]]
        return;
      readers_.fetch_sub(1, std::memory_order_release);
      while (writer_.load(std::memory_order_relaxed)) ::sched_yield();
    }
  }

  const std::size_t size_;
  const std::unique_ptr<Place[]> places_;
  std::vector<WorkerChannel*> retired_;  // written by put(), which waits for the readers
  std::atomic<std::uint32_t> readers_{0};
  std::atomic<bool> writer_{false};
};

}  // namespace typhon::beam

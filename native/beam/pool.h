// Pool: the places of a pool's workers, from which a call picks the least loaded one without asking any
// process.
//
// pick() runs on every call: it takes a shared lock that is a single atomic increment, so that put(), which
// is rare, can wait out the few nanoseconds in which a place's channel is read but not yet kept. Any thread.
//
// Back-pressure. Calls wait in the rings of open places, and, while no place is open, in their callers, who
// hold a ticket then (`waiting_`). A call that finds a worker with something to spare is never counted.
// Else it is refused when all that runs and waits exceeds what runs at once and `max_queue`. Callers on
// several schedulers at the same moment may each find the last free room: at most one more for each.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <limits>
#include <memory>
#include <vector>

#include "beam/worker_channel.h"

namespace typhon::beam {

class Pool {
 public:
  static constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

  Pool(std::size_t size, std::uint32_t concurrency, std::uint64_t max_queue)
      : size_(size),
        concurrency_(concurrency),
        max_queue_(max_queue),
        places_(std::make_unique<Place[]>(size)) {}
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    for (std::size_t i = 0; i < size_; ++i) {
      if (WorkerChannel* channel = places_[i].channel.load()) enif_release_resource(channel);
    }
    for (WorkerChannel* channel : retired_) enif_release_resource(channel);
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::uint32_t concurrency() const noexcept { return concurrency_; }
  [[nodiscard]] std::uint64_t max_queue() const noexcept { return max_queue_; }
  [[nodiscard]] std::uint64_t waiting() const noexcept { return waiting_.load(std::memory_order_relaxed); }

  // The open places that anybody may use, as a call saw them that found none of them with room to run it.
  struct Pressure {
    bool idle = false;  // the picked one had nothing to do
    bool none_free = false;
    std::uint64_t workers = 0;
    std::uint64_t calls = 0;
  };

  // Keeps a reference to `channel` (nullptr empties the place) and drops the former one's.
  void put(std::size_t index, WorkerChannel* channel) noexcept {
    if (channel) {
      enif_keep_resource(channel);
      channel->restore();
    }
    while (writer_.exchange(true, std::memory_order_seq_cst)) ::sched_yield();
    while (readers_.load(std::memory_order_seq_cst) != 0) ::sched_yield();
    if (channel && places_[index].reserved.load()) channel->reserve(true);
    WorkerChannel* former = places_[index].channel.exchange(channel, std::memory_order_seq_cst);
    // Callers that poll, or have calls in flight that they may cancel, find their channel by its place: keep
    // it in reach for them.
    if (former == channel) {
      if (former) enif_release_resource(former);
    } else if (former) {
      former->retire();
      retired_.push_back(former);
    }
    drop_retired(channel);
    writer_.store(false, std::memory_order_seq_cst);
  }

  // Lets go of channels that lost their place and are closed, and that no caller polls any more, nor could
  // give up a call on: that has been answered.
  void sweep() noexcept {
    while (writer_.exchange(true, std::memory_order_seq_cst)) ::sched_yield();
    while (readers_.load(std::memory_order_seq_cst) != 0) ::sched_yield();
    drop_retired(nullptr);
    writer_.store(false, std::memory_order_seq_cst);
  }

  // Keeps a place for one caller, or gives it back to all: calls that do not name its channel pass it by. On
  // return no further one of them can reach the worker; those before stay in its queue.
  void reserve(std::size_t index, bool reserved) noexcept {
    enter();
    WorkerChannel* channel = places_[index].channel.load(std::memory_order_acquire);
    if (reserved) places_[index].reserved.store(true);
    if (channel) channel->reserve(reserved);
    if (!reserved) places_[index].reserved.store(false);
    leave();
  }

  // --- moving (moving.h) ---
  // A call waits behind others. True for the one who has to tell the Mover.
  [[nodiscard]] bool note_queue() noexcept {
    return !queued_.load(std::memory_order_seq_cst) && !queued_.exchange(true, std::memory_order_seq_cst);
  }
  [[nodiscard]] bool queued() const noexcept { return queued_.load(std::memory_order_seq_cst); }
  // The Mover's thread: gives calls that wait behind a long one to workers that are free.
  void move_calls(std::uint64_t now) noexcept;

  // Whether place_for() gives it out. All are active at first.
  void activate(std::size_t index, bool active) noexcept { places_[index].inactive.store(!active); }

  // The least loaded open channel that nobody has reserved, the first of equals (a warm worker answers faster
  // than a cold one); or that of one place. A reference is kept for the caller. nullptr when there is none.
  // One that stands still comes behind those that do not: what it runs may take long.
  [[nodiscard]] WorkerChannel* pick(std::size_t pinned_plus_one, std::uint64_t now, std::size_t& place,
                                    Pressure& pressure) noexcept {
    enter();
    WorkerChannel* best = nullptr;
    if (pinned_plus_one != 0) {
      place = pinned_plus_one - 1;
      if (place < size_) best = open_channel(place);
      if (best && best->load() >= concurrency_) {
        pressure = measure();
        pressure.none_free = true;  // where it wants to go
      }
    } else {
      std::uint32_t least = std::numeric_limits<std::uint32_t>::max();
      std::uint32_t lightest = least;
      std::uint64_t workers = 0;
      std::uint64_t calls = 0;
      for (std::size_t i = 0; i < size_; ++i) {
        WorkerChannel* channel = open_channel(i);
        if (!channel) continue;
        const auto [load, weight] = channel->occupied();
        least = std::min(least, weight);
        const std::uint32_t counts =
            weight < concurrency_ || !channel->stands_still(now) ? weight : weight + kStillWeighs;
        if (counts < lightest) {
          lightest = counts;
          best = channel;
          place = i;
          if (weight == 0) break;
        }
        ++workers;
        calls += load;
      }
      pressure.idle = least == 0 && size_ > 1;
      if (least >= concurrency_) pressure = {false, true, workers, calls};
    }
    if (best) enif_keep_resource(best);
    leave();
    return best;
  }

  // As a call sees it that has to go to this channel.
  [[nodiscard]] Pressure pressure_at(const WorkerChannel& channel) noexcept {
    if (channel.load() < concurrency_) return {};
    enter();
    Pressure pressure = measure();
    leave();
    pressure.none_free = true;
    return pressure;
  }

  // For a call that found none free and is about to queue.
  [[nodiscard]] bool refuses(const Pressure& pressure) const noexcept {
    return max_queue_ != kUnlimited &&
           pressure.calls + waiting() >= pressure.workers * concurrency_ + max_queue_;
  }

  // A caller waits for a worker. False: too many do. `always`: its call was accepted before.
  [[nodiscard]] bool wait(bool always, Pressure& pressure) noexcept {
    enter();
    pressure = measure();
    leave();
    const std::uint64_t waiting = waiting_.fetch_add(1) + 1;
    if (always || !pressure.none_free || max_queue_ == kUnlimited ||
        pressure.calls + waiting <= pressure.workers * concurrency_ + max_queue_) {
      return true;
    }
    stop_waiting();
    return false;
  }
  void stop_waiting() noexcept { waiting_.fetch_sub(1); }

  // One pid is told, once, of the next call that finds no worker free.
  void watch(const ErlNifPid& pid) noexcept {
    while (watch_.exchange(kWatchLocked) == kWatchLocked) ::sched_yield();
    watcher_ = pid;
    watch_.store(kWatchArmed);
  }
  // True for one caller: it tells `watcher`.
  [[nodiscard]] bool take_watch(ErlNifPid& watcher) noexcept {
    if (watch_.load(std::memory_order_relaxed) != kWatchArmed) return false;
    std::uint32_t armed = kWatchArmed;
    if (!watch_.compare_exchange_strong(armed, kWatchLocked)) return false;
    watcher = watcher_;
    watch_.store(kWatchOff);
    return true;
  }

  // The place of a key, by its hash: rendezvous hashing, so that few keys move when the number of active
  // places changes. Whether a worker is there now plays no part.
  [[nodiscard]] std::size_t place_for(std::uint64_t hash) const noexcept {
    std::size_t best = 0;
    std::uint64_t highest = 0;
    bool found = false;
    for (std::size_t i = 0; i < size_; ++i) {
      if (places_[i].inactive.load(std::memory_order_relaxed)) continue;
      const std::uint64_t weight = mix(hash ^ mix(i + 1));
      if (!found || weight > highest) {
        best = i;
        highest = weight;
        found = true;
      }
    }
    return best;
  }

  // visit(index, channel, reserved) for each place that has a channel. It must not wait.
  template <class Visit>
  void each(Visit visit) noexcept {
    enter();
    for (std::size_t i = 0; i < size_; ++i) {
      if (WorkerChannel* channel = places_[i].channel.load(std::memory_order_acquire))
        visit(i, *channel, places_[i].reserved.load());
    }
    leave();
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
    leave();
    return channel;
  }

  // Whether it has a place here, or had one.
  [[nodiscard]] bool has(const WorkerChannel* channel) noexcept {
    if (place_of(channel) != kNoPlace) return true;
    enter();
    const bool found = std::find(retired_.begin(), retired_.end(), channel) != retired_.end();
    leave();
    return found || channel->closed();
  }

  static constexpr std::size_t kNoPlace = std::numeric_limits<std::size_t>::max();
  // kNoPlace for a channel of another pool, and for one that has lost its place.
  [[nodiscard]] std::size_t place_of(const WorkerChannel* channel) noexcept {
    for (std::size_t i = 0; i < size_; ++i) {
      if (places_[i].channel.load(std::memory_order_acquire) == channel) return i;
    }
    return kNoPlace;
  }

 private:
  // As so many calls more.
  static constexpr std::uint32_t kStillWeighs = 3;

  // What the Mover sees of a channel that has, or had, a place; a reference is kept.
  struct Seen {
    WorkerChannel* channel;
    bool open;               // calls may come
    bool still;              // some wait, and none has been answered for a while
    std::size_t room;        // for so many
    std::uint64_t patience;  // how long one has to wait there; 0: it is free
  };
  [[nodiscard]] std::vector<Seen> see_all() noexcept;
  [[nodiscard]] std::size_t move_between(std::vector<Seen>& seen, std::uint64_t now) noexcept;
  void measure_room(Seen& seen, std::uint64_t now) const noexcept;

  struct Place {
    std::atomic<WorkerChannel*> channel{nullptr};
    std::atomic<bool> reserved{false};
    std::atomic<bool> inactive{false};
  };
  enum : std::uint32_t { kWatchOff, kWatchArmed, kWatchLocked };

  // --- between enter() and leave() ---
  [[nodiscard]] WorkerChannel* open_channel(std::size_t index) const noexcept {
    const Place& place = places_[index];
    WorkerChannel* channel = place.channel.load(std::memory_order_acquire);
    if (!channel || place.reserved.load(std::memory_order_relaxed)) return nullptr;
    // A raw one has nobody to stand in for it, and says why it is closed.
    if (channel->closed() && !channel->raw()) return nullptr;
    return channel;
  }
  [[nodiscard]] Pressure measure() const noexcept {
    Pressure pressure{false, true, 0, 0};
    for (std::size_t i = 0; i < size_; ++i) {
      const WorkerChannel* channel = open_channel(i);
      if (!channel) continue;
      const std::uint32_t load = channel->load();
      if (load < concurrency_) pressure.none_free = false;
      ++pressure.workers;
      pressure.calls += load;
    }
    return pressure;
  }

  // The finalizer of SplitMix64.
  static constexpr std::uint64_t mix(std::uint64_t value) noexcept {
    value += 0x9e37'79b9'7f4a'7c15U;
    value = (value ^ (value >> 30)) * 0xbf58'476d'1ce4'e5b9U;
    value = (value ^ (value >> 27)) * 0x94d0'49bb'1331'11ebU;
    return value ^ (value >> 31);
  }

  // `placed` has a place again.
  void drop_retired(const WorkerChannel* placed) noexcept {
    std::erase_if(retired_, [placed](WorkerChannel* retired) {
      if (retired != placed && (retired->polling() != 0 || !retired->settled())) return false;
      enif_release_resource(retired);
      return true;
    });
  }

  void enter() noexcept {
    for (;;) {
      readers_.fetch_add(1, std::memory_order_seq_cst);
      if (!writer_.load(std::memory_order_seq_cst)) [[likely]]
        return;
      readers_.fetch_sub(1, std::memory_order_release);
      while (writer_.load(std::memory_order_relaxed)) ::sched_yield();
    }
  }

  void leave() noexcept { readers_.fetch_sub(1, std::memory_order_release); }

  const std::size_t size_;
  const std::uint32_t concurrency_;
  const std::uint64_t max_queue_;
  const std::unique_ptr<Place[]> places_;
  std::vector<WorkerChannel*> retired_;  // written by put(), which waits for the readers
  std::atomic<std::uint32_t> readers_{0};
  std::atomic<bool> writer_{false};
  std::atomic<std::uint64_t> waiting_{0};
  std::atomic<std::uint32_t> watch_{kWatchOff};
  ErlNifPid watcher_{};  // by whoever has locked watch_
  std::atomic<bool> queued_{false};
  std::size_t on_their_way_ = 0;  // of the Mover's thread: calls that it moved at its last look
};

// A caller that waits for a worker is counted by this resource, which its process holds: it goes with the
// process, however that ends.
class Ticket {
 public:
  Ticket(Pool** holder, bool accepted) noexcept : holder_(holder), given_back_(!accepted) {
    enif_keep_resource(holder_);
  }
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;
  ~Ticket() {
    give_back();
    enif_release_resource(holder_);
  }
  // Idempotent.
  void give_back() noexcept {
    if (!given_back_.exchange(true)) (*holder_)->stop_waiting();
  }

 private:
  Pool** holder_;  // the resource of the pool, kept
  std::atomic<bool> given_back_;
};

}  // namespace typhon::beam

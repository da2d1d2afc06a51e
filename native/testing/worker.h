// For tests of what waits in a worker: a BEAM that writes into a real region, and a lock that stands for that
// of a language.
#pragma once

#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "channel/doorbell.h"
#include "channel/region.h"
#include "testing/channel.h"

namespace typhon::worker::testing {

using channel::FrameHeader;
using channel::Kind;

// Of a test that has failed; nothing here is timed.
inline constexpr auto kLimit = std::chrono::minutes(4);

template <class Condition>
bool eventually(Condition condition) {
  const auto limit = std::chrono::steady_clock::now() + kLimit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

// Held by a thread that would run code of the language.
using Gil = std::mutex;
class WithoutGil {
 public:
  explicit WithoutGil(Gil& gil) : gil_(gil) { gil_.unlock(); }
  ~WithoutGil() { gil_.lock(); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  Gil& gil_;
};

// {Module, Function, …}, as far as the mailroom looks
inline std::string body_of(std::string_view function, std::uint64_t id) {
  std::string body("\x83h\4m\0\0\0\4testm\0\0\0", 15);
  body.push_back(static_cast<char>(function.size()));
  body.append(function);
  body.append(id % 97, static_cast<char>(id));
  return body;
}

inline std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// The BEAM's end: it writes from several threads, one after another, and wakes the worker.
class Beam {
 public:
  explicit Beam(channel::Region& region)
      : header_(region.header()), requests_(channel::testing::request_producer(region)) {}

  void send(Kind kind, std::uint64_t id, std::string_view body, std::uint64_t asked_by = 0) {
    const std::size_t size = sizeof(FrameHeader) + body.size();
    std::unique_lock lock(mutex_);
    std::uint8_t* room = nullptr;
    while ((room = requests_.reserve(channel::align8(size))) == nullptr) {
      lock.unlock();
      ring();
      ::sched_yield();
      lock.lock();
    }
    FrameHeader header{};
    header.size = static_cast<std::uint32_t>(size);
    header.kind = kind;
    header.id = id;
    header.times[2] = asked_by;
    std::memcpy(room, &header, sizeof header);
    std::memcpy(room + sizeof header, body.data(), body.size());
    requests_.commit(size);
    ring();
  }

 private:
  void ring() {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    auto& word = header_.worker_word.value;
    if (word.load(std::memory_order_relaxed) == channel::kAsleep) channel::wake_from(word, channel::kAsleep);
  }

  channel::Header& header_;
  std::mutex mutex_;
  channel::RingProducer requests_;
};

// What has become of each call: exactly one end for each.
class Ledger {
 public:
  explicit Ledger(std::uint64_t calls) : ends_(calls + 1) {}
  void end(std::uint64_t id) {
    if (id == 0 || id >= ends_.size() || ends_[id].fetch_add(1) != 0) wrong_.fetch_add(1);
    ended_.fetch_add(1);
  }
  [[nodiscard]] std::uint64_t ended() const { return ended_.load(); }
  [[nodiscard]] std::uint64_t wrong() const { return wrong_.load(); }

 private:
  std::vector<std::atomic<int>> ends_;
  std::atomic<std::uint64_t> ended_{0};
  std::atomic<std::uint64_t> wrong_{0};
};

// A queue of what the BEAM is asked to do, and the thread that does it.
class Errands {
 public:
  Errands() : thread_([this] { run(); }) {}
  ~Errands() { finish(); }
  Errands(const Errands&) = delete;
  Errands& operator=(const Errands&) = delete;
  void add(std::function<void()> errand) {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(errand));
  }
  void finish() {
    ended_.store(true);
    if (thread_.joinable()) thread_.join();
  }

 private:
  void run() {
    for (;;) {
      const bool ended = ended_.load();
      std::deque<std::function<void()>> taken;
      {
        const std::lock_guard lock(mutex_);
        taken.swap(queue_);
      }
      for (const auto& errand : taken) errand();
      if (taken.empty() && ended) return;
      if (taken.empty()) ::sched_yield();
    }
  }

  std::mutex mutex_;
  std::deque<std::function<void()>> queue_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

}  // namespace typhon::worker::testing

// Router: a native thread that reads the ring when several threads of the host language take part. It takes
// no lock of that language, so an answer reaches its thread whatever the others do.
//
// Once it has been started the ring is its own for good, and so is the worker's word, but for lanes that spin
// in its stead (Mailroom::spin).
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "channel/layout.h"
#include "worker/thread_end.h"

namespace typhon::worker {

class Mailroom;

class Router {
 public:
  Router(Mailroom& mailroom, channel::Header& header) noexcept : mailroom_(mailroom), header_(header) {}
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;
  ~Router() = default;

  // Any thread: 0 or an errno. `direct`: a lock that the thread which reads directly holds from its look at
  // is_on() until it has taken a frame; in a language with a lock of its own that is held by both, nothing.
  template <class Direct>
  int start(const std::atomic<bool>& stop, Direct& direct) noexcept {
    {
      const std::lock_guard lock(direct);
      if (is_on()) return 0;
      stop_ = &stop;
      on_.store(true, std::memory_order_seq_cst);
    }
    return take_over();
  }
  // When it has been told to stop. False: it runs still.
  [[nodiscard]] bool finish(std::int64_t limit_ns) noexcept;
  [[nodiscard]] bool is_on() const noexcept { return on_.load(std::memory_order_seq_cst); }
  // The thread that reads directly is about to sleep on the worker's word (said under `direct`, where it has
  // looked at is_on()), or has slept. Whoever starts the router waits until it has: so it takes no lock of
  // the host's in between.
  void set_reader_sleeps(bool sleeps) noexcept { reader_sleeps_.store(sleeps, std::memory_order_seq_cst); }

 private:
  int take_over() noexcept;
  static void* thread_main(void* self) noexcept;
  void run() noexcept;
  [[nodiscard]] bool ends() const noexcept;

  Mailroom& mailroom_;
  channel::Header& header_;
  const std::atomic<bool>* stop_ = nullptr;
  std::atomic<bool> on_{false};
  std::atomic<bool> reader_sleeps_{false};
  ThreadEnd end_;
};

}  // namespace typhon::worker

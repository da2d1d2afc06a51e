// Pictures: what an object shows of itself to whoever holds its handle, its repr(), bounded in length and in
// time. That is code of the user's, and runs while a reply is being written: typhon._picture says what it may
// be. The LifeWatch interrupts what takes too long, as it does with calls; what is raised is dropped.
//
// One thread at a time has its pictures looked after. Another one meanwhile does without them.
//
// Threads: with the GIL; without one, what they share is atomic, or under the worker's `interrupting_`.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "executor/lane.h"
#include "python/codec.h"
#include "python/cpython.h"
#include "python/gil.h"
#include "python/ref.h"
#include "worker/life_watch.h"

namespace typhon::executor {

class Worker;

class Pictures {
 public:
  // For all objects of one reply together. On a busy machine a thread waits some milliseconds for its core.
  static constexpr std::int64_t kLimitNs = 50'000'000;
  // Between two attempts to interrupt one.
  static constexpr std::int64_t kAgainNs = 10'000'000;

  Pictures(worker::LifeWatch& life, python::GilSubstitute& interrupting) noexcept
      : life_(life), interrupting_(interrupting) {}
  Pictures(const Pictures&) = delete;
  Pictures& operator=(const Pictures&) = delete;
  ~Pictures() = default;

  // From now on this thread is interrupted when the limit is over. False: another one is looked after.
  // `lane`: nullptr where it has none.
  bool begin(Lane* lane, std::int64_t limit_ns) noexcept;
  // Whether it was interrupted.
  bool end(python::ModuleState&) noexcept;

  // On the LifeWatch's thread, when the alarm has gone off. Whether a picture is late: it is to be
  // interrupted.
  bool is_late() noexcept;
  // With the GIL, or without one. Sends the exception.
  void interrupt(PyObject* cancelled) noexcept;
  // Whether the time of this thread's picture is over. Of one that sleeps, or whose signal handler runs.
  [[nodiscard]] bool is_late_here() noexcept;

 private:
  worker::LifeWatch& life_;
  python::GilSubstitute& interrupting_;
  std::atomic<unsigned long> thread_{0};  // as in threading.get_ident(); 0: none
  std::atomic<std::uint64_t> until_{0};   // of the picture that is looked after; CLOCK_MONOTONIC ns
  std::atomic<bool> late_{false};
  // An alarm is set. It is left to go off when a picture ends in time: the next one may make use of it.
  std::atomic<bool> armed_{false};
  // Guarded by interrupting_:
  Lane* lane_ = nullptr;
  bool sent_ = false;
};

// The pictures of one reply.
class Painting final : public python::Painter {
 public:
  explicit Painting(Worker& worker) noexcept : worker_(worker) {}
  bool paint(PyObject* object, std::string& text) noexcept override;

 private:
  Worker& worker_;
  std::uint64_t until_ = 0;
  bool over_ = false;
};

}  // namespace typhon::executor

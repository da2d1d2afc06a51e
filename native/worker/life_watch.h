// LifeWatch: the thread that ties a worker's life to the BEAM's.
//
// It polls two descriptors: the control pipe (the worker's former stdin) and a descriptor of the BEAM's
// process. When either says that the BEAM is gone or wants no more of this worker, it asks the main thread to
// end. The process group, and with it what Python started, is killed as the last thing that the process does,
// or by this thread when kFarewellMs are over. It never takes the GIL, so a C loop that never lets go of it
// cannot keep the worker alive. Over the same pipe come requests to interrupt a call: "C<id>\n".
//
// In the BEAM itself (embedded) the process is not the worker's to end: the call is interrupted, the worker
// is asked to end, and that is all. There the thread ends, too (finish()). In a sub-interpreter, where no
// signal reaches Python, it takes the GIL for an interrupt.
//
// Owned by the Worker. In a process of its own the thread is never joined. The atomics are its only shared
// state.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <cstdint>

#include "base/result.h"
#include "channel/layout.h"
#include "os/descriptor.h"
#include "worker/thread_end.h"

namespace typhon::worker {

// Wakes the main thread out of a blocking system call; its Python handler decides whether to raise.
// Interpreters that share a process have one each.
inline int default_cancel_signal() noexcept { return SIGRTMIN + 11; }

// What the LifeWatch asks of the worker, from its own thread and without the GIL.
class Interruptible {
 public:
  // True when the main thread has to be signalled.
  virtual bool interrupt(std::uint64_t id) noexcept = 0;
  virtual void interrupt_all() noexcept = 0;
  // True while a thread that has been told so has not been interrupted: it may not have been fit for it.
  virtual bool interrupt_again() noexcept = 0;
  // Where the main thread is not to be signalled: interrupts whatever has to be. Waits for the GIL.
  virtual void interrupt_now() noexcept = 0;
  // The alarm has gone off. True when the main thread has to be signalled. May wait for the GIL.
  virtual bool alarm() noexcept { return false; }

 protected:
  ~Interruptible() = default;
};

class LifeWatch {
 public:
  // How long the main thread has for `finally` blocks, atexit handlers and flushing once the BEAM has let go.
  static constexpr int kFarewellMs = 300;
  // Between two attempts to interrupt a call.
  static constexpr int kAgainMs = 10;

  // `beam_pid`: 0 in the BEAM itself. `signal`: for the main thread; 0: none, it is interrupted from here.
  LifeWatch(os::UniqueFd control, int beam_pid, int signal, channel::Header& header,
            Interruptible& worker) noexcept
      : control_(std::move(control)),
        beam_pid_(beam_pid),
        signal_(signal),
        header_(header),
        worker_(worker),
        main_thread_(::pthread_self()) {}
  ~LifeWatch() = default;
  LifeWatch(const LifeWatch&) = delete;
  LifeWatch& operator=(const LifeWatch&) = delete;

  // From the main thread, once.
  [[nodiscard]] Status start() noexcept;

  // Of a process of its own: ends it without the language's own end, but with what it has started.
  [[noreturn]] static void leave(int code) noexcept;

  // Embedded: the thread ends. False when it has not within so long; then nothing that it uses may go away.
  [[nodiscard]] bool finish(std::int64_t limit_ns) noexcept;

  // worker.alarm() is called when so much time has passed, once. Any thread. False: the system had no timer.
  bool set_alarm(std::int64_t in_ns) noexcept;

  [[nodiscard]] bool must_stop() const noexcept { return stop_.load(std::memory_order_acquire); }
  // The BEAM is gone or wants no more of this worker, and may have said so in the channel only.
  [[nodiscard]] bool let_go() const noexcept {
    return must_stop() || header_.closing.value.load(std::memory_order_acquire) != 0;
  }
  [[nodiscard]] const std::atomic<bool>& stop_flag() const noexcept { return stop_; }

 private:
  static void* thread_main(void* self) noexcept;
  void watch() noexcept;
  void read_commands() noexcept;
  void obey(const char* line, std::size_t length) noexcept;
  void take_alarm() noexcept;
  void say_farewell() noexcept;
  [[noreturn]] static void end_process() noexcept;
  void interrupt_main_thread() noexcept;
  void interrupt(std::uint64_t id) noexcept;

  os::UniqueFd control_;
  os::UniqueFd timer_;  // of the alarm
  os::UniqueFd beam_;   // the process; embedded: a wake-up, by which finish() ends the thread
  const int beam_pid_;
  const int signal_;
  channel::Header& header_;
  Interruptible& worker_;
  const pthread_t main_thread_;
  std::atomic<bool> stop_{false};
  ThreadEnd end_;
  char line_[64] = {};
  std::size_t line_length_ = 0;
  bool control_open_ = true;
  bool again_ = false;  // an interrupt is on its way
};

}  // namespace typhon::worker

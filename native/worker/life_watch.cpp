#include "worker/life_watch.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "channel/doorbell.h"
#include "os/clock.h"
#include "os/process.h"
#include "os/thread.h"
#include "os/wait.h"
#include "os/wake_up.h"
#include "worker/forked.h"

namespace typhon::worker {
namespace {

// What this worker started goes with it, when it leads a group of its own (a Port's program does). So does
// it.
void kill_own_group() noexcept {
  if (::getpgrp() == ::getpid()) ::kill(0, SIGKILL);
}

// Of the process, like its end.
constinit std::atomic<const LifeWatch*> of_process{nullptr};

// After the language's own end: the main thread was in time, and nobody else may be left to look after its
// children. A child that was forked may come here, too.
void leave_nobody_behind() noexcept {
  const LifeWatch* const life = of_process.load(std::memory_order_acquire);
  if (!life || in_forked_child() || !life->let_go()) return;
  static_cast<void>(std::fflush(nullptr));
  kill_own_group();
}

}  // namespace

Status LifeWatch::start() noexcept {
  // Where processes have no descriptors (Linux before 5.3) the end of the control pipe says the same, as only
  // the BEAM holds its other end.
  if (beam_pid_ != 0) {
    if (Status watched = watch_forks(); !watched.ok()) return watched;
    of_process.store(this, std::memory_order_release);
    if (std::atexit(leave_nobody_behind) != 0) return Error{Code::kSystem, 0, "atexit: no memory"};
    beam_ = os::open_process(beam_pid_);
    if (!beam_.valid() && errno == ESRCH) return Error{Code::kClosed, 0, "the BEAM has ended"};
  } else {
    beam_ = os::make_wake_up();
  }

  timer_ = os::make_timer();
  const int failed = os::start_thread(&LifeWatch::thread_main, this, std::size_t{128} * 1024);
  if (failed != 0) return Error{Code::kSystem, 0, std::string("pthread_create: ") + std::strerror(failed)};
  return Unit{};
}

void LifeWatch::leave(int code) noexcept {
  static_cast<void>(std::fflush(nullptr));
  leave_nobody_behind();
  ::_exit(code);
}

void* LifeWatch::thread_main(void* self) noexcept {
  os::name_this_thread("typhon-life");
  auto* life = static_cast<LifeWatch*>(self);
  life->watch();
  if (life->beam_pid_ != 0) end_process();
  life->end_.tell();
  return nullptr;
}

bool LifeWatch::finish(std::int64_t limit_ns) noexcept {
  return end_.wait(limit_ns, [&] { os::set_wake_up(beam_.get()); });
}

bool LifeWatch::set_alarm(std::int64_t in_ns) noexcept { return os::set_timer(timer_.get(), in_ns); }

void LifeWatch::take_alarm() noexcept {
  os::clear_wake_up(timer_.get());
  if (worker_.alarm() && signal_ != 0) ::pthread_kill(main_thread_, signal_);
}

void LifeWatch::interrupt_main_thread() noexcept {
  if (signal_ != 0) {
    ::pthread_kill(main_thread_, signal_);
  } else {
    worker_.interrupt_now();
  }
}

void LifeWatch::watch() noexcept {
  for (;;) {
    // A descriptor that is not there is negative, and passed over.
    pollfd events[3] = {{control_.get(), POLLIN, 0}, {beam_.get(), POLLIN, 0}, {timer_.get(), POLLIN, 0}};
    if (again_) again_ = worker_.interrupt_again();
    if (again_) interrupt_main_thread();
    if (::poll(events, 3, again_ ? kAgainMs : -1) < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      break;
    }
    if (events[1].revents != 0) break;
    if (events[2].revents != 0) take_alarm();
    if (events[0].revents != 0) read_commands();
    if (!control_open_) break;
  }
  say_farewell();
}

void LifeWatch::read_commands() noexcept {
  char bytes[256];
  const ssize_t count = ::read(control_.get(), bytes, sizeof bytes);
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (count <= 0) {
    control_open_ = false;
    return;
  }
  for (ssize_t i = 0; i < count; ++i) {
    if (bytes[i] == '\n') {
      obey(line_, line_length_);
      line_length_ = 0;
    } else if (line_length_ < sizeof line_) {
      line_[line_length_++] = bytes[i];
    }
  }
}

void LifeWatch::obey(const char* line, std::size_t length) noexcept {
  if (length < 2 || line[0] != 'C') return;
  std::uint64_t id = 0;
  const auto parsed = std::from_chars(line + 1, line + length, id);
  if (parsed.ec == std::errc{} && parsed.ptr == line + length) interrupt(id);
}

void LifeWatch::interrupt(std::uint64_t id) noexcept {
  if (id != 0 && worker_.interrupt(id)) again_ = true;
}

void LifeWatch::say_farewell() noexcept {
  stop_.store(true, std::memory_order_seq_cst);
  worker_.interrupt_all();
  channel::wake_from(header_.worker_word.value, channel::kAsleep);
  header_.reply_room.value.store(0, std::memory_order_seq_cst);
  os::wake_word(header_.reply_room.value, 1);
  interrupt_main_thread();
  // Else it may have come just before a system call, or in the midst of an import. The process does not end
  // inside the VM, so it is asked until nothing is left to be interrupted, or finish() is called.
  pollfd finished = {beam_.get(), POLLIN, 0};
  while (beam_pid_ == 0 && worker_.interrupt_again() && ::poll(&finished, 1, kAgainMs) <= 0)
    interrupt_main_thread();
}

void LifeWatch::end_process() noexcept {
  os::sleep_ns(std::int64_t{kFarewellMs} * 1'000'000);
  kill_own_group();
  ::_exit(0);
}

}  // namespace typhon::worker

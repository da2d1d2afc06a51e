// WorkerChannel: the thread that has the reader role when no caller takes it.
#include "beam/worker_channel.h"

#include <sched.h>

#include <atomic>
#include <optional>

#include "beam/open_channels.h"
#include "os/clock.h"
#include "os/wait.h"

namespace typhon::beam {

using os::monotonic_ns;

namespace {

constexpr std::uint64_t kTrimAfterNs = 5'000'000'000;
constexpr std::size_t kTrimStep = std::size_t{4} << 20;

}  // namespace

void WorkerChannel::wake_reader() noexcept {
  // In kSpin the leaving caller looks at closed_ and stopping_; in kAwake the reader does before it waits.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  channel::wake_reader(region_->header().reader_word.value);
}

bool WorkerChannel::start_reader() noexcept {
  life_.stopping.store(false, std::memory_order_seq_cst);
  enif_keep_resource(this);
  ErlNifThreadOpts* options = enif_thread_opts_create(const_cast<char*>("typhon_reader"));
  if (options) options->suggested_stack_size = 64;  // kilowords
  char name[] = "typhon_reader";
  const int failed = enif_thread_create(name, &reader_.thread, &WorkerChannel::reader_main, this, options);
  if (options) enif_thread_opts_destroy(options);
  if (failed) enif_release_resource(this);
  return failed == 0;
}

bool WorkerChannel::stop_reader() noexcept {
  if (!state_.open_channels->remove(this)) return false;
  life_.stopping.store(true, std::memory_order_seq_cst);
  wake_reader();
  enif_thread_join(reader_.thread, nullptr);
  state_.open_channels->add(this);
  return true;
}

void WorkerChannel::join_reader() noexcept {
  if (state_.open_channels->remove(this)) enif_thread_join(reader_.thread, nullptr);
}

void* WorkerChannel::reader_main(void* self) noexcept {
  auto* channel = static_cast<WorkerChannel*>(self);
  State& state = channel->state_;
  channel->reader_loop();
  // Whoever took the channel out of the list joins this thread.
  if (state.open_channels->remove(channel)) state.open_channels->bury(enif_thread_self());
  enif_release_resource(channel);
  return nullptr;
}

// True when this thread has the role. Every wait has a limit: what the worker writes into the word may keep
// the reader from being woken, and must not keep it from seeing that the channel is closed.
bool WorkerChannel::wait_for_role(int& timed_rounds) noexcept {
  auto& word = region_->header().reader_word.value;
  for (int abandoned_rounds = 0;;) {
    const std::uint32_t state = word.load(std::memory_order_acquire);
    const bool ends =
        life_.closed.load(std::memory_order_seq_cst) || life_.stopping.load(std::memory_order_seq_cst);
    abandoned_rounds = role_.abandoned(state) ? abandoned_rounds + 1 : 0;
    if ((state == channel::kAwake || ends || abandoned_rounds > kAbandonedRounds) && role_.reader_takes())
      return true;
    const bool sleeps = state == channel::kAsleep && !ends;
    os::wait_word(word, state, sleeps ? kSleepNs : kTimedWaitNs);
    const std::uint32_t now = word.load(std::memory_order_acquire);
    if (sleeps) {
      if (now == channel::kAsleep) look_after_sleep();
    } else if (now == channel::kTimed || now == channel::kPolled) {
      look_after_callers(now, timed_rounds);
    }
  }
}

std::uint32_t WorkerChannel::state_to_rest_in(bool stop, int timed_rounds) noexcept {
  const bool expects = in_flight() > 0 || patience_.was_crowded(reader_.head_ns);
  if (stop) {
    pollers_.reader_looks.store(false, std::memory_order_seq_cst);
    return channel::kAsleep;
  }
  if ((!expects || timed_rounds >= kTimedRounds) && may_sleep()) return channel::kAsleep;
  pollers_.reader_looks.store(true, std::memory_order_seq_cst);
  const bool crowd = pollers_.count.load(std::memory_order_relaxed) >= Patience::kCrowd;
  return crowd ? channel::kPolled : channel::kTimed;
}

void WorkerChannel::reader_loop() noexcept {
  auto& word = region_->header().reader_word.value;
  int timed_rounds = 0;
  while (wait_for_role(timed_rounds)) {
    // One batch: while callers submit, they drain, which costs far less than messages from this thread.
    bool some = false;
    if (drain(nullptr) != Drained::kNothing) {
      some = true;
      std::atomic_thread_fence(std::memory_order_seq_cst);
      wake_worker_for_room();
    }
    if (some) timed_rounds = 0;
    if (life_.closed.load(std::memory_order_seq_cst)) {
      drain_what_is_left();
      // The role is kept for good: nobody takes that of a closed channel.
      fail_calls_in_flight();
      if (lends()) replies_left_behind().leave();
      return;
    }
    const bool stop = life_.stopping.load(std::memory_order_seq_cst);
    reader_.head = region_->header().reply_head.value.load(std::memory_order_relaxed);
    reader_.head_ns = monotonic_ns();
    const std::uint32_t rest = state_to_rest_in(stop, timed_rounds);
    role_.rest(rest);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    wake_worker_for_room();
    // Not before: a worker that makes room finds the reader awake until here, and would wake nobody.
    service_room(nullptr);
    const bool others_drain = rest == channel::kPolled;
    if ((!others_drain && replies_pending() != 0) || life_.closed.load(std::memory_order_relaxed)) {
      std::uint32_t expected = rest;
      word.compare_exchange_strong(expected, channel::kAwake, std::memory_order_acq_rel);
    }
    if (stop) return;  // the next reader takes over what the word says
  }
}

// What lay in the ring when the channel was closed: a worker that goes on writing is not waited for.
void WorkerChannel::drain_what_is_left() noexcept {
  const std::uint64_t begin = replies_.ring.consumed();
  while (replies_.ring.consumed() - begin <= region_->ring_size() && drain(nullptr) != Drained::kNothing) {
  }
}

// After a sleep that nobody ended. That nothing lies there is the rule; what a worker rang for wrongly, or
// what a caller left that was killed, is found here.
void WorkerChannel::look_after_sleep() noexcept {
  ring_worker_for_others();
  service_room(nullptr);
  if (replies_pending() != 0) {
    std::uint32_t asleep = channel::kAsleep;
    region_->header().reader_word.value.compare_exchange_strong(asleep, channel::kAwake,
                                                                std::memory_order_acq_rel);
    return;
  }
  const std::optional<std::uint64_t> pages = idle_pages_since();
  const std::uint64_t now = monotonic_ns();
  if (!pages || pages != reader_.idle_pages) {
    reader_.idle_pages = pages;
    reader_.idle_pages_ns = now;
  } else if (now - reader_.idle_pages_ns >= kTrimAfterNs) {
    idle_trim();
    reader_.idle_pages.reset();
  }
}

// Nothing when there are no idle pages; else a count that grows with each segment sent. Spinning callers
// never wake the reader, so that it slept does not mean that nothing happened.
std::optional<std::uint64_t> WorkerChannel::idle_pages_since() noexcept {
  Lock lock(mutex_);
  return requests_.idle_pages_since();
}

void WorkerChannel::idle_trim() noexcept {
  bool more = true;
  while (more && !life_.closed.load(std::memory_order_relaxed)) {
    {
      Lock lock(mutex_);
      more = requests_.trim(kTrimStep);
    }
    ::sched_yield();
  }
}

}  // namespace typhon::beam

#include "worker/router.h"

#include <sched.h>

#include "channel/doorbell.h"
#include "os/clock.h"
#include "os/thread.h"
#include "os/wait.h"
#include "os/wake_up.h"
#include "worker/mailroom.h"

namespace typhon::worker {

namespace {

constexpr std::int64_t kWaitNs = 1'000'000'000;
constexpr std::uint64_t kSpinNs = 20'000;

}  // namespace

int Router::take_over() noexcept {
  // From now on the word is the router's. The main thread may sleep on it: whoever rings would wake one of
  // the two.
  auto& word = header_.worker_word.value;
  while (reader_sleeps_.load(std::memory_order_seq_cst)) {
    static_cast<void>(channel::wake_from(word, channel::kAsleep));
    os::wake_word(word, INT32_MAX);
    ::sched_yield();
  }
  const int failed = os::start_thread(&Router::thread_main, this, std::size_t{256} * 1024);
  if (failed != 0) on_.store(false, std::memory_order_seq_cst);
  return failed;
}

void* Router::thread_main(void* self) noexcept {
  os::name_this_thread("typhon-router");
  auto* const router = static_cast<Router*>(self);
  router->run();
  router->end_.tell();
  return nullptr;
}

bool Router::finish(std::int64_t limit_ns) noexcept {
  if (!is_on()) return true;
  auto& word = header_.worker_word.value;
  return end_.wait(limit_ns, [&] {
    if (!channel::wake_from(word, channel::kAsleep)) os::wake_word(word, INT32_MAX);
  });
}

bool Router::ends() const noexcept {
  return stop_->load(std::memory_order_acquire) || header_.closing.value.load(std::memory_order_acquire) != 0;
}

void Router::run() noexcept {
  auto& word = header_.worker_word.value;
  while (!ends()) {
    if (!mailroom_.pump()) break;
    const std::uint64_t limit = os::monotonic_ns() + kSpinNs;
    const auto reads = [&] { return word.load(std::memory_order_relaxed) != channel::kSpin; };
    for (unsigned round = 1; header_.worker_spin_us != 0 && mailroom_.ring_empty() && reads(); ++round) {
      os::cpu_relax();
      if (round % 16 == 0 && os::monotonic_ns() > limit) break;
    }
    if (!mailroom_.ring_empty()) continue;
    // A lane that reads makes the word asleep when it stops, and then looks at the ring once more.
    std::uint32_t state = channel::kAwake;
    if (word.compare_exchange_strong(state, channel::kAsleep, std::memory_order_seq_cst))
      state = channel::kAsleep;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (mailroom_.ring_empty() && !ends()) os::wait_word(word, state, kWaitNs);
    state = channel::kAsleep;
    word.compare_exchange_strong(state, channel::kAwake, std::memory_order_seq_cst);
  }
  mailroom_.wake_all();
}

}  // namespace typhon::worker

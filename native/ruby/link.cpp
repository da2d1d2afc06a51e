#include "ruby/link.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "channel/doorbell.h"
#include "os/wait.h"

namespace typhon::ruby {

namespace {

constexpr std::int64_t kTrimAfterNs = 5'000'000'000;

}  // namespace

Link::Link(std::unique_ptr<channel::Region> region, os::UniqueFd control, int beam_pid) noexcept
    : region_(*region.release()),
      header_(region_.header()),
      arena_(region_.request_arena(), region_.arena_size(), header_.request_slots),
      mailroom_(region_),
      life_(std::move(control), beam_pid, 0, header_, *this),
      outbox_(region_, life_.stop_flag()) {}

// --- threads that wait ---

bool Link::read() noexcept {
  if (mailroom_.ring_empty()) return false;
  mailroom_.pump();
  // Frames may be another thread's: one that is about to sleep does not, one that sleeps is woken.
  generation_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) != 0) wake();
  return true;
}

void Link::sleep(std::uint64_t generation, std::int64_t limit_ns,
                 const std::atomic<bool>& interrupted) noexcept {
  auto& word = header_.worker_word.value;
  bool alone = true;
  {
    const Lock lock(sleeping_);
    alone = sleepers_.fetch_add(1, std::memory_order_seq_cst) == 0;
    word.store(channel::kAsleep, std::memory_order_relaxed);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (mailroom_.ring_empty() && this->generation() == generation && !ends() &&
      !interrupted.load(std::memory_order_seq_cst)) {
    const bool trims = alone && outbox_.will_have_idle_pages();
    const std::int64_t most = !alone ? worker::kLookAroundNs : trims ? kTrimAfterNs : std::int64_t{-1};
    const std::int64_t limit = most < 0 || limit_ns < 0 ? std::max(most, limit_ns) : std::min(most, limit_ns);
    os::wait_word(word, channel::kAsleep, limit);
    if (trims && mailroom_.ring_empty() && word.load(std::memory_order_relaxed) == channel::kAsleep)
      outbox_.trim();
  }
  const Lock lock(sleeping_);
  // Others may sleep on: whoever publishes has to wake them.
  const bool was_last = sleepers_.fetch_sub(1, std::memory_order_seq_cst) == 1;
  word.store(was_last ? channel::kAwake : channel::kAsleep, std::memory_order_relaxed);
}

void Link::wake() noexcept {
  generation_.fetch_add(1, std::memory_order_seq_cst);
  auto& word = header_.worker_word.value;
  std::uint32_t asleep = channel::kAsleep;
  word.compare_exchange_strong(asleep, channel::kAwake, std::memory_order_seq_cst);
  os::wake_word(word, INT32_MAX);
}

// --- the LifeWatch ---

bool Link::interrupt(std::uint64_t id) noexcept {
  {
    const Lock lock(commands_mutex_);
    commands_.push_back(id);
  }
  ring_commands();
  return false;
}

void Link::interrupt_all() noexcept {
  ending_.store(true, std::memory_order_seq_cst);
  ring_commands();
  wake();
}

// --- the thread that interrupts ---

void Link::wait_for_commands(const std::atomic<bool>& interrupted) noexcept {
  const std::uint32_t seen = commands_word_.load(std::memory_order_seq_cst);
  if (!interrupted.load(std::memory_order_seq_cst) && !has_commands())
    os::wait_word(commands_word_, seen, -1);
}

void Link::ring_commands() noexcept {
  commands_word_.fetch_add(1, std::memory_order_seq_cst);
  os::wake_word(commands_word_, INT32_MAX);
}

bool Link::has_commands() noexcept {
  if (ending()) return true;
  const Lock lock(commands_mutex_);
  return !commands_.empty();
}

std::uint64_t Link::take_command() noexcept {
  const Lock lock(commands_mutex_);
  return worker::take_first(commands_).value_or(0);
}

}  // namespace typhon::ruby

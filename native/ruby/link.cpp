#include "ruby/link.h"

#include <algorithm>
#include <utility>

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
      readers_(mailroom_, header_),
      life_(std::move(control), beam_pid, 0, header_, *this),
      outbox_(region_, life_.stop_flag()) {}

void Link::sleep(std::uint32_t generation, std::int64_t limit_ns,
                 const std::atomic<bool>& interrupted) noexcept {
  bool trims = false;
  const bool rested = readers_.sleep(
      generation, [&] { return ends() || interrupted.load(std::memory_order_seq_cst); },
      [&](bool alone) {
        trims = alone && outbox_.will_have_idle_pages();
        if (!trims) return limit_ns;
        return limit_ns < 0 ? kTrimAfterNs : std::min(kTrimAfterNs, limit_ns);
      });
  if (trims && rested) outbox_.trim();
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
  readers_.wake();
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

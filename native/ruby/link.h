// Link: a Ruby worker's end of a channel: the mailroom and its readers, the outbox, the LifeWatch.
//
// Whichever thread waits reads the ring (worker::Readers): no Ruby code runs while it takes frames out, so no
// exception from another thread can lose one.
//
// Lives for the rest of the process: its threads never end before. Everything needs Ruby's lock but what
// sleeps, and what the LifeWatch calls.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>

#include "base/mutex.h"
#include "base/thread_annotations.h"
#include "channel/arena.h"
#include "channel/region.h"
#include "os/descriptor.h"
#include "ruby/outbox.h"
#include "worker/life_watch.h"
#include "worker/mailroom.h"
#include "worker/readers.h"

namespace typhon::ruby {

class Link final : public worker::Interruptible {
 public:
  Link(std::unique_ptr<channel::Region> region, os::UniqueFd control, int beam_pid) noexcept;
  virtual ~Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  [[nodiscard]] Status start() noexcept { return life_.start(); }
  [[nodiscard]] Outbox& outbox() noexcept { return outbox_; }
  [[nodiscard]] worker::Mailroom& mailroom() noexcept { return mailroom_; }
  [[nodiscard]] worker::Readers& readers() noexcept { return readers_; }
  [[nodiscard]] const channel::ArenaPeer& arena() const noexcept { return arena_; }
  [[nodiscard]] bool ends() const noexcept { return life_.let_go(); }
  [[nodiscard]] bool broken() const noexcept { return mailroom_.broken() || outbox_.broken(); }
  [[nodiscard]] std::uint64_t new_tag() noexcept { return next_tag_++; }
  void cast_done() noexcept { header_.casts_done.value.fetch_add(1, std::memory_order_release); }

  // Without Ruby's lock: Readers::sleep(). `limit_ns` negative: no limit.
  void sleep(std::uint32_t generation, std::int64_t limit_ns, const std::atomic<bool>& interrupted) noexcept;

  // --- the LifeWatch ---
  bool interrupt(std::uint64_t id) noexcept override TYPHON_EXCLUDES(commands_mutex_);
  void interrupt_all() noexcept override;
  bool interrupt_again() noexcept override { return false; }
  void interrupt_now() noexcept override { readers_.wake(); }

  // --- the thread that interrupts ---
  void wait_for_commands(const std::atomic<bool>& interrupted) noexcept;  // without Ruby's lock
  void ring_commands() noexcept;
  // A call that was given up. 0: none.
  std::uint64_t take_command() noexcept TYPHON_EXCLUDES(commands_mutex_);
  [[nodiscard]] bool ending() const noexcept { return ending_.load(std::memory_order_seq_cst); }

 private:
  bool has_commands() noexcept TYPHON_EXCLUDES(commands_mutex_);

  channel::Region& region_;  // for the rest of the process
  channel::Header& header_;
  channel::ArenaPeer arena_;
  worker::Mailroom mailroom_;
  worker::Readers readers_;
  worker::LifeWatch life_;
  Outbox outbox_;
  std::uint64_t next_tag_ = 1;

  Mutex commands_mutex_;
  std::deque<std::uint64_t> commands_ TYPHON_GUARDED_BY(commands_mutex_);
  std::atomic<std::uint32_t> commands_word_{0};
  std::atomic<bool> ending_{false};
};

}  // namespace typhon::ruby

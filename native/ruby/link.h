// Link: a Ruby worker's end of a channel: the mailroom, the outbox, the LifeWatch, and the threads of Ruby
// that sleep until something comes.
//
// Who reads the ring. Whichever thread waits for something takes out all frames that are there; the mailroom
// has them then. No Ruby code runs in between, so no exception from another thread can lose one. What is not
// its own the others find when they look again: the generation says that they must. All of them sleep on the
// worker's word.
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
  [[nodiscard]] const channel::ArenaPeer& arena() const noexcept { return arena_; }
  [[nodiscard]] bool ends() const noexcept { return life_.let_go(); }
  [[nodiscard]] bool broken() const noexcept { return mailroom_.broken() || outbox_.broken(); }
  [[nodiscard]] std::uint64_t new_tag() noexcept { return next_tag_++; }
  void cast_done() noexcept { header_.casts_done.value.fetch_add(1, std::memory_order_release); }

  // --- threads that wait ---
  [[nodiscard]] std::uint64_t generation() const noexcept {
    return generation_.load(std::memory_order_seq_cst);
  }
  // Takes out all frames that are there. False: there was none.
  bool read() noexcept TYPHON_EXCLUDES(sleeping_);
  // Without Ruby's lock, unless something has happened since that generation. `limit_ns` negative: no limit.
  void sleep(std::uint64_t generation, std::int64_t limit_ns, const std::atomic<bool>& interrupted) noexcept
      TYPHON_EXCLUDES(sleeping_);
  // Any thread: everybody who waits looks again.
  void wake() noexcept;

  // --- the LifeWatch ---
  bool interrupt(std::uint64_t id) noexcept override TYPHON_EXCLUDES(commands_mutex_);
  void interrupt_all() noexcept override;
  bool interrupt_again() noexcept override { return false; }
  void interrupt_now() noexcept override { wake(); }

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
  worker::LifeWatch life_;
  Outbox outbox_;
  std::uint64_t next_tag_ = 1;

  std::atomic<std::uint64_t> generation_{0};
  std::atomic<unsigned> sleepers_{0};  // changed under sleeping_, with the word
  Mutex sleeping_;

  Mutex commands_mutex_;
  std::deque<std::uint64_t> commands_ TYPHON_GUARDED_BY(commands_mutex_);
  std::atomic<std::uint32_t> commands_word_{0};
  std::atomic<bool> ending_{false};
};

}  // namespace typhon::ruby

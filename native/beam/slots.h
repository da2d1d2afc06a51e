// Slots: the calls in flight of one channel, and who waits for each.
//
// A request's id is the slot's index and its generation, so a late reply to a slot that was reused is
// recognised. A slot belongs to
//   kLooks       its caller, who comes and looks: during this turn on its scheduler (it spins, with the
//   reader role), when
//                its next turn comes (it polls), or when it has dealt with what Python asked it. What others
//                find for it meanwhile lies in the slot.
//   kWaits       its caller, who gets what comes as messages
//   kAbandoned   nobody: its caller gave up, and its reply is dropped
//   kDelivering  the holder of the reader role, which is sending the reply right now
// A caller that waits, or that Python asked something, is monitored: when it ends, the call is abandoned. One
// that polls is looked after by the reader thread, and monitored when that ends.
//
// Not thread-safe: the channel's mutex guards it. A slot that is kDelivering may be used without, by whoever
// delivers.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "beam/nif.h"
#include "channel/arena.h"
#include "channel/claim.h"
#include "channel/layout.h"

namespace typhon::beam {

// A kAsk for a caller: {:ask, tag, reply}, decoded. (Once only: a second decoding would have the same segment
// and the same handles of objects, and the first would let go of them.)
struct Ask {
  std::unique_ptr<OwnedEnv> env;
  ERL_NIF_TERM term;

  void send(ErlNifEnv* caller_env, const ErlNifPid& to, ERL_NIF_TERM ref) const noexcept;
};

struct Slot {
  enum class State : std::uint8_t { kFree, kLooks, kWaits, kAbandoned, kDelivering };
  // kLooks: how the call has ended, which its caller will see after `asks`.
  enum class Ended : std::uint8_t { kNot, kReply, kFailed };

  State state = State::kFree;
  Ended ended = Ended::kNot;
  std::uint32_t generation = 1;
  std::uint32_t next_free = 0;
  std::optional<channel::Segment> segment;
  std::uint64_t deadline = 0;
  std::uint64_t submitted = 0;
  bool polls = false;       // its caller looks turn by turn, and is counted among those who do
  std::uint32_t turns = 0;  // in which that caller has found nothing
  bool started = false;     // kFailed: the worker had begun it
  bool movable = false;
  bool admitted = false;
  channel::FrameHeader reply{};  // kReply
  std::vector<std::uint8_t> reply_body;
  std::list<Ask> asks;        // kLooks: what came before the reply
  std::uint32_t unheard = 0;  // of what its caller was asked or told
  ErlNifPid caller{};
  ErlNifMonitor monitor{};
  bool monitored = false;
  ErlNifEnv* env = nullptr;  // holds `ref` while it is monitored
  ERL_NIF_TERM ref = 0;

  [[nodiscard]] bool has_news() const noexcept { return !asks.empty() || ended != Ended::kNot; }
  // Its caller looks, or will: it is to find what comes in the slot.
  [[nodiscard]] bool looks() const noexcept { return state == State::kLooks && ended == Ended::kNot; }
  [[nodiscard]] bool has_caller() const noexcept { return state == State::kLooks || state == State::kWaits; }
};

// What lay in a slot whose caller is gone. Dropped when the mutex is not held: handles of objects take it.
struct Unseen {
  channel::FrameHeader reply{};
  std::vector<std::uint8_t> reply_body;
  std::list<Ask> asks;
  bool replied = false;

  static Unseen take(Slot& slot) noexcept;
};

class Slots {
 public:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  static constexpr std::uint32_t kMost = channel::kClaims;

  // `channel`: the resource in whose name callers are monitored.
  explicit Slots(void* channel) noexcept : channel_(channel) {}
  Slots(const Slots&) = delete;
  Slots& operator=(const Slots&) = delete;
  ~Slots();

  // kNone when all are taken.
  std::uint32_t take() noexcept;
  // How many bytes its segment had.
  std::size_t free(ErlNifEnv* env, std::uint32_t index) noexcept;
  // The same of a request that has not been published: nobody has seen its id.
  std::size_t free_unseen(ErlNifEnv* env, std::uint32_t index) noexcept;

  [[nodiscard]] std::uint32_t find(std::uint64_t id) const noexcept;
  [[nodiscard]] std::uint32_t find(const ErlNifMonitor& monitor) const noexcept;
  [[nodiscard]] std::uint64_t id(std::uint32_t index) const noexcept {
    return (std::uint64_t{slots_[index].generation} << 32) | index;
  }
  [[nodiscard]] Slot& operator[](std::uint32_t index) noexcept { return slots_[index]; }
  [[nodiscard]] const Slot& operator[](std::uint32_t index) const noexcept { return slots_[index]; }
  [[nodiscard]] std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(slots_.size()); }

  // From here on its caller may be sent messages, and its end is noticed. False: it has ended already, and
  // nobody would tell.
  bool watch(ErlNifEnv* env, Slot& slot, ERL_NIF_TERM ref) noexcept;
  // Its end alone.
  bool monitor(ErlNifEnv* env, Slot& slot) noexcept;
  // What comes is sent to its caller as messages; or it is kAbandoned, when that is gone.
  void set_waits(ErlNifEnv* env, Slot& slot, ERL_NIF_TERM ref) noexcept;
  // Its caller has dealt with one thing that it was asked or told.
  void count_heard(std::uint64_t id) noexcept;

 private:
  void* channel_;
  std::deque<Slot> slots_;
  std::uint32_t first_free_ = kNone;
};

}  // namespace typhon::beam

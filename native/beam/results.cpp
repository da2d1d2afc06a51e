// The thread of Results; and WorkerChannel: what comes in a segment is made the VM's own before it is looked
// at.
#include "beam/results.h"

#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "beam/decoder.h"
#include "beam/worker_channel.h"
#include "etf/cost.h"

namespace typhon::beam {

namespace {

// Copied in 50 microseconds, and in ten times as many when no memory is warm.
constexpr std::size_t kQuicklyCopied = std::size_t{1} << 20;

}  // namespace

bool Results::ensure_thread() noexcept {
  const Lock lock(opening_);
  if (runs_) return true;
  memory_.restart();
  char name[] = "typhon_results";
  runs_ = enif_thread_create(name, &thread_, &Results::thread_main, this, nullptr) == 0;
  return runs_;
}

bool Results::stop_thread() noexcept {
  const Lock lock(opening_);
  if (!runs_) return false;
  memory_.stop();
  enif_thread_join(thread_, nullptr);
  runs_ = false;
  return true;
}

void* Results::thread_main(void* self) noexcept {
  static_cast<Results*>(self)->memory_.keep();
  return nullptr;
}

// --- WorkerChannel ---

WorkerChannel::Refusal WorkerChannel::take_in(SegmentHandle& segment, bool has_time) noexcept {
  if (segment.body.size() > max_result()) return Refusal::kTooLarge;
  if (!segment.taken_in && copies_results() && !segment.is_private()) {
    if (!has_time && segment.body.size() > kQuicklyCopied) return Refusal::kTakesTime;
    if (const Refusal refusal = copy(segment); refusal != Refusal::kNone) return refusal;
  }
  segment.taken_in = true;
  // What the worker writes is small against what it can stand for: a byte may be an element of a list.
  if (etf::most_it_can_cost(segment.body) <= max_result()) return Refusal::kNone;
  if (!has_time) return Refusal::kTakesTime;
  etf::Limits limits;
  limits.loans = segment.loans.count();
  return etf::costs_at_most(segment.body, limits, max_result()) ? Refusal::kNone : Refusal::kTooLarge;
}

// Nothing of it is read before it is known to have been written: that would make memory of it.
WorkerChannel::Refusal WorkerChannel::copy(SegmentHandle& segment) noexcept {
  using Memory = channel::ResultMemory;
  const std::size_t size = segment.body.size();
  if (!region_->reply_written(segment.ref.offset, size)) return Refusal::kNeverWritten;
  Memory::Refusal refusal{};
  Memory::Block block = state_.results->memory().take(size, shared_.account, refusal);
  switch (refusal) {
    case Memory::Refusal::kNone:
      break;
    case Memory::Refusal::kAccount:
      return Refusal::kHeld;
    case Memory::Refusal::kAll:
      return Refusal::kHeldByAll;
    case Memory::Refusal::kSystem:
      return Refusal::kNoMemory;
  }
  void* const memory = enif_alloc_resource(state_.body_type, sizeof(PrivateBody));
  if (!memory) return Refusal::kNoMemory;
  std::memcpy(block.data(), segment.body.data(), size);
  segment.body = {block.data(), size};
  segment.copy = new (memory) PrivateBody{std::move(block)};
  release_segment(segment);
  return Refusal::kNone;
}

// It is not needed any more: it was decoded, or is not going to be.
void WorkerChannel::done_with(SegmentHandle& segment) const noexcept {
  segment.decoded.store(true, std::memory_order_release);
  segment.loans.clear();
  if (segment.copy) enif_release_resource(std::exchange(segment.copy, nullptr));
  if (!segment.pinned.load(std::memory_order_relaxed)) release_segment(segment);
}

// {:error, Reason}, the answer in place of the term. A claim over memory that was never written is none that
// a worker makes which keeps to the protocol.
ERL_NIF_TERM WorkerChannel::refuse_segment(ErlNifEnv* caller_env, ErlNifEnv* env, SegmentHandle& segment,
                                           Refusal refusal) noexcept {
  const std::size_t size = segment.body.size();
  done_with(segment);
  const Atoms& atoms = state_.atoms;
  if (refusal == Refusal::kNeverWritten) {
    constexpr const char* kWhat = "the worker named a segment that it has never written";
    fail_broken(caller_env, kWhat);
    return enif_make_tuple2(env, atoms.error,
                            enif_make_tuple2(env, atoms.bad_frame, make_binary(env, kWhat)));
  }
  return enif_make_tuple2(env, atoms.error,
                          enif_make_tuple3(env, atoms.cannot_decode_result, make_binary(env, "result"),
                                           make_binary(env, sentence(refusal, size))));
}

std::string WorkerChannel::sentence(Refusal refusal, std::size_t size) const noexcept {
  const auto bytes = [](std::size_t number) { return std::to_string(number) + " bytes"; };
  switch (refusal) {
    case Refusal::kTooLarge:
      return (size > max_result() ? "it has " + bytes(size) + ", more than the "
                                  : "it came as " + bytes(size) + ", and as a term it takes more than the ") +
             bytes(max_result()) + " of max_result: of the pool. Raise that option, or return it in parts";
    case Refusal::kHeld:
      return "of this worker's results Elixir holds " + bytes(shared_.account->bytes.load()) +
             ", and with the " + bytes(size) + " of this one it would be more than the " +
             bytes(shared_.account->limit) +
             " of max_held: of the pool. Let go of some (a part of a large binary keeps the whole: "
             ":binary.copy/1), or raise that option";
    case Refusal::kHeldByAll:
      return "results of all workers take " + bytes(state_.results->memory().in_use()) +
             " of memory, and with the " + bytes(size) +
             " of this one it would be more than half of what this machine has. Let go of some (a part of a "
             "large binary keeps the whole: :binary.copy/1)";
    default:
      return "the system has no memory for its " + bytes(size);
  }
}

}  // namespace typhon::beam

#include "worker/cancels.h"

#include <algorithm>

namespace typhon::worker {

namespace {

// Calls that were given up between their claim and their beginning.
constexpr std::size_t kMostNoted = 65'536;

}  // namespace

// --- what runs ---

void Cancels::add_lane(Lane& lane) noexcept {
  const Lock lock(mutex_);
  lanes_.push_back(&lane);
}

void Cancels::remove_lane(Lane& lane) noexcept {
  const Lock lock(mutex_);
  std::erase(lanes_, &lane);
}

void Cancels::push(Lane& lane, Lane::Call call) noexcept {
  if (lane.calls_.empty()) count_serving(1);
  lane.calls_.push_back(call);
}

bool Cancels::begin(Lane& lane, std::uint64_t id) noexcept {
  const Lock lock(mutex_);
  if (id != 0 && forget(id)) return false;
  push(lane, {id, Lane::State::kRuns});
  // On top of a call that imports: the code of a module asks the BEAM.
  if (lane.imports_ != 0) claims_.set_imports(id, true);
  return true;
}

Lane::State Cancels::end(Lane& lane) noexcept {
  const Lock lock(mutex_);
  const Lane::State state = lane.calls_.back().state;
  lane.calls_.pop_back();
  if (lane.calls_.empty()) count_serving(-1);
  return state;
}

std::uint64_t Cancels::innermost(const Lane& lane) noexcept {
  const Lock lock(mutex_);
  const auto call = std::find_if(lane.calls_.rbegin(), lane.calls_.rend(),
                                 [](const Lane::Call& one) { return !one.waits; });
  return call == lane.calls_.rend() ? 0 : call->id;
}

bool Cancels::begin_wait(Lane& lane, std::uint64_t id) noexcept {
  const Lock lock(mutex_);
  if (!lane.calls_.empty() && lane.calls_.back().id == id && !lane.calls_.back().waits) return false;
  // A loop that waits does not come to look.
  push(lane, {id, loop_.has_cancel(id) ? Lane::State::kCancelled : Lane::State::kRuns, true});
  return true;
}

void Cancels::enter_loop(std::uint64_t id) noexcept {
  if (id == 0) return;
  loop_.add(id);
  const Lock lock(mutex_);
  if (forget(id)) loop_.cancel(id);  // while it was on its way to the loop
}

void Cancels::leave_loop(std::uint64_t id) noexcept {
  if (id != 0) loop_.remove(id);
}

void Cancels::unpark_all() noexcept {
  const Lock lock(mutex_);
  for (Lane* lane : lanes_) lane->parker.unpark();
}

// --- what is given up ---

void Cancels::mark(Lane::Call& call) noexcept {
  if (call.state == Lane::State::kRuns) call.state = Lane::State::kCancelled;
}

// A wait's thread looks by itself when it is woken, and all but the main one are woken by their parkers.
bool Cancels::needs_interrupt(const Lane& lane) noexcept {
  return !lane.interrupted && std::any_of(lane.calls_.begin(), lane.calls_.end(), [&](const auto& call) {
    return is_cancelled(call) && (!call.waits || lane.is_main);
  });
}

bool Cancels::wants_interrupt(const Lane& lane) noexcept {
  return !lane.interrupted && !lane.calls_.empty() && is_cancelled(lane.calls_.back()) &&
         !lane.calls_.back().waits && lane.imports_ == 0 && lane.sections_ == 0;
}

// A wait raises the exception in the call beneath it, so that is interrupted with it.
bool Cancels::interrupt_innermost(Lane& lane) noexcept {
  const auto interrupt = [](Lane::Call& call) {
    if (!is_cancelled(call)) return false;
    call.state = Lane::State::kInterrupted;
    return true;
  };
  if (lane.calls_.empty()) return false;
  const auto innermost = lane.calls_.rbegin();
  const bool interrupts = interrupt(*innermost);
  const auto beneath = innermost + 1;
  if (!innermost->waits || beneath == lane.calls_.rend() || beneath->waits) return interrupts;
  return interrupt(*beneath) || interrupts;
}

bool Cancels::forget(std::uint64_t id) noexcept {
  if (noted_.erase(id) == 0) return false;
  std::erase(order_, id);
  noted_count_.store(noted_.size(), std::memory_order_relaxed);
  return true;
}

void Cancels::note(std::uint64_t id) noexcept {
  if (!noted_.insert(id).second) return;
  order_.push_back(id);
  if (order_.size() > kMostNoted) {
    noted_.erase(order_.front());
    order_.pop_front();
  }
  noted_count_.store(noted_.size(), std::memory_order_relaxed);
}

bool Cancels::cancel(std::uint64_t id) noexcept {
  const Lock lock(mutex_);
  bool served = false;
  bool interrupts = false;
  for (Lane* lane : lanes_) {
    auto call = std::find_if(lane->calls_.begin(), lane->calls_.end(),
                             [id](const Lane::Call& running) { return running.id == id; });
    if (call == lane->calls_.end()) continue;
    for (; call != lane->calls_.end(); ++call) {
      served = served || (call->id == id && !call->waits);
      mark(*call);
    }
    interrupts = interrupts || needs_interrupt(*lane);
    lane->parker.unpark();
  }
  // With the mutex: enter_loop() adds it there first, and looks here then.
  if (!served && !loop_.cancel(id)) note(id);
  return interrupts;
}

void Cancels::cancel_all() noexcept {
  const Lock lock(mutex_);
  for (Lane* lane : lanes_) {
    for (Lane::Call& call : lane->calls_) mark(call);
    lane->parker.unpark();
  }
}

bool Cancels::was_cancelled(std::uint64_t id) noexcept {
  if (noted_count_.load(std::memory_order_relaxed) == 0) return false;
  const Lock lock(mutex_);
  return forget(id);
}

bool Cancels::has_any() noexcept {
  const Lock lock(mutex_);
  return std::any_of(lanes_.begin(), lanes_.end(), [](const Lane* lane) { return needs_interrupt(*lane); });
}

bool Cancels::take(Lane& lane) noexcept {
  const Lock lock(mutex_);
  return interrupt_innermost(lane);
}

bool Cancels::take_interrupt(Lane& lane) noexcept {
  const Lock lock(mutex_);
  return lane.imports_ == 0 && lane.sections_ == 0 && interrupt_innermost(lane);
}

Lane* Cancels::begin_interrupt(bool main) noexcept {
  const Lock lock(mutex_);
  for (Lane* lane : lanes_) {
    if ((lane->is_main && !main) || !wants_interrupt(*lane)) continue;
    interrupt_innermost(*lane);
    lane->interrupted = true;
    return lane;
  }
  return nullptr;
}

// --- sections ---

void Cancels::begin_section(Lane& lane) noexcept {
  const Lock lock(mutex_);
  ++lane.sections_;
}

void Cancels::end_section(Lane& lane) noexcept {
  const Lock lock(mutex_);
  --lane.sections_;
}

void Cancels::renew(Lane& lane) noexcept {
  const Lock lock(mutex_);
  if (lane.calls_.empty()) return;
  Lane::Call& innermost = lane.calls_.back();
  if (innermost.state == Lane::State::kInterrupted) innermost.state = Lane::State::kCancelled;
}

// --- imports ---

void Cancels::begin_import(Lane* lane, std::string_view name) noexcept {
  const Lock lock(mutex_);
  unsigned& depth = lane ? lane->imports_ : loop_imports_;
  if (depth++ != 0) return;
  if (!lane) {
    loop_mark_ = marks_.begin(0, name);
    return loop_.set_imports(true);
  }
  lane->mark_ = marks_.begin(lane->calls_.empty() ? 0 : lane->calls_.back().id, name);
  for (const Lane::Call& call : lane->calls_) claims_.set_imports(call.id, true);
}

void Cancels::end_import(Lane* lane) noexcept {
  const Lock lock(mutex_);
  unsigned& depth = lane ? lane->imports_ : loop_imports_;
  if (--depth != 0) return;
  if (!lane) {
    loop_.set_imports(false);
    return marks_.end(loop_mark_);
  }
  for (const Lane::Call& call : lane->calls_) claims_.set_imports(call.id, false);
  marks_.end(lane->mark_);
}

}  // namespace typhon::worker

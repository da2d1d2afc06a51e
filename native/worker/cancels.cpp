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

bool Cancels::begin(Lane& lane, std::uint64_t id) noexcept {
  const Lock lock(mutex_);
  if (id != 0 && forget(id)) return false;
  if (lane.calls_.empty()) count_serving(1);
  lane.calls_.push_back({id, Lane::State::kRuns});
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
  return lane.calls_.empty() ? 0 : lane.calls_.back().id;
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

bool Cancels::wants_interrupt(const Lane& lane) noexcept {
  return !lane.interrupted && !lane.calls_.empty() && is_cancelled(lane.calls_.back()) && lane.imports_ == 0;
}

bool Cancels::interrupt_innermost(Lane& lane) noexcept {
  if (lane.calls_.empty() || !is_cancelled(lane.calls_.back())) return false;
  lane.calls_.back().state = Lane::State::kInterrupted;
  return true;
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
  for (Lane* lane : lanes_) {
    auto call = std::find_if(lane->calls_.begin(), lane->calls_.end(),
                             [id](const Lane::Call& running) { return running.id == id; });
    if (call == lane->calls_.end()) continue;
    for (; call != lane->calls_.end(); ++call) mark(*call);
    lane->parker.unpark();
    return true;
  }
  // With the mutex: enter_loop() adds it there first, and looks here then.
  if (!loop_.cancel(id)) note(id);
  return false;
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
  return std::any_of(lanes_.begin(), lanes_.end(), [](const Lane* lane) {
    return !lane->interrupted && std::any_of(lane->calls_.begin(), lane->calls_.end(), is_cancelled);
  });
}

bool Cancels::take(Lane& lane) noexcept {
  const Lock lock(mutex_);
  return interrupt_innermost(lane);
}

bool Cancels::take_interrupt(Lane& lane) noexcept {
  const Lock lock(mutex_);
  return lane.imports_ == 0 && interrupt_innermost(lane);
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

// A machine for models of what several threads do with shared memory, and a check of every state that they
// can reach.
//
// A model says what its actors do, step by step. A step touches shared memory at most once, or runs a passage
// under a lock that nobody could tell apart. The checker follows every interleaving of the steps, and every
// moment at which a store becomes visible: each actor has a store buffer, as processors do, so a store that
// was executed may be seen by the others later; only a fence, a compare-exchange or a system call waits until
// the buffer is empty. That is what fences are for. (A fence right before an exchange is none that this
// machine could miss; processors with weaker rules do.)
//
// What is proved of a model, for the numbers of actors and frames of its tests:
//   - nothing that it calls wrong() happens, and no two actors consume a ring at once;
//   - no wake-up is lost: wherever the actors stand, the end can still be reached, and where nobody can move,
//     all is done(). (A wait with a limit may end by itself, one without may not.)
//
// A state is a structure of bytes alone: `memory`, an array of what the actors share; `actors`, an array of
// what each of them knows, derived from model::Actor; and whatever else there is. A model is a structure with
//   actors()          how many there are
//   begin(state)      fills in the first state, all of whose bytes are zero
//   run(cpu)          one step of an actor
//   happen(state, …)  calls its second argument with the states that come about by themselves: somebody dies
//   done(state)       whether this may be the end
//   wrong(state)      what must never be, in words; nullptr: it is not
//   ends()            whether the end has to be reached, and nobody may be stuck
//   show(state)       the shared words, for whoever has to understand a fault
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace typhon::channel::model {

using Byte = std::uint8_t;

constexpr int kMaxBuffered = 3;
constexpr Byte kNowhere = 0xff;

// What becomes of one whose wake-up is lost.
constexpr const char* kLost = "everyone waits";
constexpr const char* kTwoConsumers = "two consumers";

struct Store {
  Byte cell;
  Byte value;
};

struct Actor {
  Byte step;
  Byte blocked_on;  // the cell of the futex it waits on, or kNowhere
  Byte limited;     // that wait has a time limit
  Byte owns_ring;   // it acts as the consumer of the ring
  Byte then;        // the step after a passage that several steps lead to
  Byte buffered;
  Store buffer[kMaxBuffered];
};

// One actor's view of the machine during one step. A step that cannot be taken now (it needs an empty store
// buffer, or what it waits for has not come) calls stall().
template <class State>
class Cpu {
 public:
  Cpu(State& state, int self, bool choice) : state_(state), self_(self), choice_(choice) {}

  auto& me() { return state_.actors[self_]; }
  State& state() { return state_; }
  [[nodiscard]] int self() const { return self_; }
  [[nodiscard]] Byte bit() const { return static_cast<Byte>(1U << self_); }

  Byte load(int cell) {
    const Actor& actor = me();
    for (int i = actor.buffered; i-- > 0;) {
      if (actor.buffer[i].cell == cell) return actor.buffer[i].value;
    }
    return state_.memory[cell];
  }
  void store(int cell, int value) {
    Actor& actor = me();
    if (actor.buffered == kMaxBuffered) return stall();
    actor.buffer[actor.buffered++] = {static_cast<Byte>(cell), static_cast<Byte>(value)};
  }
  void fence() {
    if (me().buffered != 0) stall();
  }
  // An atomic addition; what was there before.
  int fetch_add(int cell, int by) {
    fence();
    const int before = state_.memory[cell];
    state_.memory[cell] = static_cast<Byte>(before + by);
    return before;
  }
  Byte exchange(int cell, int value) {
    fence();
    return std::exchange(state_.memory[cell], static_cast<Byte>(value));
  }
  bool compare_exchange(int cell, int from, int to) {
    fence();
    if (state_.memory[cell] != from) return false;
    state_.memory[cell] = static_cast<Byte>(to);
    return true;
  }
  void lock(int cell) {
    if (!compare_exchange(cell, 0, 1)) stall();
  }
  void unlock(int cell) { store(cell, 0); }
  // A whole passage under a lock, in one step: all but one of its accesses are to what the lock guards.
  void locked(int cell) {
    fence();
    if (state_.memory[cell] != 0) stall();
  }
  // The system call compares and begins to wait in one go.
  void futex_wait(int cell, int expected, bool limited) {
    fence();
    if (state_.memory[cell] != expected) return;
    me().blocked_on = static_cast<Byte>(cell);
    me().limited = limited;
  }
  static void resume(Actor& actor) {
    actor.blocked_on = kNowhere;
    actor.limited = 0;
  }
  // One of those who wait: the first or the last, where there are two.
  void futex_wake(int cell) {
    Actor* first = nullptr;
    Actor* last = nullptr;
    for (Actor& actor : state_.actors) {
      if (actor.blocked_on != cell) continue;
      if (!first) first = &actor;
      last = &actor;
    }
    if (first) resume(first != last && either() ? *last : *first);
  }
  void futex_wake_all(int cell) {
    for (Actor& actor : state_.actors) {
      if (actor.blocked_on == cell) resume(actor);
    }
  }
  // Time, or something else that the model does not know, decides: both ways are followed. Once in a step.
  bool either() {
    asked_ = true;
    return choice_;
  }
  void stall() { stalled_ = true; }
  void go(Byte step) { me().step = step; }
  // A passage that ends at `then`, unless it is left out.
  void pass(bool needed, Byte passage, Byte then) {
    me().then = needed ? then : Byte{0};
    go(needed ? passage : then);
  }
  void go_on() { go(std::exchange(me().then, Byte{0})); }
  // What was seen is not needed any more: states that differ only in that are the same.
  static Byte forget(Byte& seen) { return std::exchange(seen, Byte{0}); }

  [[nodiscard]] bool stalled() const { return stalled_; }
  [[nodiscard]] bool asked() const { return asked_; }

 private:
  State& state_;
  int self_;
  bool choice_;
  bool asked_ = false;
  bool stalled_ = false;
};

struct Verdict {
  std::size_t states = 0;
  std::string fault;  // empty: none was found
};

template <class State, class Model>
class Checker {
 public:
  // No padding: states are compared and hashed as memory.
  static_assert(std::has_unique_object_representations_v<State>);

  explicit Checker(const Model& model) : model_(model), table_(1 << 16) {}

  Verdict check() {
    add(initial(), kNone);
    for (std::uint32_t index = 0; index < states_.size(); ++index) {
      const State state = states_[index];
      if (two_consumers(state)) return fault("two consumers of a ring at once", index);
      if (const char* wrong = model_.wrong(state)) return fault(wrong, index);
      if (!expand(state, index) && model_.ends() && !model_.done(state))
        return fault("everyone waits, and not all is done", index);
      if (states_.size() > kLimit) return {states_.size(), "too many states to check"};
    }
    return {states_.size(), model_.ends() ? end_out_of_reach() : ""};
  }

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  static constexpr std::size_t kLimit = 6'000'000;

  Verdict fault(const char* what, std::uint32_t index) const { return {states_.size(), what + path(index)}; }

  State initial() const {
    State state;
    std::memset(&state, 0, sizeof state);
    for (Actor& actor : state.actors) actor.blocked_on = kNowhere;
    model_.begin(state);
    return state;
  }

  bool two_consumers(const State& state) const {
    int owners = 0;
    for (const Actor& actor : state.actors) owners += actor.owns_ring;
    return owners > 1;
  }

  // Adds every state that one move leads to. False when nobody can move.
  bool expand(const State& state, std::uint32_t from) {
    bool moved = false;
    for (int self = 0; self < model_.actors(); ++self) {
      const Actor& actor = state.actors[self];
      if (actor.buffered > 0) {
        add(with_oldest_store(state, self), from);
        moved = true;
      }
      if (actor.blocked_on == kNowhere) {
        moved |= take_step(state, self, from);
      } else if (actor.limited) {
        State next = state;
        Cpu<State>::resume(next.actors[self]);
        add(next, from);
        moved = true;
      }
    }
    model_.happen(state, [&](const State& next) { add(next, from); });
    return moved;
  }

  // The oldest store of an actor becomes visible.
  static State with_oldest_store(const State& state, int self) {
    State next = state;
    Actor& me = next.actors[self];
    next.memory[me.buffer[0].cell] = me.buffer[0].value;
    for (int i = 1; i < kMaxBuffered; ++i) me.buffer[i - 1] = me.buffer[i];
    me.buffer[kMaxBuffered - 1] = {};
    me.buffered -= 1;
    return next;
  }

  bool take_step(const State& state, int self, std::uint32_t from) {
    bool moved = false;
    for (const bool choice : {false, true}) {
      State next = state;
      Cpu<State> cpu(next, self, choice);
      model_.run(cpu);
      if (!cpu.stalled()) {
        add(next, from);
        moved = true;
      }
      if (!cpu.asked()) break;
    }
    return moved;
  }

  void add(const State& state, std::uint32_t from) {
    if (2 * states_.size() > table_.size()) grow();
    std::uint32_t& place = find(state);
    if (place == 0) {
      states_.push_back(state);
      came_from_.push_back(from);
      place = static_cast<std::uint32_t>(states_.size());
    }
    if (from != kNone) edges_.push_back({place - 1, from});
  }

  static std::uint64_t hash_of(const State& state) {
    std::uint64_t hash = 0;
    const auto* bytes = reinterpret_cast<const Byte*>(&state);
    for (std::size_t i = 0; i < sizeof state; i += sizeof hash) {
      std::uint64_t some = 0;
      std::memcpy(&some, bytes + i, std::min(sizeof some, sizeof state - i));
      hash = (hash ^ some) * 0x9e3779b97f4a7c15U;
      hash ^= hash >> 32;
    }
    return hash;
  }

  // The table holds indices + 1; 0 is an empty place.
  std::uint32_t& find(const State& state) {
    for (std::size_t i = hash_of(state) & (table_.size() - 1);; i = (i + 1) & (table_.size() - 1)) {
      if (table_[i] == 0 || std::memcmp(&states_[table_[i] - 1], &state, sizeof state) == 0) return table_[i];
    }
  }

  void grow() {
    table_.assign(table_.size() * 2, 0);
    for (std::uint32_t i = 0; i < states_.size(); ++i) find(states_[i]) = i + 1;
  }

  // Backwards from the ends: a state that is not met can never be left for one of them.
  std::string end_out_of_reach() {
    std::sort(edges_.begin(), edges_.end(), [](const Edge& a, const Edge& b) { return a.to < b.to; });
    std::vector<bool> good(states_.size());
    std::vector<std::uint32_t> open;
    for (std::uint32_t i = 0; i < states_.size(); ++i) {
      if (!model_.done(states_[i])) continue;
      good[i] = true;
      open.push_back(i);
    }
    while (!open.empty()) {
      const std::uint32_t to = open.back();
      open.pop_back();
      auto edge = std::lower_bound(edges_.begin(), edges_.end(), to,
                                   [](const Edge& e, std::uint32_t t) { return e.to < t; });
      for (; edge != edges_.end() && edge->to == to; ++edge) {
        if (good[edge->from]) continue;
        good[edge->from] = true;
        open.push_back(edge->from);
      }
    }
    const auto bad = std::find(good.begin(), good.end(), false);
    if (bad == good.end()) return "";
    return "the end is out of reach" + path(static_cast<std::uint32_t>(bad - good.begin()));
  }

  // How a state was reached, for whoever has to understand a fault: the steps of each actor, and the shared
  // words. An actor with stores that nobody sees yet has a star; one that waits a z, or a t when its wait has
  // a limit; the consumer of the ring an exclamation mark.
  std::string path(std::uint32_t index) const {
    std::vector<std::uint32_t> way;
    for (; index != kNone; index = came_from_[index]) way.push_back(index);
    std::string text = "\n";
    for (auto at = way.rbegin(); at != way.rend(); ++at) {
      const State& state = states_[*at];
      for (int i = 0; i < model_.actors(); ++i) {
        const Actor& actor = state.actors[i];
        text += "  " + std::to_string(actor.step) + (actor.buffered ? "*" : "") +
                (actor.blocked_on != kNowhere ? (actor.limited ? "t" : "z") : "") +
                (actor.owns_ring ? "!" : "");
      }
      text += "  |  " + model_.show(state) + "\n";
    }
    return text;
  }

  struct Edge {
    std::uint32_t to;
    std::uint32_t from;
  };

  const Model& model_;
  std::vector<State> states_;
  std::vector<std::uint32_t> came_from_;
  std::vector<Edge> edges_;
  std::vector<std::uint32_t> table_;
};

template <class State, class Model>
void expect_sound(const Model& model) {
  const Verdict verdict = Checker<State, Model>(model).check();
  EXPECT_EQ(verdict.fault, "");
  std::printf("             %zu states\n", verdict.states);
}

// How the fault begins.
template <class State, class Model>
void expect_fault(const Model& model, const std::string& fault) {
  const Verdict verdict = Checker<State, Model>(model).check();
  EXPECT_EQ(verdict.fault.substr(0, fault.size()), fault) << verdict.fault << verdict.states << " states";
}

}  // namespace typhon::channel::model

// A stand-in for the emulator, so that the NIF runs without one: under ThreadSanitizer, with callers that are
// killed at any moment. It has what Typhon's NIF uses of erl_nif.h: terms, environments, resources with
// monitors, processes with a mailbox, NIFs that are scheduled, threads and mutexes. Where it has less than
// the real one, emulator.cpp says so.
//
// A test's threads are the schedulers: a process belongs to the thread that runs NIFs for it, and any thread
// may kill it.
#pragma once

#include <erl_nif.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace typhon::testing {

struct Term;
struct Resource;

}  // namespace typhon::testing

// The name is erl_nif.h's. One thread at a time.
struct enif_environment_t {
  enif_environment_t() = default;
  enif_environment_t(const enif_environment_t&) = delete;
  enif_environment_t& operator=(const enif_environment_t&) = delete;
  ~enif_environment_t();
  void clear() noexcept;
  ERL_NIF_TERM keep(std::unique_ptr<typhon::testing::Term> term);

  std::vector<std::unique_ptr<typhon::testing::Term>> terms;
  ErlNifPid self{};
  bool raised = false;
  // What enif_schedule_nif() was told to run next.
  ERL_NIF_TERM (*next)(ErlNifEnv*, int, const ERL_NIF_TERM[]) = nullptr;
  int next_flags = 0;
  std::vector<ERL_NIF_TERM> next_args;
};

namespace typhon::testing {

// A term of any environment, as Erlang writes it, without what differs from run to run: [{ok,42},#Pid,#Ref].
std::string text_of(ERL_NIF_TERM term);

class Process {
 public:
  Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  // Killed, unless it is dead already.
  ~Process();

  [[nodiscard]] ErlNifPid pid() const noexcept { return pid_; }
  // Terms that it made, and that NIFs gave it. They go by collect(), which only its own thread may call.
  [[nodiscard]] ErlNifEnv* heap() noexcept { return &heap_; }
  void collect() noexcept { heap_.clear(); }
  [[nodiscard]] ERL_NIF_TERM atom(const char* name) { return enif_make_atom(&heap_, name); }
  [[nodiscard]] ERL_NIF_TERM number(std::uint64_t value) { return enif_make_uint64(&heap_, value); }
  [[nodiscard]] ERL_NIF_TERM ref() { return enif_make_ref(&heap_); }
  [[nodiscard]] ERL_NIF_TERM term() const { return pid_.pid; }
  [[nodiscard]] ERL_NIF_TERM tuple(std::initializer_list<ERL_NIF_TERM> elements) {
    return enif_make_tuple_from_array(&heap_, elements.begin(), static_cast<unsigned>(elements.size()));
  }
  [[nodiscard]] ERL_NIF_TERM list(std::initializer_list<ERL_NIF_TERM> elements) {
    return enif_make_list_from_array(&heap_, elements.begin(), static_cast<unsigned>(elements.size()));
  }
  [[nodiscard]] ERL_NIF_TERM map(std::initializer_list<std::pair<const char*, ERL_NIF_TERM>> entries);
  [[nodiscard]] ERL_NIF_TERM binary(std::string_view bytes);

  // Runs a NIF of the library that Emulator has loaded, turn by turn until it has a result. Nothing: the
  // process was killed before its next turn.
  std::optional<ERL_NIF_TERM> call(std::string_view name, std::initializer_list<ERL_NIF_TERM> args);
  // The first message that `wanted` accepts, into the heap. Nothing: the process was killed, or none has come
  // in so long.
  template <class Wanted>
  std::optional<ERL_NIF_TERM> receive(Wanted wanted, std::chrono::milliseconds limit);
  [[nodiscard]] std::size_t messages();

  // From any thread, but not in a NIF. It comes between two turns, or in the middle of a dirty one, as the
  // emulator has it. Those who monitor it are told before it returns.
  void kill() noexcept;
  [[nodiscard]] bool alive() const noexcept { return alive_.load(std::memory_order_acquire); }

  // --- for emulator.cpp ---
  // False: it is dead, and what was sent is still its sender's.
  bool put(std::unique_ptr<enif_environment_t>& env, ERL_NIF_TERM message);
  bool monitor(Resource& resource, ErlNifMonitor& monitor);
  // False: it was not there any more.
  bool demonitor(std::uint64_t number);

 private:
  struct Message {
    std::unique_ptr<enif_environment_t> env;
    ERL_NIF_TERM term;
  };

  // Nothing: it was killed.
  std::optional<ERL_NIF_TERM> turn(ERL_NIF_TERM (*nif)(ErlNifEnv*, int, const ERL_NIF_TERM[]), int flags,
                                   int argc, const ERL_NIF_TERM argv[]);

  ErlNifPid pid_{};
  enif_environment_t heap_;
  std::atomic<bool> alive_{true};
  // On the heap, where ThreadSanitizer sees when a mutex is gone. The first one is held in a turn that is not
  // dirty.
  const std::unique_ptr<std::mutex> turn_ = std::make_unique<std::mutex>();
  const std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();
  std::condition_variable came_;
  std::deque<Message> mailbox_;
  std::unordered_map<std::uint64_t, Resource*> monitors_;
};

// One library, loaded. One at a time in a program.
class Emulator {
 public:
  explicit Emulator(ErlNifEntry* entry);
  Emulator(const Emulator&) = delete;
  Emulator& operator=(const Emulator&) = delete;
  // Unloads it.
  ~Emulator();
  // Resources that have not been destroyed.
  [[nodiscard]] static std::size_t resources() noexcept;
};

template <class Wanted>
std::optional<ERL_NIF_TERM> Process::receive(Wanted wanted, std::chrono::milliseconds limit) {
  const auto until = std::chrono::steady_clock::now() + limit;
  std::unique_lock lock(*mutex_);
  for (;;) {
    for (auto at = mailbox_.begin(); at != mailbox_.end(); ++at) {
      if (!alive()) return std::nullopt;
      if (!wanted(at->term)) continue;
      const Message message = std::move(*at);
      mailbox_.erase(at);
      lock.unlock();  // to let go of what the message held may send one
      return enif_make_copy(&heap_, message.term);
    }
    if (!alive() || came_.wait_until(lock, until) == std::cv_status::timeout) return std::nullopt;
  }
}

}  // namespace typhon::testing

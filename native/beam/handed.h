// Handed: what a worker with an allow list may reach, call and say, because it was handed to it: pids, names,
// references and funs that went out to it in requests, answers and messages, and what its pool's options
// name.
//
// Each is known by its bytes in the External Term Format, which come back as they went. Bounded: of what was
// handed out in passing the oldest is forgotten. Any thread.
#pragma once

#include <cstddef>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "beam/nif.h"

namespace typhon::beam {

// One entry of `allow:`. `arity`: -1 for any.
struct AllowedFunction {
  ERL_NIF_TERM module;
  ERL_NIF_TERM function;
  int arity;
};

class Handed {
 public:
  explicit Handed(std::vector<AllowedFunction> functions, ERL_NIF_TERM any) noexcept
      : functions_(std::move(functions)), any_(any), mutex_("typhon.handed") {}

  // `bytes`: without the version byte.
  void add(std::string_view bytes);
  void keep(std::string_view bytes);  // for good
  [[nodiscard]] bool contains(std::string_view bytes);
  // By `allow:`. Names that are no atoms of this VM are in no list.
  [[nodiscard]] bool may_call(ErlNifEnv* env, std::string_view module, std::string_view function,
                              std::uint32_t arity) const;
  // Whether it may be sent to a process: false for what the emulator, OTP and this library say to processes,
  // and act upon.
  [[nodiscard]] bool may_say(ErlNifEnv* env, ERL_NIF_TERM message);

 private:
  static constexpr std::size_t kMostEntries = 65'536;
  static constexpr std::size_t kMostBytes = std::size_t{16} << 20;
  static constexpr std::size_t kLongest = std::size_t{1} << 20;

  void forget_oldest() TYPHON_REQUIRES(mutex_);
  [[nodiscard]] bool made_up(ErlNifEnv* env, ERL_NIF_TERM term);

  const std::vector<AllowedFunction> functions_;
  const ERL_NIF_TERM any_;
  Mutex mutex_;
  std::list<std::string> order_ TYPHON_GUARDED_BY(mutex_);  // the newest first
  std::unordered_map<std::string_view, std::list<std::string>::iterator> found_ TYPHON_GUARDED_BY(mutex_);
  std::unordered_set<std::string> kept_ TYPHON_GUARDED_BY(mutex_);
  std::size_t bytes_ TYPHON_GUARDED_BY(mutex_) = 0;
};

// The bytes by which Handed knows a term; empty when there is no memory.
std::string handed_key(ErlNifEnv* env, ERL_NIF_TERM term);

}  // namespace typhon::beam

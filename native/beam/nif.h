// What every file of this layer shares: erl_nif.h with warnings quieted, the library's state, small term
// helpers.
//
// Nothing here is global: State lives in the library's priv_data, made in load() and handed on in upgrade().
#pragma once

#include <erl_nif.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/mutex.h"
#include "beam/atom_room.h"
#include "channel/loan.h"

namespace typhon::beam {

// Atoms that the NIF makes, looked up once.
// clang-format off
#define TYPHON_ATOMS(X) \
  X(ok) X(error) X(wait) X(room) X(segment) X(down) X(timed) X(encoder) X(cannot_encode) \
  X(no_worker) X(cancelled) X(delivered) X(typhon) X(ready) X(overdue) X(importing) X(untaken) X(nil) X(infinity) \
  X(bad_frame) X(cannot_decode_result) X(closed) X(create) X(atoms) X(atom_room) X(ring_size) \
  X(arena_size) X(spin_us) X(worker_spin_us) X(mapset_version) X(duration) X(fd) X(os_pid) X(in_flight) X(polling) \
  X(waiting) X(casts) X(request_arena) X(id) X(type) X(repr) X(ref) X(pool) X(data) \
  X(gone) X(overload) X(held) X(none) X(busy) X(places) X(size) X(max_queue) X(concurrency) \
  X(no_process) X(not_permitted) X(invalid) X(owner_down) X(not_started) X(ask) X(send) X(running) X(ignored) \
  X(served) X(reached) X(again) X(eof) X(embedded) X(raw) X(lent) X(borrowed) X(moved) X(settled) X(owner) \
  X(keys) X(values) X(strings) X(timedelta) X(fraction) X(complex) X(tagged) X(nan) X(neg_infinity) \
  X(sent) X(heavy) X(heard) X(flood) X(not_allowed) X(foreign) X(allow) X(send_to) X(all) X(_) \
  X(post) X(control) \
  X(ring) X(requests) X(replies) X(wakes) X(missed_spins) X(waits_for_room) X(segment_bytes) \
  X(results) X(shared) X(cached) X(limit) X(max_result) X(max_held) \
  X(true_) X(false_)
// clang-format on

struct Atoms {
#define TYPHON_ATOM_FIELD(name) ERL_NIF_TERM name;
  TYPHON_ATOMS(TYPHON_ATOM_FIELD)
#undef TYPHON_ATOM_FIELD
  ERL_NIF_TERM struct_key;  // :__struct__
  // Structs whose wire form Python knows, and those that the NIF itself looks into.
  ERL_NIF_TERM known_structs[13];
  ERL_NIF_TERM object;   // Typhon.Object
  ERL_NIF_TERM map_set;  // MapSet

  void make(ErlNifEnv* env) noexcept;
  [[nodiscard]] bool knows_struct(ERL_NIF_TERM module) const noexcept;
};

class BinaryLoans;
class Mover;
class OpenChannels;
class Results;

struct State {
  std::uint32_t layout = kLayout;  // an upgrade takes over State and resources only when this matches
  Atoms atoms{};
  ErlNifResourceType* pool_type = nullptr;
  ErlNifResourceType* channel_type = nullptr;
  ErlNifResourceType* segment_type = nullptr;
  ErlNifResourceType* object_type = nullptr;
  ErlNifResourceType* descriptor_type = nullptr;
  ErlNifResourceType* ticket_type = nullptr;
  ErlNifResourceType* notifier_type = nullptr;
  ErlNifResourceType* borrowed_type = nullptr;
  ErlNifResourceType* body_type = nullptr;
  OpenChannels* open_channels = nullptr;
  BinaryLoans* binary_loans = nullptr;
  Results* results = nullptr;
  Mover* mover = nullptr;
  std::atomic<std::uint32_t> instances{1};  // of the library that share this: more than one after an upgrade

  std::atomic<std::uint64_t> channels_opened{0};
  AtomRoom atom_room;
  channel::Tally borrowed;  // memory of Pythons in this VM that binaries lie in

  static constexpr std::uint32_t kLayout = 13;
};

inline State& state_of(ErlNifEnv* env) noexcept { return *static_cast<State*>(enif_priv_data(env)); }

inline ERL_NIF_TERM make_binary(ErlNifEnv* env, std::string_view text) noexcept {
  ERL_NIF_TERM term = 0;
  unsigned char* data = enif_make_new_binary(env, text.size(), &term);
  if (!text.empty()) std::memcpy(data, text.data(), text.size());
  return term;
}

// A mutex of the emulator, so that its lock checker and crash dumps know it.
class TYPHON_CAPABILITY("mutex") Mutex {
 public:
  explicit Mutex(const char* name) noexcept : mutex_(enif_mutex_create(const_cast<char*>(name))) {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  ~Mutex() {
    if (mutex_) enif_mutex_destroy(mutex_);
  }
  [[nodiscard]] bool valid() const noexcept { return mutex_ != nullptr; }
  void lock() noexcept TYPHON_ACQUIRE() { enif_mutex_lock(mutex_); }
  void unlock() noexcept TYPHON_RELEASE() { enif_mutex_unlock(mutex_); }

 private:
  ErlNifMutex* mutex_;
};

// An environment that outlives a call: owns its terms until cleared or sent away.
class OwnedEnv {
 public:
  OwnedEnv() noexcept : env_(enif_alloc_env()) {}
  OwnedEnv(const OwnedEnv&) = delete;
  OwnedEnv& operator=(const OwnedEnv&) = delete;
  ~OwnedEnv() { enif_free_env(env_); }
  [[nodiscard]] ErlNifEnv* get() const noexcept { return env_; }
  void clear() noexcept { enif_clear_env(env_); }

 private:
  ErlNifEnv* env_;
};

}  // namespace typhon::beam

// What the parts of the stand-in for the emulator share (emulator.h).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "testing/emulator.h"

// The names that erl_nif.h gives to what it does not define.
struct enif_resource_type_t {
  std::string name;
  ErlNifResourceDtor* dtor = nullptr;
  ErlNifResourceDown* down = nullptr;
};
struct ErlDrvMutex_ {
  std::mutex mutex;
};
struct ErlDrvTid_ {
  std::thread thread;
  void* (*run)(void*) = nullptr;
  void* argument = nullptr;
};

namespace typhon::testing {

struct Term {
  enum class Kind { kAtom, kInteger, kFloat, kBinary, kTuple, kCell, kNil, kMap, kReference, kPid };

  Kind kind;
  std::string bytes = {};    // of an atom or a binary
  bool negative = false;     // of an integer
  std::uint64_t number = 0;  // its bits; of a reference: which one
  double real = 0;
  std::vector<ERL_NIF_TERM> of = {};    // elements; keys and values in turn; head and tail
  Resource* resource = nullptr;         // of a reference or a binary: kept
  const unsigned char* data = nullptr;  // of a binary in a resource
  std::size_t size = 0;
  Process* process = nullptr;  // of a pid, while that lives
};

// Stands before the memory that a user sees.
struct alignas(std::max_align_t) Resource {
  Resource(enif_resource_type_t* of_type, std::size_t bytes) noexcept : type(of_type), size(bytes) {}

  enif_resource_type_t* type;
  std::size_t size;
  std::atomic<std::size_t> count{1};
  std::mutex mutex;
  std::unordered_map<std::uint64_t, ERL_NIF_TERM> monitored;  // pids

  [[nodiscard]] void* memory() noexcept { return this + 1; }
  static Resource& of(void* memory) noexcept { return static_cast<Resource*>(memory)[-1]; }
};

using Kind = Term::Kind;

// What lives as long as the program: atoms, and the pids of processes, which terms may name after their end.
struct World {
  std::mutex mutex;
  std::unordered_map<std::string, std::unique_ptr<Term>> atoms;
  std::vector<std::unique_ptr<Term>> pids;
  std::mutex living;  // who reaches a process by its pid holds it
  std::atomic<std::uint64_t> counter{0};
  std::atomic<std::size_t> resources{0};
  void* priv_data = nullptr;
  ErlNifEntry* entry = nullptr;
  std::vector<std::unique_ptr<enif_resource_type_t>> types;
};

World& world();
// The program ends: a test wants what the stand-in has not.
[[noreturn]] void missing(const char* what);

inline const Term& at(ERL_NIF_TERM term) noexcept { return *reinterpret_cast<const Term*>(term); }
inline Term& mutable_at(ERL_NIF_TERM term) noexcept { return *reinterpret_cast<Term*>(term); }
inline ERL_NIF_TERM name_of(const Term& term) noexcept { return reinterpret_cast<ERL_NIF_TERM>(&term); }
inline bool is(ERL_NIF_TERM term, Kind kind) noexcept { return at(term).kind == kind; }

inline ERL_NIF_TERM make(ErlNifEnv* env, Term term) {
  return env->keep(std::make_unique<Term>(std::move(term)));
}

ERL_NIF_TERM intern(std::string_view name);
ERL_NIF_TERM copy(ErlNifEnv* to, ERL_NIF_TERM term);
int compare(ERL_NIF_TERM left, ERL_NIF_TERM right) noexcept;
void release(Resource& resource) noexcept;

}  // namespace typhon::testing

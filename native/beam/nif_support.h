// What NIFs share: the one place where a C++ exception becomes a BEAM one, and how arguments are read.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <string_view>

#include "beam/nif.h"
#include "beam/pool.h"
#include "beam/wire.h"
#include "beam/worker_channel.h"

namespace typhon::beam {

template <auto Function>
inline ERL_NIF_TERM guarded(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) noexcept {
  try {
    return Function(env, argc, argv);
  } catch (const std::bad_alloc&) {
    return enif_raise_exception(env, enif_make_atom(env, "enomem"));
  } catch (const std::exception& error) {
    return enif_raise_exception(env, make_binary(env, error.what()));
  } catch (...) {
    return enif_raise_exception(env, make_binary(env, "an unknown C++ exception"));
  }
}

// A reference to a resource, released at the end of the scope.
template <class T>
class Kept {
 public:
  explicit Kept(T* resource) noexcept : resource_(resource) {}  // takes over the caller's reference
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
  Kept(Kept&& other) noexcept : resource_(std::exchange(other.resource_, nullptr)) {}
  Kept& operator=(Kept&& other) noexcept {
    reset(std::exchange(other.resource_, nullptr));
    return *this;
  }
  ~Kept() { reset(nullptr); }
  void reset(T* resource) noexcept {
    if (resource_) enif_release_resource(resource_);
    resource_ = resource;
  }
  T* operator->() const noexcept { return resource_; }
  [[nodiscard]] T* get() const noexcept { return resource_; }

 private:
  T* resource_;
};

template <class T>
inline T* get_resource(ErlNifEnv* env, ERL_NIF_TERM term, ErlNifResourceType* type) noexcept {
  void* found = nullptr;
  return enif_get_resource(env, term, type, &found) ? static_cast<T*>(found) : nullptr;
}

inline WorkerChannel* get_channel(ErlNifEnv* env, ERL_NIF_TERM term) noexcept {
  return get_resource<WorkerChannel>(env, term, state_of(env).channel_type);
}

inline Pool* get_pool(ErlNifEnv* env, ERL_NIF_TERM term) noexcept {
  auto** holder = get_resource<Pool*>(env, term, state_of(env).pool_type);
  return holder ? *holder : nullptr;
}

inline ERL_NIF_TERM error_tuple(ErlNifEnv* env, std::string_view message) noexcept {
  return enif_make_tuple2(env, state_of(env).atoms.error, make_binary(env, message));
}

// How a caller names the channel of its call: by its place in the pool and its serial number, for a term that
// holds a resource costs more than all the rest of submitting; by a resource when it lies in another pool.
inline ERL_NIF_TERM where(ErlNifEnv* env, WorkerChannel* channel, std::size_t place) noexcept {
  if (place == Pool::kNoPlace) return enif_make_resource(env, channel);
  return enif_make_uint64(env, (channel->serial() << wire::kSerialBit) | place);
}

// The channel that where() named, nullptr when it is not in the pool any more: then it is closed, and its
// calls have their answers.
inline Kept<WorkerChannel> find_channel(ErlNifEnv* env, Pool* pool, ERL_NIF_TERM where) noexcept {
  ErlNifUInt64 number = 0;
  if (pool && enif_get_uint64(env, where, &number))
    return Kept<WorkerChannel>(
        pool->find(number & ((1U << wire::kSerialBit) - 1), number >> wire::kSerialBit));
  WorkerChannel* channel = get_channel(env, where);
  if (channel) enif_keep_resource(channel);
  return Kept<WorkerChannel>(channel);
}

inline bool get_boolean(const Atoms& atoms, ERL_NIF_TERM term, bool& value) noexcept {
  value = term == atoms.true_;
  return value || term == atoms.false_;
}

inline ERL_NIF_TERM imported(ErlNifEnv* env, const std::string& name) {
  return enif_make_tuple2(env, state_of(env).atoms.importing, make_binary(env, name));
}

inline void tell_watcher(ErlNifEnv* env, Pool& pool) noexcept {
  const Atoms& atoms = state_of(env).atoms;
  ErlNifPid watcher;
  if (pool.take_watch(watcher))
    enif_send(env, &watcher, nullptr, enif_make_tuple2(env, atoms.typhon, atoms.busy));
}

// {overload, Queued, Workers, Concurrency, MaxQueue}
inline ERL_NIF_TERM overload(ErlNifEnv* env, const Pool& pool, const Pool::Pressure& pressure) noexcept {
  const std::uint64_t all = pressure.calls + pool.waiting();
  const std::uint64_t running = pressure.workers * pool.concurrency();
  return enif_make_tuple5(env, state_of(env).atoms.overload,
                          enif_make_uint64(env, all > running ? all - running : 0),
                          enif_make_uint64(env, pressure.workers), enif_make_uint(env, pool.concurrency()),
                          enif_make_uint64(env, pool.max_queue()));
}

}  // namespace typhon::beam

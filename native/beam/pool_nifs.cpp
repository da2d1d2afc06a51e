// NIFs of pools.

#include "beam/moving.h"
#include "beam/nif_support.h"
#include "beam/nifs.h"
#include "os/clock.h"

namespace typhon::beam::nifs {

// pool_new(Size), pool_new(Size, #{max_queue => Count | infinity, concurrency => Count})
ERL_NIF_TERM pool_new(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  unsigned size = 0;
  ErlNifUInt64 max_queue = Pool::kUnlimited;
  unsigned concurrency = 1;
  if (!enif_get_uint(env, argv[0], &size) || size == 0 || size > 65'535) return enif_make_badarg(env);
  if (argc == 2) {
    ERL_NIF_TERM value = 0;
    if (!enif_is_map(env, argv[1])) return enif_make_badarg(env);
    if (enif_get_map_value(env, argv[1], atoms.max_queue, &value) && value != atoms.infinity &&
        (!enif_get_uint64(env, value, &max_queue) || max_queue > 0xffff'ffffU)) {
      return enif_make_badarg(env);
    }
    if (enif_get_map_value(env, argv[1], atoms.concurrency, &value) &&
        (!enif_get_uint(env, value, &concurrency) || concurrency == 0)) {
      return enif_make_badarg(env);
    }
  }
  auto pool = std::make_unique<Pool>(size, concurrency, max_queue);
  auto** holder = static_cast<Pool**>(enif_alloc_resource(state_of(env).pool_type, sizeof(void*)));
  *holder = pool.release();
  if (size > 1) state_of(env).mover->add(**holder);
  const ERL_NIF_TERM term = enif_make_resource(env, holder);
  enif_release_resource(holder);
  return term;
}

ERL_NIF_TERM pool_put(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  Pool* pool = get_pool(env, argv[0]);
  unsigned index = 0;
  if (!pool || !enif_get_uint(env, argv[1], &index) || index >= pool->size()) return enif_make_badarg(env);
  WorkerChannel* channel = get_channel(env, argv[2]);
  if (!channel && argv[2] != atoms.nil) return enif_make_badarg(env);
  pool->put(index, channel);
  return atoms.ok;
}

ERL_NIF_TERM pool_sweep(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  Pool* pool = get_pool(env, argv[0]);
  if (!pool) return enif_make_badarg(env);
  pool->sweep();
  return state_of(env).atoms.ok;
}

namespace {

bool get_place(ErlNifEnv* env, const ERL_NIF_TERM argv[], Pool*& pool, unsigned& index) noexcept {
  pool = get_pool(env, argv[0]);
  return pool && enif_get_uint(env, argv[1], &index) && index < pool->size();
}

}  // namespace

ERL_NIF_TERM pool_reserve(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  Pool* pool = nullptr;
  unsigned index = 0;
  bool reserved = false;
  if (!get_place(env, argv, pool, index) || !get_boolean(atoms, argv[2], reserved))
    return enif_make_badarg(env);
  pool->reserve(index, reserved);
  return atoms.ok;
}

ERL_NIF_TERM pool_active(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  Pool* pool = nullptr;
  unsigned index = 0;
  bool active = false;
  if (!get_place(env, argv, pool, index) || !get_boolean(atoms, argv[2], active))
    return enif_make_badarg(env);
  pool->activate(index, active);
  return atoms.ok;
}

ERL_NIF_TERM pool_watch(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  Pool* pool = get_pool(env, argv[0]);
  ErlNifPid pid;
  if (!pool || !enif_get_local_pid(env, argv[1], &pid)) return enif_make_badarg(env);
  pool->watch(pid);
  return state_of(env).atoms.ok;
}

// pool_wait(Pool, Always)
ERL_NIF_TERM pool_wait(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  State& state = state_of(env);
  auto** holder = get_resource<Pool*>(env, argv[0], state.pool_type);
  bool always = false;
  if (!holder || !get_boolean(state.atoms, argv[1], always)) return enif_make_badarg(env);
  Pool& pool = **holder;
  void* memory = enif_alloc_resource(state.ticket_type, sizeof(Ticket));
  if (!memory) throw std::bad_alloc();
  Pool::Pressure pressure;
  const bool accepted = pool.wait(always, pressure);
  auto* ticket = new (memory) Ticket(holder, accepted);
  const ERL_NIF_TERM term = accepted ? enif_make_tuple2(env, state.atoms.ok, enif_make_resource(env, ticket))
                                     : overload(env, pool, pressure);
  enif_release_resource(ticket);
  if (pressure.none_free) tell_watcher(env, pool);
  return term;
}

ERL_NIF_TERM pool_done(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  auto* ticket = get_resource<Ticket>(env, argv[0], state_of(env).ticket_type);
  if (!ticket) return enif_make_badarg(env);
  ticket->give_back();
  return state_of(env).atoms.ok;
}

ERL_NIF_TERM pool_pick(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  Pool* pool = get_pool(env, argv[0]);
  if (!pool) return enif_make_badarg(env);
  std::size_t place = 0;
  Pool::Pressure pressure;
  const Kept<WorkerChannel> channel(pool->pick(0, os::monotonic_ns(), place, pressure));
  if (!channel.get()) return state_of(env).atoms.none;
  return enif_make_tuple2(env, enif_make_uint64(env, place), where(env, channel.get(), place));
}

ERL_NIF_TERM pool_place(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Pool* pool = get_pool(env, argv[0]);
  ErlNifUInt64 hash = 0;
  if (!pool || !enif_get_uint64(env, argv[1], &hash)) return enif_make_badarg(env);
  return enif_make_uint64(env, pool->place_for(hash));
}

ERL_NIF_TERM pool_info(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  Pool* pool = get_pool(env, argv[0]);
  if (!pool) return enif_make_badarg(env);
  ERL_NIF_TERM places = enif_make_list(env, 0);
  pool->each([&](std::size_t index, const WorkerChannel& channel, bool reserved) {
    const ERL_NIF_TERM place =
        enif_make_tuple4(env, enif_make_uint64(env, index), reserved ? atoms.true_ : atoms.false_,
                         enif_make_uint(env, channel.in_flight()), enif_make_uint64(env, channel.serial()));
    places = enif_make_list_cell(env, place, places);
  });
  enif_make_reverse_list(env, places, &places);
  const ERL_NIF_TERM max_queue =
      pool->max_queue() == Pool::kUnlimited ? atoms.infinity : enif_make_uint64(env, pool->max_queue());
  ERL_NIF_TERM keys[] = {atoms.places, atoms.waiting, atoms.size, atoms.concurrency, atoms.max_queue};
  ERL_NIF_TERM values[] = {places, enif_make_uint64(env, pool->waiting()),
                           enif_make_uint64(env, pool->size()), enif_make_uint(env, pool->concurrency()),
                           max_queue};
  ERL_NIF_TERM info = 0;
  enif_make_map_from_arrays(env, keys, values, std::size(keys), &info);
  return info;
}

// [{Place, Serial, Counters}]
ERL_NIF_TERM pool_rings(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  Pool* pool = get_pool(env, argv[0]);
  if (!pool) return enif_make_badarg(env);
  ERL_NIF_TERM rings = enif_make_list(env, 0);
  pool->each([&](std::size_t index, WorkerChannel& channel, bool) {
    const ERL_NIF_TERM ring = enif_make_tuple3(
        env, enif_make_uint64(env, index), enif_make_uint64(env, channel.serial()), channel.ring_info(env));
    rings = enif_make_list_cell(env, ring, rings);
  });
  return rings;
}

}  // namespace typhon::beam::nifs

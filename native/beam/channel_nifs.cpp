// NIFs of channels: opening and closing them, and what they say of themselves.
#include <iterator>
#include <memory>

#include "beam/binary_loans.h"
#include "beam/handed.h"
#include "beam/nif_support.h"
#include "beam/nifs.h"
#include "beam/results.h"

namespace typhon::beam::nifs {

namespace {

bool get_option(ErlNifEnv* env, ERL_NIF_TERM map, ERL_NIF_TERM key, std::size_t& value) noexcept {
  ERL_NIF_TERM term = 0;
  ErlNifUInt64 number = 0;
  if (!enif_get_map_value(env, map, key, &term)) return true;  // absent: the default stays
  if (!enif_get_uint64(env, term, &number)) return false;
  value = number;
  return true;
}

// allow: all | [{Module, Function, Arity}], each of them also '_'. send_to: what Python may send to beside
// what it is handed.
bool get_allowed(ErlNifEnv* env, const Atoms& atoms, ERL_NIF_TERM map, std::shared_ptr<Handed>& handed) {
  ERL_NIF_TERM list = 0;
  if (!enif_get_map_value(env, map, atoms.allow, &list) || list == atoms.all) return true;
  std::vector<AllowedFunction> functions;
  ERL_NIF_TERM entry = 0;
  while (enif_get_list_cell(env, list, &entry, &list)) {
    int arity = 0;
    const ERL_NIF_TERM* parts = nullptr;
    if (!enif_get_tuple(env, entry, &arity, &parts) || arity != 3 || !enif_is_atom(env, parts[0]) ||
        !enif_is_atom(env, parts[1])) {
      return false;
    }
    if (!enif_get_int(env, parts[2], &arity)) arity = -1;
    functions.push_back({parts[0], parts[1], arity});
  }
  if (!enif_is_empty_list(env, list)) return false;
  handed = std::make_shared<Handed>(std::move(functions), atoms._);
  if (!enif_get_map_value(env, map, atoms.send_to, &list)) return true;
  while (enif_get_list_cell(env, list, &entry, &list)) handed->keep(handed_key(env, entry));
  return enif_is_empty_list(env, list);
}

// A number of bytes, or infinity.
bool get_limit(ErlNifEnv* env, ERL_NIF_TERM map, ERL_NIF_TERM key, const Atoms& atoms,
               std::size_t& value) noexcept {
  ERL_NIF_TERM term = 0;
  if (enif_get_map_value(env, map, key, &term) && term == atoms.infinity) {
    value = SIZE_MAX;
    return true;
  }
  return get_option(env, map, key, value);
}

}  // namespace

ERL_NIF_TERM channel_open(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  State& state = state_of(env);
  const Atoms& atoms = state.atoms;
  ErlNifPid owner;
  if (!enif_get_local_pid(env, argv[0], &owner) || !enif_is_map(env, argv[1])) return enif_make_badarg(env);
  ChannelOptions options;
  options.region.max_result = WorkerChannel::kMaxResult;
  std::size_t spin_us = options.spin_us;
  std::size_t worker_spin_us = options.region.worker_spin_us;
  if (!get_option(env, argv[1], atoms.ring_size, options.region.ring_size) ||
      !get_option(env, argv[1], atoms.arena_size, options.region.arena_size) ||
      !get_option(env, argv[1], atoms.spin_us, spin_us) ||
      !get_option(env, argv[1], atoms.worker_spin_us, worker_spin_us) || spin_us > 1'000 ||
      worker_spin_us > 10'000) {
    return enif_make_badarg(env);
  }
  if (!get_limit(env, argv[1], atoms.max_result, atoms, options.region.max_result) ||
      !get_limit(env, argv[1], atoms.max_held, atoms, options.max_held)) {
    return enif_make_badarg(env);
  }
  options.spin_us = static_cast<std::uint32_t>(spin_us);
  options.region.worker_spin_us = static_cast<std::uint32_t>(worker_spin_us);
  ERL_NIF_TERM value = 0;
  if (enif_get_map_value(env, argv[1], atoms.atoms, &value)) options.create_atoms = value == atoms.create;
  std::size_t atom_room = 0;
  if (!get_option(env, argv[1], atoms.atom_room, atom_room)) return enif_make_badarg(env);
  state.atom_room.open(static_cast<std::int64_t>(atom_room));
  if (enif_get_map_value(env, argv[1], atoms.embedded, &value)) options.embedded = value == atoms.true_;
  if (enif_get_map_value(env, argv[1], atoms.results, &value)) options.shared = value == atoms.shared;
  if (enif_get_map_value(env, argv[1], atoms.raw, &value)) options.raw = value == atoms.true_;
  if (enif_get_map_value(env, argv[1], atoms.pool, &value)) {
    ErlNifPid pool;
    if (!enif_get_local_pid(env, value, &pool)) return enif_make_badarg(env);
    options.pool = pool;
  }
  if (enif_get_map_value(env, argv[1], atoms.keys, &value) && value == atoms.strings)
    options.text |= Encoder::kKeysAsText;
  if (enif_get_map_value(env, argv[1], atoms.values, &value) && value == atoms.strings)
    options.text |= Encoder::kValuesAsText;
  if (enif_get_map_value(env, argv[1], atoms.mapset_version, &value) && value == atoms.true_) {
    options.region.flags |= channel::kFlagMapsetVersion;
  }
  if (enif_get_map_value(env, argv[1], atoms.duration, &value) && value == atoms.true_)
    options.region.flags |= channel::kFlagDuration;
  if (enif_get_map_value(env, argv[1], atoms.tagged, &value) && value == atoms.true_)
    options.region.flags |= channel::kFlagTagged;
  if (!get_allowed(env, atoms, argv[1], options.handed)) return enif_make_badarg(env);

  auto opened = WorkerChannel::open(env, state, owner, options);
  if (!opened.ok()) return error_tuple(env, opened.error().message);
  const Kept<WorkerChannel> channel(opened.value());
  const ERL_NIF_TERM keys[] = {atoms.fd, atoms.os_pid};
  const ERL_NIF_TERM values[] = {enif_make_int(env, channel->region().fd()), enif_make_int(env, ::getpid())};
  ERL_NIF_TERM place = 0;
  enif_make_map_from_arrays(env, const_cast<ERL_NIF_TERM*>(keys), const_cast<ERL_NIF_TERM*>(values), 2,
                            &place);
  return enif_make_tuple3(env, atoms.ok, enif_make_resource(env, channel.get()), place);
}

ERL_NIF_TERM channel_close(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  WorkerChannel* channel = get_channel(env, argv[0]);
  if (!channel) return enif_make_badarg(env);
  channel->close(env, argv[1]);
  return state_of(env).atoms.ok;
}

ERL_NIF_TERM channel_finish(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  WorkerChannel* channel = get_channel(env, argv[0]);
  if (!channel) return enif_make_badarg(env);
  return channel->close_if_idle(env, argv[1]) ? atoms.ok : atoms.busy;
}

ERL_NIF_TERM channel_notify(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  WorkerChannel* channel = get_channel(env, argv[0]);
  ErlNifUInt64 count = 0;
  if (!channel || !enif_get_uint64(env, argv[1], &count) || count == 0) return enif_make_badarg(env);
  return channel->notify_at(count) ? atoms.ok : atoms.reached;
}

// importing(Channel): any of its threads.
ERL_NIF_TERM channel_importing(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const WorkerChannel* channel = get_channel(env, argv[0]);
  if (!channel) return enif_make_badarg(env);
  const channel::Imports imports = channel->imports();
  return imports.is_any() ? imported(env, imports.name_for(0)) : state_of(env).atoms.nil;
}

ERL_NIF_TERM abandoned(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  WorkerChannel* channel = get_channel(env, argv[0]);
  ErlNifUInt64 id = 0;
  if (!channel || !enif_get_uint64(env, argv[1], &id)) return enif_make_badarg(env);
  switch (channel->abandoned(id)) {
    case WorkerChannel::Abandoned::kWaits:
      return atoms.waiting;
    case WorkerChannel::Abandoned::kIgnored:
      return atoms.ignored;
    case WorkerChannel::Abandoned::kRuns:
      return atoms.running;
    case WorkerChannel::Abandoned::kImports:
      return imported(env, channel->imports().name_for(id));
    case WorkerChannel::Abandoned::kEnded:
      return atoms.nil;
  }
  return atoms.nil;
}

ERL_NIF_TERM channel_info(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  WorkerChannel* channel = get_channel(env, argv[0]);
  return channel ? channel->info(env) : enif_make_badarg(env);
}

// loans() -> #{lent => {Count, Bytes}, borrowed => {Count, Bytes}}: of all channels that there have been.
ERL_NIF_TERM numbers(ErlNifEnv* env, int, const ERL_NIF_TERM[]) {
  ERL_NIF_TERM map = enif_make_new_map(env);
  for (const wire::Number& number : wire::kNumbers)
    enif_make_map_put(env, map, enif_make_atom(env, number.name), enif_make_uint64(env, number.value), &map);
  return map;
}

ERL_NIF_TERM loans(ErlNifEnv* env, int, const ERL_NIF_TERM[]) {
  const State& state = state_of(env);
  ERL_NIF_TERM keys[] = {state.atoms.lent, state.atoms.borrowed};
  ERL_NIF_TERM values[] = {tally_term(env, state.binary_loans->box().out), tally_term(env, state.borrowed)};
  ERL_NIF_TERM map = 0;
  enif_make_map_from_arrays(env, keys, values, std::size(keys), &map);
  return map;
}

// results() -> #{held, cached, limit}: bytes of private memory for results, of all channels there have been.
ERL_NIF_TERM results(ErlNifEnv* env, int, const ERL_NIF_TERM[]) {
  const State& state = state_of(env);
  channel::ResultMemory& memory = state.results->memory();
  ERL_NIF_TERM keys[] = {state.atoms.held, state.atoms.cached, state.atoms.limit};
  ERL_NIF_TERM values[] = {enif_make_uint64(env, memory.in_use()), enif_make_uint64(env, memory.cached()),
                           enif_make_uint64(env, memory.limit())};
  ERL_NIF_TERM map = 0;
  enif_make_map_from_arrays(env, keys, values, std::size(keys), &map);
  return map;
}

}  // namespace typhon::beam::nifs

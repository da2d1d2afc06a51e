// typhon_nif: the functions of Typhon.Native. docs/internals.md says what each takes and returns.
//
// Every entry goes through guarded(), the one place where a C++ exception becomes a BEAM one.

#include "beam/nif.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <exception>
#include <iterator>
#include <new>
#include <optional>

#include "beam/body_sink.h"
#include "beam/descriptor.h"
#include "beam/handed.h"
#include "beam/lender.h"
#include "beam/moving.h"
#include "beam/pool.h"
#include "beam/registry.h"
#include "beam/results.h"
#include "beam/term_decoder.h"
#include "beam/term_encoder.h"
#include "beam/worker_channel.h"
#include "os/clock.h"

namespace typhon::beam {

void Atoms::make(ErlNifEnv* env) noexcept {
#define TYPHON_MAKE_ATOM(name) name = enif_make_atom(env, #name);
  TYPHON_ATOMS(TYPHON_MAKE_ATOM)
#undef TYPHON_MAKE_ATOM
  true_ = enif_make_atom(env, "true");
  false_ = enif_make_atom(env, "false");
  struct_key = enif_make_atom(env, "__struct__");
  object = enif_make_atom(env, "Elixir.Typhon.Object");
  map_set = enif_make_atom(env, "Elixir.MapSet");
  const char* const known[] = {
      "Elixir.Date",          "Elixir.Time",         "Elixir.NaiveDateTime",    "Elixir.DateTime",
      "Elixir.MapSet",        "Elixir.Range",        "Elixir.Decimal",          "Elixir.Typhon.Bytes",
      "Elixir.Typhon.Buffer", "Elixir.Typhon.Array", "Elixir.Typhon.Iter.Loan",
  };
  static_assert(std::size(known) == std::extent_v<decltype(known_structs)>);
  for (std::size_t i = 0; i < std::size(known); ++i) known_structs[i] = enif_make_atom(env, known[i]);
}

bool Atoms::knows_struct(ERL_NIF_TERM module) const noexcept {
  for (const ERL_NIF_TERM known : known_structs) {
    if (known == module) return true;
  }
  return false;
}

namespace {

// What a normal scheduler may spend on one call: well below a millisecond.
constexpr std::size_t kQuickBytes = std::size_t{256} * 1024;
constexpr std::size_t kQuickTerms = 5'000;
// A plain reply of this size goes to the emulator's decoder at once, on a dirty scheduler.
constexpr std::size_t kPlainAtLeast = std::size_t{64} * 1024;

constexpr unsigned kTimingsFlag = 1;
constexpr unsigned kCaptureFlag = 2;
// The call says itself which atoms are written as text: the two bits below this one, in place of the
// channel's.
constexpr unsigned kOwnTextFlag = 16;
constexpr unsigned kTextShift = 2;
constexpr unsigned kTextMask = TermEncoder::kKeysAsText | TermEncoder::kValuesAsText;
// The call was accepted before: it is not to be refused for being one too many.
constexpr unsigned kAdmittedFlag = 128;

template <auto Function>
ERL_NIF_TERM guarded(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) noexcept {
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
T* get_resource(ErlNifEnv* env, ERL_NIF_TERM term, ErlNifResourceType* type) noexcept {
  void* found = nullptr;
  return enif_get_resource(env, term, type, &found) ? static_cast<T*>(found) : nullptr;
}

WorkerChannel* get_channel(ErlNifEnv* env, ERL_NIF_TERM term) noexcept {
  return get_resource<WorkerChannel>(env, term, state_of(env).channel_type);
}

Pool* get_pool(ErlNifEnv* env, ERL_NIF_TERM term) noexcept {
  auto** holder = get_resource<Pool*>(env, term, state_of(env).pool_type);
  return holder ? *holder : nullptr;
}

ERL_NIF_TERM error_tuple(ErlNifEnv* env, std::string_view message) noexcept {
  return enif_make_tuple2(env, state_of(env).atoms.error, make_binary(env, message));
}

// --- pools ---

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

// How a caller names the channel of its call: by its place in the pool and its serial number, for a term that
// holds a resource costs more than all the rest of submitting; by a resource when it lies in another pool.
ERL_NIF_TERM where(ErlNifEnv* env, WorkerChannel* channel, std::size_t place) noexcept {
  if (place == Pool::kNoPlace) return enif_make_resource(env, channel);
  return enif_make_uint64(env, (channel->serial() << 16) | place);
}

bool get_place(ErlNifEnv* env, const ERL_NIF_TERM argv[], Pool*& pool, unsigned& index) noexcept {
  pool = get_pool(env, argv[0]);
  return pool && enif_get_uint(env, argv[1], &index) && index < pool->size();
}

bool get_boolean(const Atoms& atoms, ERL_NIF_TERM term, bool& value) noexcept {
  value = term == atoms.true_;
  return value || term == atoms.false_;
}

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

void tell_watcher(ErlNifEnv* env, Pool& pool) noexcept {
  const Atoms& atoms = state_of(env).atoms;
  ErlNifPid watcher;
  if (pool.take_watch(watcher))
    enif_send(env, &watcher, nullptr, enif_make_tuple2(env, atoms.typhon, atoms.busy));
}

// {overload, Queued, Workers, Concurrency, MaxQueue}
ERL_NIF_TERM overload(ErlNifEnv* env, const Pool& pool, const Pool::Pressure& pressure) noexcept {
  const std::uint64_t all = pressure.calls + pool.waiting();
  const std::uint64_t running = pressure.workers * pool.concurrency();
  return enif_make_tuple5(env, state_of(env).atoms.overload,
                          enif_make_uint64(env, all > running ? all - running : 0),
                          enif_make_uint64(env, pressure.workers), enif_make_uint(env, pool.concurrency()),
                          enif_make_uint64(env, pool.max_queue()));
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

// --- channels ---

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
  if (enif_get_map_value(env, argv[1], atoms.keys, &value) && value == atoms.strings)
    options.text |= TermEncoder::kKeysAsText;
  if (enif_get_map_value(env, argv[1], atoms.values, &value) && value == atoms.strings)
    options.text |= TermEncoder::kValuesAsText;
  if (enif_get_map_value(env, argv[1], atoms.mapset_version, &value) && value == atoms.true_) {
    options.region.flags |= channel::kFlagMapsetVersion;
  }
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

ERL_NIF_TERM imported(ErlNifEnv* env, const std::string& name) {
  return enif_make_tuple2(env, state_of(env).atoms.importing, make_binary(env, name));
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
ERL_NIF_TERM loans(ErlNifEnv* env, int, const ERL_NIF_TERM[]) {
  const State& state = state_of(env);
  ERL_NIF_TERM keys[] = {state.atoms.lent, state.atoms.borrowed};
  ERL_NIF_TERM values[] = {tally_term(env, state.lender->box().out), tally_term(env, state.borrowed)};
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

// --- calls ---

template <bool kDirty>
ERL_NIF_TERM call(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);

bool get_deadline(ErlNifEnv* env, ERL_NIF_TERM timeout, const Atoms& atoms, std::uint64_t now,
                  std::uint64_t& deadline) noexcept {
  deadline = 0;
  if (timeout == atoms.infinity) return true;
  ErlNifUInt64 milliseconds = 0;
  if (!enif_get_uint64(env, timeout, &milliseconds) || milliseconds > 0xffff'ffffU) return false;
  deadline = now + milliseconds * 1'000'000;
  return true;
}

ERL_NIF_TERM cannot_encode(ErlNifEnv* env, const Atoms& atoms, const char* message) noexcept {
  return enif_make_tuple3(env, atoms.cannot_encode, make_binary(env, "args"), make_binary(env, message));
}

ERL_NIF_TERM poll(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);

// The channel that where() named, nullptr when it is not in the pool any more: then it is closed, and its
// calls have their answers.
Kept<WorkerChannel> find_channel(ErlNifEnv* env, Pool* pool, ERL_NIF_TERM where) noexcept {
  ErlNifUInt64 number = 0;
  if (pool && enif_get_uint64(env, where, &number))
    return Kept<WorkerChannel>(pool->find(number & 0xffff, number >> 16));
  WorkerChannel* channel = get_channel(env, where);
  if (channel) enif_keep_resource(channel);
  return Kept<WorkerChannel>(channel);
}

// The caller goes to the end of its scheduler's queue, and looks for its reply when its turn comes: while
// many call at once that is cheaper than a message, for which it would have to be woken.
ERL_NIF_TERM next_turn(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) noexcept {
  enif_consume_timeslice(env, 100);
  return enif_schedule_nif(env, "poll", 0, guarded<poll>, argc, argv);
}

ERL_NIF_TERM time_left(ErlNifEnv* env, std::uint64_t deadline) noexcept {
  if (deadline == 0) return state_of(env).atoms.infinity;
  const std::uint64_t now = os::monotonic_ns();
  return enif_make_uint64(env, deadline > now ? (deadline - now + 999'999) / 1'000'000 : 0);
}

// poll(Pool, Where, Id, Ref)
ERL_NIF_TERM poll(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  Pool* pool = get_pool(env, argv[0]);
  ErlNifUInt64 id = 0;
  if (!pool || !enif_get_uint64(env, argv[2], &id)) return enif_make_badarg(env);
  const Kept<WorkerChannel> channel = find_channel(env, pool, argv[1]);
  if (!channel.get()) return enif_make_tuple2(env, atoms.down, atoms.closed);
  const Polled polled = channel->poll(env, id, argv[3]);
  switch (polled.outcome) {
    case Polled::Outcome::kReplied:
      return polled.reply;
    case Polled::Outcome::kAgain:
      return next_turn(env, argc, argv);
    case Polled::Outcome::kWaiting:
      return enif_make_tuple4(env, atoms.wait, argv[1], argv[2], time_left(env, polled.deadline));
    case Polled::Outcome::kNotStarted:
      return enif_make_tuple2(env, atoms.not_started, time_left(env, polled.deadline));
  }
  return enif_make_badarg(env);
}

// The last argument of call(): Bits, or {Bits, Where, Parent}. Bits: 0 timings, 1 capture, 2 to 4 which atoms
// are written as text, 7 admitted, from 8 the place and 1, or 0 for the least loaded worker.
struct CallFlags {
  unsigned bits = 0;
  ERL_NIF_TERM where = 0;  // 0: not named
  ErlNifUInt64 parent = 0;
};

bool get_flags(ErlNifEnv* env, ERL_NIF_TERM term, CallFlags& flags) noexcept {
  if (enif_get_uint(env, term, &flags.bits)) [[likely]]
    return true;
  int arity = 0;
  const ERL_NIF_TERM* elements = nullptr;
  if (!enif_get_tuple(env, term, &arity, &elements) || arity != 3) return false;
  flags.where = elements[1];
  ErlNifUInt64 number = 0;
  return enif_get_uint(env, elements[0], &flags.bits) && enif_get_uint64(env, elements[2], &flags.parent) &&
         (enif_get_uint64(env, flags.where, &number) || get_channel(env, flags.where));
}

// Encodes a term into the sink, or says what the NIF is to return instead (to go on in a NIF on another
// scheduler: 0). `elsewhere(encoder)`: an object in the term lives on another worker; nullptr to begin again
// with what `channel` is then, or what is wrong with that. `awaited`: somebody waits for what becomes of it.
template <bool kDirty, class Encode, class Elsewhere, class GoDirty>
std::optional<ERL_NIF_TERM> encode_body(ErlNifEnv* env, const Kept<WorkerChannel>& channel, ERL_NIF_TERM ref,
                                        BodySink& sink, bool awaited, bool movable, Encode encode,
                                        Elsewhere elsewhere, GoDirty go_dirty) {
  State& state = state_of(env);
  const Atoms& atoms = state.atoms;
  using Status = TermEncoder::Status;
  bool retried = false;
  for (;;) {
    sink.start(channel.get(), !awaited);
    TermEncoder encoder(env, state, channel.get(), sink);
    if (!kDirty) encoder.limit(kQuickTerms);
    const Status status = encode(encoder);
    if (status == Status::kDone) return std::nullopt;
    if (status == Status::kNeedsEncoder) return enif_make_tuple1(env, atoms.encoder);
    if (status == Status::kBadTerm) return cannot_encode(env, atoms, encoder.message());
    if (status == Status::kOtherChannel) {
      if (const char* wrong = elsewhere(encoder)) return cannot_encode(env, atoms, wrong);
      continue;
    }
    if (sink.over_limit() || status == Status::kOverBudget) return go_dirty();
    if (!sink.no_room()) return cannot_encode(env, atoms, encoder.message());
    ErlNifPid self;
    enif_self(env, &self);
    if (channel->wait_for_segments(self, ref, movable)) {
      return enif_make_tuple2(env, atoms.room, enif_make_resource(env, channel.get()));
    }
    // Nothing to wait for: room was made just now, or there will never be enough.
    if (!std::exchange(retried, true)) continue;
    return cannot_encode(env, atoms, "larger than what is free of the worker's request memory (arena_size)");
  }
}

// Hands over a request with the body that was encoded.
Submitted submit(ErlNifEnv* env, WorkerChannel& channel, Request& request, ERL_NIF_TERM ref, BodySink& sink) {
  request.env = env;
  enif_self(env, &request.caller);
  request.ref = ref;
  request.body = {sink.data, sink.size};
  request.segment_length = sink.size;
  request.segment = sink.take();
  request.loans = sink.loans();
  request.lent_bytes = sink.bounded_bytes();
  const Submitted submitted = channel.submit(request);
  using Outcome = Submitted::Outcome;
  const bool accepted = submitted.outcome != Outcome::kNoRoom && submitted.outcome != Outcome::kDown &&
                        submitted.outcome != Outcome::kElsewhere;
  if (accepted) sink.sent();
  // A call costs its caller reductions, or one that is always answered in the spin would never yield.
  enif_consume_timeslice(env, static_cast<int>(std::min<std::size_t>(1 + sink.size / 4096, 100)));
  return submitted;
}

// A call that waits behind others may have to go to another worker.
void note_queue(const State& state, Pool& pool, const WorkerChannel& channel) noexcept {
  if (channel.weight() > pool.concurrency() && pool.note_queue()) state.mover->wake();
}

template <bool kDirty>
ERL_NIF_TERM call(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  State& state = state_of(env);
  const Atoms& atoms = state.atoms;
  Pool* pool = get_pool(env, argv[0]);
  unsigned kind = 0;
  CallFlags flags;
  Request request{};
  std::size_t place = 0;
  request.now = os::monotonic_ns();
  if (!pool || !enif_is_ref(env, argv[1]) || !enif_get_uint(env, argv[2], &kind) || kind > 1 ||
      !get_deadline(env, argv[7], atoms, request.now, request.deadline) || !get_flags(env, argv[8], flags)) {
    return enif_make_badarg(env);
  }
  Kept<WorkerChannel> channel(nullptr);
  if (flags.where == 0) [[likely]] {
    Pool::Pressure pressure;
    channel.reset(pool->pick(flags.bits >> 8, request.now, place, pressure));
    if (!channel.get() && flags.bits >> 8 != 0)
      return enif_make_tuple2(env, atoms.held, enif_make_uint64(env, place));
    if (pressure.none_free) {
      tell_watcher(env, *pool);
      if (channel.get() && (flags.bits & kAdmittedFlag) == 0 && pool->refuses(pressure))
        return overload(env, *pool, pressure);
    }
    if (!channel.get()) return atoms.no_worker;
    request.was_idle = pressure.idle;
  } else {
    channel = find_channel(env, pool, flags.where);
    if (!channel.get() || channel->closed()) return enif_make_tuple2(env, atoms.down, atoms.gone);
    place = pool->place_of(channel.get());
  }

  std::array<std::uint8_t, WorkerChannel::kMaxInline> stack;  // uninitialised on purpose
  BodySink sink(stack.data(), stack.size(), kDirty ? SIZE_MAX : kQuickBytes);
  int redirected = 0;
  // Its caller, and no object in it, says where it is to run.
  request.movable =
      kind == 0 && flags.where == 0 && flags.bits >> 8 == 0 && !channel->raw() && pool->size() > 1;
  const std::optional<ERL_NIF_TERM> instead = encode_body<kDirty>(
      env, channel, argv[1], sink, kind == 0, request.movable,
      [&](TermEncoder& encoder) {
        if ((flags.bits & kOwnTextFlag) != 0) encoder.text((flags.bits >> kTextShift) & kTextMask);
        const TermEncoder::Status status = encoder.call(argv[3], argv[4], argv[5], argv[6]);
        if (encoder.has_objects()) request.movable = false;
        return status;
      },
      [&](TermEncoder& encoder) -> const char* {
        if (redirected++ > 0) return "objects that live on different workers";
        enif_keep_resource(encoder.other());
        channel.reset(encoder.other());
        request.was_idle = false;
        place = pool->place_of(channel.get());
        return nullptr;
      },
      [&] {
        return enif_schedule_nif(env, "call", ERL_NIF_DIRTY_JOB_CPU_BOUND, guarded<call<true>>, argc, argv);
      });
  if (instead) return *instead;
  // Only now it is known where it goes.
  if (redirected != 0 && place != Pool::kNoPlace && (flags.bits & kAdmittedFlag) == 0) {
    const Pool::Pressure pressure = pool->pressure_at(*channel.get());
    if (pressure.none_free && pool->refuses(pressure)) return overload(env, *pool, pressure);
  }

  request.kind = kind == 0 ? channel::Kind::kCall : channel::Kind::kCast;
  request.timings = (flags.bits & kTimingsFlag) != 0;
  request.parent = flags.parent;
  request.captures = (flags.bits & kCaptureFlag) != 0;
  request.admitted = (flags.bits & kAdmittedFlag) != 0;
  // An object of another pool: there is nobody here to wait for that worker with.
  request.named = (flags.where != 0 && redirected == 0) || place == Pool::kNoPlace;
  const Submitted submitted = submit(env, *channel.get(), request, argv[1], sink);
  using Outcome = Submitted::Outcome;
  if (request.movable && submitted.outcome != Outcome::kReplied) note_queue(state, *pool, *channel.get());
  switch (submitted.outcome) {
    case Outcome::kReplied:
      return submitted.reply;
    case Outcome::kDown:
      // The channel was closed after it was picked: the worker has not seen the request, another one may. A
      // call that names its worker has no other.
      if (redirected == 0 && flags.where == 0 && !channel->raw()) {
        return enif_make_tuple2(env, atoms.not_started, time_left(env, request.deadline));
      }
      return submitted.reply;
    case Outcome::kPolling: {
      const ERL_NIF_TERM turn[] = {argv[0], where(env, channel.get(), place),
                                   enif_make_uint64(env, submitted.id), argv[1]};
      return next_turn(env, std::size(turn), turn);
    }
    case Outcome::kWaiting:
      return enif_make_tuple4(env, atoms.wait, where(env, channel.get(), place),
                              enif_make_uint64(env, submitted.id), argv[7]);
    case Outcome::kAccepted:
      return atoms.ok;
    case Outcome::kNoRoom:
      return enif_make_tuple2(env, atoms.room, enif_make_resource(env, channel.get()));
    case Outcome::kElsewhere:
      // Only the worker of an object has nobody to stand in for it.
      if (redirected != 0) return enif_make_tuple2(env, atoms.held, enif_make_uint64(env, place));
      return enif_schedule_nif(env, "call", kDirty ? ERL_NIF_DIRTY_JOB_CPU_BOUND : 0, guarded<call<kDirty>>,
                               argc, argv);
  }
  return enif_make_badarg(env);
}

// tell(Pool | nil, Where, Ref, Kind, Tag, Term): an answer to what Python asked, or a message for it. Kind:
// 0 answer, 1 failure, 2 message; 4 more when the caller waits for what Python says next; the bits 3 to 5 are
// 2 to 4 of call()'s.
template <bool kDirty>
ERL_NIF_TERM tell(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  State& state = state_of(env);
  const Atoms& atoms = state.atoms;
  Pool* pool = get_pool(env, argv[0]);
  unsigned kind = 0;
  ErlNifUInt64 tag = 0;
  constexpr unsigned kWaits = 4;
  constexpr unsigned kKinds = 3;
  constexpr unsigned kMost = 63;
  if (!enif_is_ref(env, argv[2]) || !enif_get_uint(env, argv[3], &kind) || kind > kMost ||
      (kind & kKinds) == kKinds || !enif_get_uint64(env, argv[4], &tag)) {
    return enif_make_badarg(env);
  }
  const bool waits = (kind & kWaits) != 0;
  const unsigned text = kind >> 1;
  kind &= kKinds;
  const Kept<WorkerChannel> channel = find_channel(env, pool, argv[1]);
  if (!channel.get()) return enif_make_tuple2(env, atoms.down, atoms.closed);
  std::array<std::uint8_t, WorkerChannel::kMaxInline> stack;  // uninitialised on purpose
  BodySink sink(stack.data(), stack.size(), kDirty ? SIZE_MAX : kQuickBytes);
  const std::optional<ERL_NIF_TERM> instead = encode_body<kDirty>(
      env, channel, argv[2], sink, kind != 2, false,
      [&](TermEncoder& encoder) {
        if ((text & kOwnTextFlag) != 0) encoder.text((text >> kTextShift) & kTextMask);
        return encoder.value(argv[5]);
      },
      [](TermEncoder&) { return "an object that lives on another worker"; },
      [&] {
        return enif_schedule_nif(env, "tell", ERL_NIF_DIRTY_JOB_CPU_BOUND, guarded<tell<true>>, argc, argv);
      });
  if (instead) return *instead;
  Request request{};
  request.now = os::monotonic_ns();
  request.kind = kind == 2 ? channel::Kind::kMessage : channel::Kind::kAnswer;
  request.named = true;  // it is for this worker, also when a session has it
  request.tag = tag;
  request.failed = kind == 1;
  request.waits = waits;
  const Submitted submitted = submit(env, *channel.get(), request, argv[2], sink);
  switch (submitted.outcome) {
    case Submitted::Outcome::kAccepted:
      return atoms.ok;
    case Submitted::Outcome::kNoRoom:
      return enif_make_tuple2(env, atoms.room, enif_make_resource(env, channel.get()));
    default:
      return submitted.reply != 0 ? submitted.reply : enif_make_tuple2(env, atoms.down, atoms.closed);
  }
}

ERL_NIF_TERM cancel(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  Pool* pool = get_pool(env, argv[0]);
  ErlNifUInt64 id = 0;
  if (!pool || !enif_get_uint64(env, argv[2], &id)) return enif_make_badarg(env);
  const Kept<WorkerChannel> channel = find_channel(env, pool, argv[1]);
  if (!channel.get()) return atoms.delivered;
  return channel->cancel(env, id) == WorkerChannel::Cancel::kCancelled ? atoms.cancelled : atoms.delivered;
}

// importing(Pool, Where, Id): for this call.
ERL_NIF_TERM call_importing(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  Pool* pool = get_pool(env, argv[0]);
  ErlNifUInt64 id = 0;
  if (!pool || !enif_get_uint64(env, argv[2], &id)) return enif_make_badarg(env);
  const Kept<WorkerChannel> channel = find_channel(env, pool, argv[1]);
  if (!channel.get() || !channel->imports_for(id)) return state_of(env).atoms.nil;
  return imported(env, channel->imports().name_for(id));
}

// hold(ObjectRef, Boolean)
ERL_NIF_TERM hold(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const State& state = state_of(env);
  auto* handle = get_resource<ObjectHandle>(env, argv[0], state.object_type);
  bool wanted = false;
  if (!handle || !get_boolean(state.atoms, argv[1], wanted)) return enif_make_badarg(env);
  if (handle->held.exchange(wanted, std::memory_order_relaxed) != wanted) {
    wanted ? handle->channel->hold() : handle->channel->let_go();
  }
  return state.atoms.ok;
}

ERL_NIF_TERM cancel_room(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  WorkerChannel* channel = get_channel(env, argv[0]);
  if (!channel || !enif_is_ref(env, argv[1])) return enif_make_badarg(env);
  channel->stop_waiting_for_room(argv[1]);
  return state_of(env).atoms.ok;
}

template <bool kDirty>
ERL_NIF_TERM decode(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  State& state = state_of(env);
  auto* segment = get_resource<SegmentHandle>(env, argv[0], state.segment_type);
  if (!segment) return enif_make_badarg(env);
  if (segment->decoded.load(std::memory_order_acquire)) return enif_make_badarg(env);
  const auto go_dirty = [&] {
    return enif_schedule_nif(env, "decode", ERL_NIF_DIRTY_JOB_CPU_BOUND, guarded<decode<true>>, argc, argv);
  };
  WorkerChannel& channel = *segment->channel;
  const std::size_t size = segment->body.size();
  const bool plain = segment->plain && size >= kPlainAtLeast && !channel.handed();
  // Handles are not to be made a second time when the first attempt has taken too long.
  if (!kDirty && (plain || (segment->has_objects && size > kQuickTerms))) return go_dirty();
  using Refusal = WorkerChannel::Refusal;
  if (const Refusal refusal = channel.take_in(*segment, kDirty); refusal != Refusal::kNone) {
    if (refusal == Refusal::kTakesTime) return go_dirty();
    const bool full = refusal == Refusal::kHeld || refusal == Refusal::kHeldByAll;
    if (full && !std::exchange(segment->collected, true)) return state.atoms.held;
    const ERL_NIF_TERM reply = channel.refuse_segment(env, env, *segment, refusal);
    return segment->timed ? timed_term(env, state.atoms, reply, segment->times) : reply;
  }
  TermDecoder decoder(env, channel);
  decoder.lend(segment);
  decoder.borrow(segment->loans);
  if (!kDirty) decoder.limit(kQuickTerms, kQuickBytes);
  const ERL_NIF_TERM reply = plain ? decoder.decode_plain_reply(*segment) : decoder.decode_reply(*segment);
  if (!kDirty && decoder.over_budget()) return go_dirty();
  channel.done_with(*segment);
  return segment->timed ? timed_term(env, state.atoms, reply, segment->times) : reply;
}

// --- signals ---

ERL_NIF_TERM signalled(ErlNifEnv* env, Signalled result) noexcept {
  const Atoms& atoms = state_of(env).atoms;
  switch (result) {
    case Signalled::kSent:
      return atoms.ok;
    case Signalled::kNoProcess:
      return enif_make_tuple2(env, atoms.error, atoms.no_process);
    case Signalled::kNotPermitted:
      return enif_make_tuple2(env, atoms.error, atoms.not_permitted);
    case Signalled::kInvalid:
      break;
  }
  return enif_make_tuple2(env, atoms.error, atoms.invalid);
}

// adopt(Channel, PortOsPid, ClaimedOsPid)
ERL_NIF_TERM adopt(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  WorkerChannel* channel = get_channel(env, argv[0]);
  int port = 0;
  if (!channel || !enif_get_int(env, argv[1], &port)) return enif_make_badarg(env);
  int claimed = 0;
  if (!enif_get_int(env, argv[2], &claimed)) return enif_make_tuple2(env, atoms.error, atoms.foreign);
  switch (channel->process().adopt(port, claimed)) {
    case OwnProcess::Adopted::kYes:
      return atoms.ok;
    case OwnProcess::Adopted::kGone:
      return enif_make_tuple2(env, atoms.error, atoms.no_process);
    case OwnProcess::Adopted::kForeign:
      break;
  }
  return enif_make_tuple2(env, atoms.error, atoms.foreign);
}

// channel_heard(Channel, Kind, Weight). Kind: 0 statements, 1 questions, 2 what only had to be refused.
ERL_NIF_TERM channel_heard(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  WorkerChannel* channel = get_channel(env, argv[0]);
  unsigned kind = 0;
  unsigned count = 0;
  if (!channel || !enif_get_uint(env, argv[1], &kind) || kind >= Quota::kKinds ||
      !enif_get_uint(env, argv[2], &count)) {
    return enif_make_badarg(env);
  }
  channel->dealt_with(static_cast<Quota::Of>(kind), count);
  return state_of(env).atoms.ok;
}

// ask_heard(Pool, Where, Id): the caller of that call has dealt with one thing that it was asked or told.
ERL_NIF_TERM ask_heard(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  ErlNifUInt64 id = 0;
  if (!enif_get_uint64(env, argv[2], &id)) return enif_make_badarg(env);
  const Kept<WorkerChannel> channel = find_channel(env, get_pool(env, argv[0]), argv[1]);
  if (channel.get()) channel->ask_heard(id);
  return state_of(env).atoms.ok;
}

// handed(Pool | nil, Where, Term): whether Python may send to it.
ERL_NIF_TERM handed(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  const Kept<WorkerChannel> channel = find_channel(env, get_pool(env, argv[0]), argv[1]);
  return channel.get() && channel->may_reach(env, argv[2]) ? atoms.true_ : atoms.false_;
}

// control(Pool | nil, Where, Pid | nil, Message): whether it is one of those that Python may not send to
// others.
ERL_NIF_TERM control(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  const Kept<WorkerChannel> channel = find_channel(env, get_pool(env, argv[0]), argv[1]);
  if (!channel.get()) return atoms.true_;
  ErlNifPid to;
  const bool itself = enif_get_local_pid(env, argv[2], &to) && channel->is_owner(to);
  return itself || channel->may_say(env, argv[3]) ? atoms.false_ : atoms.true_;
}

// post(Pool | nil, Where, Pid, Message): ok when it is the owner's pid, none when it is not, gone with the
// channel.
ERL_NIF_TERM post(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  const Kept<WorkerChannel> channel = find_channel(env, get_pool(env, argv[0]), argv[1]);
  if (!channel.get()) return atoms.gone;
  ErlNifPid to;
  if (!enif_get_local_pid(env, argv[2], &to) || !channel->is_owner(to)) return atoms.none;
  OwnedEnv message;
  channel->post(env, message.get(), to, enif_make_copy(message.get(), argv[3]));
  return atoms.ok;
}

ERL_NIF_TERM kill_worker(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  WorkerChannel* channel = get_channel(env, argv[0]);
  int signal = 0;
  if (!channel || !enif_get_int(env, argv[1], &signal)) return enif_make_badarg(env);
  return signalled(env, channel->process().signal(signal));
}

ERL_NIF_TERM kill_pid(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  int pid = 0;
  int signal = 0;
  if (!enif_get_int(env, argv[0], &pid) || !enif_get_int(env, argv[1], &signal)) return enif_make_badarg(env);
  return signalled(env, signal_process(pid, signal));
}

// --- life of the library ---

void destroy_pool(ErlNifEnv* env, void* object) noexcept {
  Pool* pool = *static_cast<Pool**>(object);
  state_of(env).mover->remove(*pool);
  delete pool;
}

void destroy_ticket(ErlNifEnv*, void* object) noexcept { static_cast<Ticket*>(object)->~Ticket(); }

void destroy_channel(ErlNifEnv*, void* object) noexcept {
  static_cast<WorkerChannel*>(object)->~WorkerChannel();
}

void channel_process_down(ErlNifEnv* env, void* object, ErlNifPid*, ErlNifMonitor* monitor) noexcept {
  static_cast<WorkerChannel*>(object)->process_down(env, *monitor);
}

void destroy_segment(ErlNifEnv*, void* object) noexcept {
  auto* segment = static_cast<SegmentHandle*>(object);
  WorkerChannel* const channel = segment->channel;
  channel->forget_segment(*segment);
  segment->~SegmentHandle();
  enif_release_resource(channel);
}

void destroy_borrowed(ErlNifEnv*, void* object) noexcept {
  const auto* borrowed = static_cast<Borrowed*>(object);
  borrowed->channel->borrowed().remove(borrowed->loan->size);
  borrowed->channel->state().borrowed.remove(borrowed->loan->size);
  channel::let_go(*borrowed->loan);
  enif_release_resource(borrowed->channel);
}

void destroy_body(ErlNifEnv*, void* object) noexcept { static_cast<PrivateBody*>(object)->~PrivateBody(); }

void destroy_object(ErlNifEnv*, void* object) noexcept {
  auto* handle = static_cast<ObjectHandle*>(object);
  if (handle->held.load(std::memory_order_relaxed)) handle->channel->let_go();
  if (!handle->disowned) handle->channel->release_object(handle->id);
  enif_release_resource(handle->channel);
}

ErlNifResourceType* open_type(ErlNifEnv* env, const char* name, ErlNifResourceDtor* destroy,
                              ErlNifResourceDown* down, ErlNifResourceFlags flags) noexcept {
  ErlNifResourceTypeInit init{};
  init.dtor = destroy;
  init.down = down;
  init.members = down ? 3 : 1;
  return enif_init_resource_type(env, name, &init, flags, nullptr);
}

bool open_types(ErlNifEnv* env, State& state, ErlNifResourceFlags flags) noexcept {
  state.pool_type = open_type(env, "typhon_pool", destroy_pool, nullptr, flags);
  state.channel_type = open_type(env, "typhon_channel", destroy_channel, channel_process_down, flags);
  state.segment_type = open_type(env, "typhon_segment", destroy_segment, nullptr, flags);
  state.borrowed_type = open_type(env, "typhon_borrowed", destroy_borrowed, nullptr, flags);
  state.body_type = open_type(env, "typhon_body", destroy_body, nullptr, flags);
  state.object_type = open_type(env, "typhon_object", destroy_object, nullptr, flags);
  state.ticket_type = open_type(env, "typhon_ticket", destroy_ticket, nullptr, flags);
  return state.ticket_type && state.pool_type && state.channel_type && state.segment_type &&
         state.object_type && state.borrowed_type && state.body_type &&
         open_descriptor_type(env, state, flags);
}

int load(ErlNifEnv* env, void** priv_data, ERL_NIF_TERM) noexcept {
  auto* state = new (std::nothrow) State;
  if (!state) return 1;
  state->registry = new (std::nothrow) Registry;
  state->lender = new (std::nothrow) Lender;
  state->results = new (std::nothrow) Results;
  state->mover = new (std::nothrow) Mover;
  state->atoms.make(env);
  if (!state->registry || !state->lender || !state->results || !state->mover ||
      !open_types(env, *state, ERL_NIF_RT_CREATE)) {
    delete state->mover;
    delete state->results;
    delete state->lender;
    delete state->registry;
    delete state;
    return 2;
  }
  *priv_data = state;
  return 0;
}

// The new library takes over everything when the layout is the same: the threads run the old library's code,
// which may go away, so each is stopped and started again from the new one.
int upgrade(ErlNifEnv* env, void** priv_data, void** old_priv_data, ERL_NIF_TERM) noexcept {
  auto* state = static_cast<State*>(*old_priv_data);
  if (!state || state->layout != State::kLayout) return 1;
  if (!open_types(env, *state, static_cast<ErlNifResourceFlags>(ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER)))
    return 2;
  state->registry->join_ended();
  if (state->lender->stop_thread() && !state->lender->ensure_thread()) return 3;
  if (state->results->stop_thread() && !state->results->ensure_thread()) return 3;
  if (state->mover->stop_thread()) state->mover->wake();
  for (WorkerChannel* channel : state->registry->keep_all()) {
    if (channel->stop_reader()) channel->start_reader();
    enif_release_resource(channel);
  }
  // The old instance keeps its pointer: calls that are under way in it still use it.
  state->instances.fetch_add(1, std::memory_order_relaxed);
  *priv_data = state;
  return 0;
}

void unload(ErlNifEnv* env, void* priv_data) noexcept {
  auto* state = static_cast<State*>(priv_data);
  if (state->instances.fetch_sub(1, std::memory_order_acq_rel) > 1) return;  // an upgrade has taken it over
  for (WorkerChannel* channel : state->registry->keep_all()) {
    channel->close(env, state->atoms.closed);
    channel->join_reader();
    enif_release_resource(channel);
  }
  state->registry->join_ended();
  state->lender->stop_thread();
  state->results->stop_thread();
  state->mover->stop_thread();
  // Terms may still hold resources, whose destructors reach the registry: it stays for as long as the VM.
}

ErlNifFunc functions[] = {
    {"pool_new", 1, guarded<pool_new>, 0},
    {"pool_new", 2, guarded<pool_new>, 0},
    {"pool_put", 3, guarded<pool_put>, 0},
    {"pool_sweep", 1, guarded<pool_sweep>, 0},
    {"pool_reserve", 3, guarded<pool_reserve>, 0},
    {"pool_active", 3, guarded<pool_active>, 0},
    {"pool_watch", 2, guarded<pool_watch>, 0},
    {"pool_wait", 2, guarded<pool_wait>, 0},
    {"pool_done", 1, guarded<pool_done>, 0},
    {"pool_pick", 1, guarded<pool_pick>, 0},
    {"pool_place", 2, guarded<pool_place>, 0},
    {"pool_info", 1, guarded<pool_info>, 0},
    {"channel_open", 2, guarded<channel_open>, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"channel_close", 2, guarded<channel_close>, 0},
    {"channel_finish", 2, guarded<channel_finish>, 0},
    {"channel_notify", 2, guarded<channel_notify>, 0},
    {"abandoned", 2, guarded<abandoned>, 0},
    {"importing", 1, guarded<channel_importing>, 0},
    {"importing", 3, guarded<call_importing>, 0},
    {"loans", 0, guarded<loans>, 0},
    {"results", 0, guarded<results>, 0},
    {"channel_info", 1, guarded<channel_info>, 0},
    {"call", 9, guarded<call<false>>, 0},
    {"tell", 6, guarded<tell<false>>, 0},
    {"cancel", 3, guarded<cancel>, 0},
    {"hold", 2, guarded<hold>, 0},
    {"cancel_room", 2, guarded<cancel_room>, 0},
    {"decode", 1, guarded<decode<false>>, 0},
    {"adopt", 3, guarded<adopt>, 0},
    {"channel_heard", 3, guarded<channel_heard>, 0},
    {"ask_heard", 3, guarded<ask_heard>, 0},
    {"handed?", 3, guarded<handed>, 0},
    {"control?", 4, guarded<control>, 0},
    {"post", 4, guarded<post>, 0},
    {"kill", 2, guarded<kill_worker>, 0},
    {"kill_pid", 2, guarded<kill_pid>, 0},
    {"process_watch", 1, guarded<process_watch>, 0},
    {"interpreter_start", 1, guarded<interpreter_start>, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"interpreter_spawn", 1, guarded<interpreter_spawn>, 0},
    {"output_open", 0, guarded<output_open>, 0},
    {"interpreter_job", 4, guarded<interpreter_job>, 0},
    {"descriptor_read", 1, guarded<descriptor_read>, 0},
    {"descriptor_write", 2, guarded<descriptor_write>, 0},
    {"descriptor_close", 1, guarded<descriptor_close>, 0},
};

}  // namespace
}  // namespace typhon::beam

using typhon::beam::functions;
using typhon::beam::load;
using typhon::beam::unload;
using typhon::beam::upgrade;

extern "C" {
ERL_NIF_INIT(Elixir.Typhon.Native, functions, load, nullptr, upgrade, unload)
}

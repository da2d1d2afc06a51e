// typhon_nif: the functions of Typhon.Native. docs/internals.md says what each takes and returns.
//
// Every entry goes through guarded(), the one place where a C++ exception becomes a BEAM one.

#include "beam/nif.h"

#include <unistd.h>

#include <iterator>
#include <new>

#include "beam/binary_loans.h"
#include "beam/descriptor.h"
#include "beam/handed.h"
#include "beam/moving.h"
#include "beam/nif_support.h"
#include "beam/nifs.h"
#include "beam/open_channels.h"
#include "beam/pool.h"
#include "beam/results.h"
#include "beam/worker_channel.h"

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
      "Elixir.Date",          "Elixir.Time",          "Elixir.NaiveDateTime", "Elixir.DateTime",
      "Elixir.MapSet",        "Elixir.Range",         "Elixir.Decimal",       "Elixir.Duration",
      "Elixir.Typhon.Bytes",  "Elixir.Typhon.Buffer", "Elixir.Typhon.Array",  "Elixir.Typhon.Iter.Reference",
      "Elixir.Typhon.Struct",
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
  state.notifier_type = open_type(env, "typhon_notifier", destroy_notifier, nullptr, flags);
  return state.ticket_type && state.notifier_type && state.pool_type && state.channel_type &&
         state.segment_type && state.object_type && state.borrowed_type && state.body_type &&
         open_descriptor_type(env, state, flags);
}

int load(ErlNifEnv* env, void** priv_data, ERL_NIF_TERM) noexcept {
  auto* state = new (std::nothrow) State;
  if (!state) return 1;
  state->open_channels = new (std::nothrow) OpenChannels;
  state->binary_loans = new (std::nothrow) BinaryLoans;
  state->results = new (std::nothrow) Results;
  state->mover = new (std::nothrow) Mover;
  state->atoms.make(env);
  if (!state->open_channels || !state->binary_loans || !state->results || !state->mover ||
      !open_types(env, *state, ERL_NIF_RT_CREATE)) {
    delete state->mover;
    delete state->results;
    delete state->binary_loans;
    delete state->open_channels;
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
  state->open_channels->join_ended();
  if (state->binary_loans->stop_thread() && !state->binary_loans->ensure_thread()) return 3;
  if (state->results->stop_thread() && !state->results->ensure_thread()) return 3;
  if (state->mover->stop_thread()) state->mover->wake();
  for (WorkerChannel* channel : state->open_channels->keep_all()) {
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
  for (WorkerChannel* channel : state->open_channels->keep_all()) {
    channel->close(env, state->atoms.closed);
    channel->join_reader();
    enif_release_resource(channel);
  }
  state->open_channels->join_ended();
  state->binary_loans->stop_thread();
  state->results->stop_thread();
  state->mover->stop_thread();
  // Terms may still hold resources, whose destructors reach the list of open channels: it stays for as long
  // as the VM.
}

ErlNifFunc functions[] = {
    {"pool_new", 1, guarded<nifs::pool_new>, 0},
    {"pool_new", 2, guarded<nifs::pool_new>, 0},
    {"pool_put", 3, guarded<nifs::pool_put>, 0},
    {"pool_sweep", 1, guarded<nifs::pool_sweep>, 0},
    {"pool_reserve", 3, guarded<nifs::pool_reserve>, 0},
    {"pool_active", 3, guarded<nifs::pool_active>, 0},
    {"pool_watch", 2, guarded<nifs::pool_watch>, 0},
    {"pool_wait", 2, guarded<nifs::pool_wait>, 0},
    {"pool_done", 1, guarded<nifs::pool_done>, 0},
    {"pool_pick", 1, guarded<nifs::pool_pick>, 0},
    {"pool_place", 2, guarded<nifs::pool_place>, 0},
    {"pool_info", 1, guarded<nifs::pool_info>, 0},
    {"pool_rings", 1, guarded<nifs::pool_rings>, 0},
    {"channel_open", 2, guarded<nifs::channel_open>, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"channel_close", 2, guarded<nifs::channel_close>, 0},
    {"channel_finish", 2, guarded<nifs::channel_finish>, 0},
    {"channel_notify", 2, guarded<nifs::channel_notify>, 0},
    {"abandoned", 2, guarded<nifs::abandoned>, 0},
    {"importing", 1, guarded<nifs::channel_importing>, 0},
    {"importing", 3, guarded<nifs::call_importing>, 0},
    {"numbers", 0, guarded<nifs::numbers>, 0},
    {"loans", 0, guarded<nifs::loans>, 0},
    {"results", 0, guarded<nifs::results>, 0},
    {"channel_info", 1, guarded<nifs::channel_info>, 0},
    {"call", 9, guarded<nifs::call>, 0},
    {"tell", 7, guarded<nifs::tell>, 0},
    {"next", 4, guarded<nifs::next>, 0},
    {"cancel", 3, guarded<nifs::cancel>, 0},
    {"hold", 2, guarded<nifs::hold>, 0},
    {"same_worker?", 2, guarded<nifs::same_worker>, 0},
    {"cancel_room", 2, guarded<nifs::cancel_room>, 0},
    {"decode", 1, guarded<nifs::decode>, 0},
    {"adopt", 3, guarded<nifs::adopt>, 0},
    {"channel_heard", 3, guarded<nifs::channel_heard>, 0},
    {"handed?", 3, guarded<nifs::handed>, 0},
    {"control?", 4, guarded<nifs::control>, 0},
    {"post", 4, guarded<nifs::post>, 0},
    {"kill", 2, guarded<nifs::kill_worker>, 0},
    {"kill_pid", 2, guarded<nifs::kill_pid>, 0},
    {"process_watch", 1, guarded<process_watch>, 0},
    {"interpreter_start", 1, guarded<interpreter_start>, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"interpreter_spawn", 1, guarded<interpreter_spawn>, 0},
    {"output_open", 0, guarded<output_open>, 0},
    {"interpreter_job", 4, guarded<interpreter_job>, 0},
    {"descriptor_read", 1, guarded<descriptor_read>, 0},
    {"descriptor_write", 2, guarded<descriptor_write>, 0},
    {"notifier", 2, guarded<nifs::notifier>, 0},
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

#include "beam/process_watch.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <new>

namespace typhon::beam {
namespace {

struct ProcessWatch {
  int fd;
  ErlNifMonitor owner{};
  std::atomic<bool> stopped{false};
};

// The emulator may be polling the descriptor on another thread: only its stop callback may close it.
void stop_selecting(ErlNifEnv* env, ProcessWatch* watch) noexcept {
  if (!watch->stopped.exchange(true)) {
    enif_select(env, watch->fd, ERL_NIF_SELECT_STOP, watch, nullptr, enif_make_atom(env, "undefined"));
  }
}

void on_stop(ErlNifEnv*, void*, ErlNifEvent event, int) noexcept { ::close(event); }

void on_owner_down(ErlNifEnv* env, void* object, ErlNifPid*, ErlNifMonitor*) noexcept {
  stop_selecting(env, static_cast<ProcessWatch*>(object));
}

}  // namespace

ERL_NIF_TERM process_watch(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const State& state = state_of(env);
  const Atoms& atoms = state.atoms;
  int pid = 0;
  if (!enif_get_int(env, argv[0], &pid)) return enif_make_badarg(env);
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) return enif_make_tuple2(env, atoms.error, errno == ESRCH ? atoms.no_process : atoms.invalid);

  auto* watch =
      new (enif_alloc_resource(state.process_watch_type, sizeof(ProcessWatch))) ProcessWatch{.fd = fd};
  const ERL_NIF_TERM term = enif_make_resource(env, watch);
  enif_release_resource(watch);
  ErlNifPid self;
  enif_self(env, &self);
  if (enif_select(env, fd, ERL_NIF_SELECT_READ, watch, &self, enif_make_atom(env, "undefined")) < 0) {
    ::close(fd);
    watch->stopped = true;
    return enif_make_tuple2(env, atoms.error, atoms.invalid);
  }
  enif_monitor_process(env, watch, &self, &watch->owner);
  return enif_make_tuple2(env, atoms.ok, term);
}

ERL_NIF_TERM process_unwatch(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const State& state = state_of(env);
  void* object = nullptr;
  if (!enif_get_resource(env, argv[0], state.process_watch_type, &object)) return enif_make_badarg(env);
  auto* watch = static_cast<ProcessWatch*>(object);
  enif_demonitor_process(env, watch, &watch->owner);
  stop_selecting(env, watch);
  return state.atoms.ok;
}

bool open_process_watch_type(ErlNifEnv* env, State& state, ErlNifResourceFlags flags) noexcept {
  ErlNifResourceTypeInit init{};
  init.stop = on_stop;
  init.down = on_owner_down;
  init.members = 3;
  state.process_watch_type = enif_init_resource_type(env, "typhon_process_watch", &init, flags, nullptr);
  return state.process_watch_type != nullptr;
}

}  // namespace typhon::beam

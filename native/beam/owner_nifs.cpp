// NIFs of a worker's owner: its process, what Python may reach, and what has been dealt with.

#include "beam/handed.h"
#include "beam/nif_support.h"
#include "beam/nifs.h"

namespace typhon::beam::nifs {

namespace {

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

}  // namespace

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

}  // namespace typhon::beam::nifs

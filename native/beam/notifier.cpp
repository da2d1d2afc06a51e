// A term whose end somebody hears of: a drop-in's struct that stands for an object of another node.

#include <new>

#include "beam/nif_support.h"
#include "beam/nifs.h"

namespace typhon::beam {
namespace {

struct Notifier {
  ErlNifPid pid;
  OwnedEnv env;  // of the message
  ERL_NIF_TERM message;
};

}  // namespace

void destroy_notifier(ErlNifEnv* env, void* object) noexcept {
  auto* notifier = static_cast<Notifier*>(object);
  enif_send(env, &notifier->pid, notifier->env.get(), notifier->message);
  notifier->~Notifier();
}

// notifier(Pid, Message)
ERL_NIF_TERM nifs::notifier(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  ErlNifPid pid;
  if (!enif_get_local_pid(env, argv[0], &pid)) return enif_make_badarg(env);
  void* memory = enif_alloc_resource(state_of(env).notifier_type, sizeof(Notifier));
  if (!memory) throw std::bad_alloc();
  auto* notifier = new (memory) Notifier{pid, {}, 0};
  notifier->message = enif_make_copy(notifier->env.get(), argv[1]);
  const ERL_NIF_TERM term = enif_make_resource(env, notifier);
  enif_release_resource(notifier);
  return term;
}

}  // namespace typhon::beam

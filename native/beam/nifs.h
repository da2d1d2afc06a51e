// The functions of Typhon.Native, by the file that has them. docs/internals.md says what each takes and
// returns.
#pragma once

#include "beam/nif.h"

namespace typhon::beam {

// notifier.cpp: the destructor of State::notifier_type
void destroy_notifier(ErlNifEnv* env, void* object) noexcept;

}  // namespace typhon::beam

namespace typhon::beam::nifs {

using Nif = ERL_NIF_TERM(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);

// pool_nifs.cpp
Nif pool_new;
Nif pool_put;
Nif pool_sweep;
Nif pool_reserve;
Nif pool_active;
Nif pool_watch;
Nif pool_wait;
Nif pool_done;
Nif pool_pick;
Nif pool_place;
Nif pool_info;
Nif pool_rings;

// channel_nifs.cpp
Nif channel_open;
Nif channel_close;
Nif channel_finish;
Nif channel_notify;
Nif abandoned;
Nif channel_importing;
Nif numbers;
Nif loans;
Nif results;
Nif channel_info;

// call_nifs.cpp
Nif call_importing;
Nif call;
Nif tell;
Nif next;
Nif cancel;
Nif hold;
Nif same_worker;
Nif cancel_room;
Nif decode;

// owner_nifs.cpp
Nif adopt;
Nif channel_heard;
Nif handed;
Nif control;
Nif post;
Nif kill_worker;
Nif kill_pid;

// notifier.cpp
Nif notifier;

}  // namespace typhon::beam::nifs

// ProcessWatch: tells an Elixir process that a process of the operating system has ended.
//
// A Port reports its program's exit status only when nobody holds the program's stdout open any more, and a
// child that user code started may do so for long. A pidfd becomes readable when the process itself ends.
//
// Life. A resource of the BEAM. While it is selected the emulator keeps it; the selection ends with
// unwatch(), with the end of the process that watches, or with the library. Any scheduler may call.
#pragma once

#include "beam/nif.h"

namespace typhon::beam {

// process_watch(OsPid) -> {ok, Watch} | {error, Reason}. The caller gets {select, Watch, undefined,
// ready_input} once.
ERL_NIF_TERM process_watch(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);
// process_unwatch(Watch) -> ok. Idempotent.
ERL_NIF_TERM process_unwatch(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);

bool open_process_watch_type(ErlNifEnv* env, State& state, ErlNifResourceFlags flags) noexcept;

}  // namespace typhon::beam

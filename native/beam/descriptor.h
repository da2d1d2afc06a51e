// Descriptor: a file descriptor of this process as a term: read, written and closed by Elixir, and waited for
// by the emulator.
//
// Life. A resource. It is closed by descriptor_close(), by the end of the process that opened it, or with the
// last term that names it. While it is selected the emulator may be polling it on another thread: only its
// stop callback closes it. Any scheduler may call.
//
// Four sorts: that of a process, which tells that a process has ended; the pipe by which the output of a
// worker comes; the control pipe of an interpreter in the BEAM; and the socket by which it gets its jobs.
#pragma once

#include "beam/nif.h"

namespace typhon::beam {

// process_watch(OsPid) -> {ok, Descriptor} | {error, Reason}. The caller gets {select, Descriptor, undefined,
// ready_input} once.
ERL_NIF_TERM process_watch(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);

// interpreter_start(#{libpython, program, package, bridge, guard, environment, host}) -> {ok, Socket} |
// {error, Text}. With `host => true` it runs no jobs: interpreter_spawn(Socket) -> {ok, Socket} | {error,
// Text} makes sub-interpreters of it. What has failed comes by the new socket, or it is closed.
ERL_NIF_TERM interpreter_start(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM interpreter_spawn(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);

// output_open() -> {ok, Output, Fd} | {error, Text}. A pipe that is read here. Its other end has the number
// Fd as long as the descriptor is open, so a worker can open that through /proc, and the pipe has no end
// before.
ERL_NIF_TERM output_open(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);

// interpreter_job(Socket, Job, MemoryFd, Output) -> {ok, Control} | {error, Text}. Hands a job over, with the
// ends of its pipes; the memory of its channel stays open here.
ERL_NIF_TERM interpreter_job(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);

// descriptor_read(Descriptor) -> {ok, Binary} | again | eof | {error, Text}. After `again` the caller gets
// {select, Descriptor, undefined, ready_input}. A message of a socket is read as a whole.
ERL_NIF_TERM descriptor_read(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);
// descriptor_write(Descriptor, Binary) -> ok | {error, Text}. Up to 4096 bytes to a pipe, whole or not at
// all; never waits.
ERL_NIF_TERM descriptor_write(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);
// descriptor_close(Descriptor) -> ok. Idempotent.
ERL_NIF_TERM descriptor_close(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);

bool open_descriptor_type(ErlNifEnv* env, State& state, ErlNifResourceFlags flags) noexcept;

}  // namespace typhon::beam

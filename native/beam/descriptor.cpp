#include "beam/descriptor.h"

#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "embed/namespace.h"
#include "os/descriptor.h"
#include "os/process.h"

namespace typhon::beam {
namespace {

constexpr std::size_t kReadAtOnce = std::size_t{64} * 1024;

struct Descriptor {
  int fd;
  int writer = -1;  // the other end of a pipe for output
  ErlNifMonitor owner{};
  std::atomic<bool> closed{false};
};

// The emulator may be polling the descriptor on another thread: only its stop callback may close it.
void close_descriptor(ErlNifEnv* env, Descriptor* descriptor) noexcept {
  if (!descriptor->closed.exchange(true)) {
    if (descriptor->writer >= 0) ::close(descriptor->writer);
    enif_select(env, descriptor->fd, ERL_NIF_SELECT_STOP, descriptor, nullptr,
                enif_make_atom(env, "undefined"));
  }
}

void on_stop(ErlNifEnv*, void*, ErlNifEvent event, int) noexcept { ::close(event); }

void on_owner_down(ErlNifEnv* env, void* object, ErlNifPid*, ErlNifMonitor*) noexcept {
  close_descriptor(env, static_cast<Descriptor*>(object));
}

// Nobody names it any more, so nothing is selected.
void destroy(ErlNifEnv*, void* object) noexcept {
  auto* descriptor = static_cast<Descriptor*>(object);
  if (descriptor->closed.exchange(true)) return;
  if (descriptor->writer >= 0) ::close(descriptor->writer);
  ::close(descriptor->fd);
}

Descriptor* get_descriptor(ErlNifEnv* env, ERL_NIF_TERM term) noexcept {
  void* object = nullptr;
  return enif_get_resource(env, term, state_of(env).descriptor_type, &object)
             ? static_cast<Descriptor*>(object)
             : nullptr;
}

bool select_input(ErlNifEnv* env, Descriptor* descriptor) noexcept {
  ErlNifPid self;
  enif_self(env, &self);
  return enif_select(env, descriptor->fd, ERL_NIF_SELECT_READ, descriptor, &self,
                     enif_make_atom(env, "undefined")) >= 0;
}

// Takes the descriptor over: it goes with the calling process.
ERL_NIF_TERM make_descriptor(ErlNifEnv* env, os::UniqueFd fd, os::UniqueFd writer = os::UniqueFd()) noexcept {
  auto* descriptor = new (enif_alloc_resource(state_of(env).descriptor_type, sizeof(Descriptor)))
      Descriptor{.fd = fd.release(), .writer = writer.release()};
  const ERL_NIF_TERM term = enif_make_resource(env, descriptor);
  enif_release_resource(descriptor);
  ErlNifPid self;
  enif_self(env, &self);
  enif_monitor_process(env, descriptor, &self, &descriptor->owner);
  return term;
}

ERL_NIF_TERM failed(ErlNifEnv* env, std::string_view text) noexcept {
  return enif_make_tuple2(env, state_of(env).atoms.error, make_binary(env, text));
}

ERL_NIF_TERM system_failed(ErlNifEnv* env, const char* what, int reason) {
  return failed(env, std::string(what) + ": " + std::strerror(reason));
}

bool get_text(ErlNifEnv* env, ERL_NIF_TERM term, std::string& text) {
  ErlNifBinary binary;
  if (!enif_inspect_binary(env, term, &binary)) return false;
  text.assign(reinterpret_cast<const char*>(binary.data), binary.size);
  return text.find('\0') == std::string::npos;
}

bool get_field(ErlNifEnv* env, ERL_NIF_TERM map, const char* name, std::string& text) {
  ERL_NIF_TERM value = 0;
  return enif_get_map_value(env, map, enif_make_atom(env, name), &value) && get_text(env, value, text);
}

bool make_socket(os::UniqueFd& ours, os::UniqueFd& theirs) noexcept {
  return os::make_message_pair(ours, theirs) && os::set_nonblocking(ours.get());
}

constexpr std::size_t kMaxDescriptors = 3;

bool send_with(int socket, std::span<unsigned char> message, std::span<const int> fds) noexcept {
  iovec part{message.data(), message.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = CMSG_SPACE(fds.size_bytes());
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  return ::sendmsg(socket, &header, MSG_NOSIGNAL) >= 0;
}

}  // namespace

ERL_NIF_TERM process_watch(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  int pid = 0;
  if (!enif_get_int(env, argv[0], &pid)) return enif_make_badarg(env);
  os::UniqueFd fd = os::open_process(pid);
  if (!fd.valid())
    return enif_make_tuple2(env, atoms.error, errno == ESRCH ? atoms.no_process : atoms.invalid);
  const ERL_NIF_TERM watch = make_descriptor(env, std::move(fd));
  if (!select_input(env, get_descriptor(env, watch)))
    return enif_make_tuple2(env, atoms.error, atoms.invalid);
  return enif_make_tuple2(env, atoms.ok, watch);
}

ERL_NIF_TERM interpreter_start(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  embed::NamespaceSpec spec;
  ERL_NIF_TERM environment = 0;
  if (!get_field(env, argv[0], "libpython", spec.libpython) ||
      !get_field(env, argv[0], "bridge", spec.bridge) || !get_field(env, argv[0], "guard", spec.guard) ||
      !get_field(env, argv[0], "program", spec.program) ||
      !get_field(env, argv[0], "package", spec.package) ||
      !enif_get_map_value(env, argv[0], enif_make_atom(env, "environment"), &environment)) {
    return enif_make_badarg(env);
  }
  ERL_NIF_TERM variable = 0;
  while (enif_get_list_cell(env, environment, &variable, &environment)) {
    std::string text;
    if (!get_text(env, variable, text)) return enif_make_badarg(env);
    spec.environment.push_back(std::move(text));
  }
  ERL_NIF_TERM host = 0;
  spec.host = enif_get_map_value(env, argv[0], enif_make_atom(env, "host"), &host) &&
              enif_is_identical(host, state_of(env).atoms.true_);
  os::UniqueFd ours;
  os::UniqueFd theirs;
  if (!make_socket(ours, theirs)) return system_failed(env, "the socket of an interpreter", errno);
  if (const Status started = embed::start_namespace(spec, theirs.get()); !started.ok())
    return failed(env, started.error().message);
  return enif_make_tuple2(env, state_of(env).atoms.ok, make_descriptor(env, std::move(ours)));
}

ERL_NIF_TERM interpreter_spawn(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  Descriptor* host = get_descriptor(env, argv[0]);
  if (!host) return enif_make_badarg(env);
  os::UniqueFd ours;
  os::UniqueFd theirs;
  if (!make_socket(ours, theirs)) return system_failed(env, "the socket of an interpreter", errno);
  unsigned char message = 0;
  const int fd = theirs.get();
  if (host->closed || !send_with(host->fd, {&message, 1}, {&fd, 1}))
    return system_failed(env, "the host of the interpreters", errno);
  return enif_make_tuple2(env, state_of(env).atoms.ok, make_descriptor(env, std::move(ours)));
}

ERL_NIF_TERM output_open(ErlNifEnv* env, int, const ERL_NIF_TERM*) {
  os::UniqueFd output;
  os::UniqueFd writer;
  if (!os::make_pipe(output, writer) || !os::set_nonblocking(output.get()))
    return system_failed(env, "the pipe for a worker's output", errno);
  const ERL_NIF_TERM fd = enif_make_int(env, writer.get());
  return enif_make_tuple3(env, state_of(env).atoms.ok,
                          make_descriptor(env, std::move(output), std::move(writer)), fd);
}

ERL_NIF_TERM interpreter_job(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  Descriptor* socket = get_descriptor(env, argv[0]);
  ErlNifBinary job;
  int memory = 0;
  Descriptor* output = get_descriptor(env, argv[3]);
  if (!socket || !output || !enif_inspect_binary(env, argv[1], &job) ||
      !enif_get_int(env, argv[2], &memory)) {
    return enif_make_badarg(env);
  }
  os::UniqueFd control;
  os::UniqueFd their_control;
  if (!os::make_pipe(their_control, control) || !os::set_nonblocking(control.get()))
    return system_failed(env, "the control pipe of a job", errno);
  const int fds[kMaxDescriptors] = {memory, their_control.get(), output->writer};
  if (socket->closed || output->closed || !send_with(socket->fd, {job.data, job.size}, fds))
    return system_failed(env, "a job", errno);
  return enif_make_tuple2(env, state_of(env).atoms.ok, make_descriptor(env, std::move(control)));
}

ERL_NIF_TERM descriptor_read(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  Descriptor* descriptor = get_descriptor(env, argv[0]);
  if (!descriptor) return enif_make_badarg(env);
  if (descriptor->closed) return atoms.eof;
  std::vector<unsigned char> buffer(kReadAtOnce);
  ssize_t count = 0;
  do {
    count = ::read(descriptor->fd, buffer.data(), buffer.size());
  } while (count < 0 && errno == EINTR);
  if (count > 0) {
    const std::string_view text(reinterpret_cast<const char*>(buffer.data()),
                                static_cast<std::size_t>(count));
    return enif_make_tuple2(env, atoms.ok, make_binary(env, text));
  }
  if (count == 0) return atoms.eof;
  if (errno == EAGAIN || errno == EWOULDBLOCK)
    return select_input(env, descriptor) ? atoms.again : failed(env, "the descriptor cannot be waited for");
  return system_failed(env, "reading", errno);
}

ERL_NIF_TERM descriptor_write(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  Descriptor* descriptor = get_descriptor(env, argv[0]);
  ErlNifBinary bytes;
  if (!descriptor || !enif_inspect_binary(env, argv[1], &bytes)) return enif_make_badarg(env);
  if (descriptor->closed) return failed(env, "closed");
  // SIGPIPE is ignored by the emulator; what does not fit into a pipe as a whole is not written at all.
  const ssize_t count = ::write(descriptor->fd, bytes.data, bytes.size);
  if (count == static_cast<ssize_t>(bytes.size)) return state_of(env).atoms.ok;
  return system_failed(env, "writing", count < 0 ? errno : EAGAIN);
}

ERL_NIF_TERM descriptor_close(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  Descriptor* descriptor = get_descriptor(env, argv[0]);
  if (!descriptor) return enif_make_badarg(env);
  enif_demonitor_process(env, descriptor, &descriptor->owner);
  close_descriptor(env, descriptor);
  return state_of(env).atoms.ok;
}

bool open_descriptor_type(ErlNifEnv* env, State& state, ErlNifResourceFlags flags) noexcept {
  ErlNifResourceTypeInit init{};
  init.dtor = destroy;
  init.stop = on_stop;
  init.down = on_owner_down;
  init.members = 3;
  state.descriptor_type = enif_init_resource_type(env, "typhon_descriptor", &init, flags, nullptr);
  return state.descriptor_type != nullptr;
}

}  // namespace typhon::beam

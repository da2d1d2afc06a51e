// The stand-in for the emulator: environments, resources, processes, threads, and the library that is loaded.
#include "testing/emulator.h"

#include <sched.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <utility>

#include "testing/emulator_world.h"

namespace typhon::testing {

namespace {

// False: it is being destroyed.
bool keep_if_alive(Resource& resource) noexcept {
  std::size_t count = resource.count.load(std::memory_order_relaxed);
  while (count != 0) {
    if (resource.count.compare_exchange_weak(count, count + 1, std::memory_order_acq_rel)) return true;
  }
  return false;
}

}  // namespace

World& world() {
  static auto* const kWorld = new World;  // threads may outlast main()
  return *kWorld;
}

[[noreturn]] void missing(const char* what) {
  std::fprintf(stderr, "the stand-in for the emulator has no %s\n", what);
  std::abort();
}

void release(Resource& resource) noexcept {
  if (resource.count.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  std::unordered_map<std::uint64_t, ERL_NIF_TERM> monitored;
  {
    const std::lock_guard lock(resource.mutex);
    monitored.swap(resource.monitored);
  }
  for (const auto& [number, pid] : monitored) {
    const std::lock_guard lock(world().living);
    if (Process* process = at(pid).process) process->demonitor(number);
  }
  enif_environment_t env;
  resource.type->dtor(&env, resource.memory());
  resource.~Resource();
  ::operator delete (static_cast<void*>(&resource), std::align_val_t{alignof(Resource)});
  world().resources.fetch_sub(1);
}

// --- processes ---

Process::Process() {
  World& all = world();
  const std::lock_guard lock(all.mutex);
  all.pids.push_back(std::make_unique<Term>(
      Term{.kind = Kind::kPid, .number = all.counter.fetch_add(1) + 1, .process = this}));
  pid_.pid = name_of(*all.pids.back());
  heap_.self = pid_;
}

Process::~Process() { kill(); }

ERL_NIF_TERM Process::map(std::initializer_list<std::pair<const char*, ERL_NIF_TERM>> entries) {
  ERL_NIF_TERM map = enif_make_new_map(&heap_);
  for (const auto& [key, value] : entries) enif_make_map_put(&heap_, map, atom(key), value, &map);
  return map;
}

ERL_NIF_TERM Process::binary(std::string_view bytes) {
  ERL_NIF_TERM term = 0;
  unsigned char* data = enif_make_new_binary(&heap_, bytes.size(), &term);
  std::copy(bytes.begin(), bytes.end(), data);
  return term;
}

std::optional<ERL_NIF_TERM> Process::call(std::string_view name, std::initializer_list<ERL_NIF_TERM> args) {
  const ErlNifEntry& entry = *world().entry;
  const ErlNifFunc* found = nullptr;
  for (int i = 0; i < entry.num_of_funcs && !found; ++i) {
    const ErlNifFunc& candidate = entry.funcs[i];
    if (candidate.name == name && candidate.arity == args.size()) found = &candidate;
  }
  if (!found) missing(std::string(name).c_str());
  auto result =
      turn(found->fptr, static_cast<int>(found->flags), static_cast<int>(args.size()), args.begin());
  while (const auto next = std::exchange(heap_.next, nullptr)) {
    ::sched_yield();
    const std::vector<ERL_NIF_TERM> next_args = std::exchange(heap_.next_args, {});
    result = turn(next, heap_.next_flags, static_cast<int>(next_args.size()), next_args.data());
  }
  if (result && heap_.raised) {
    std::fprintf(stderr, "%.*s raised %s\n", static_cast<int>(name.size()), name.data(),
                 text_of(*result).c_str());
    std::abort();
  }
  return result;
}

std::optional<ERL_NIF_TERM> Process::turn(ERL_NIF_TERM (*nif)(ErlNifEnv*, int, const ERL_NIF_TERM[]),
                                          int flags, int argc, const ERL_NIF_TERM argv[]) {
  std::unique_lock lock(*turn_);
  if (!alive()) return std::nullopt;
  if (flags != 0) lock.unlock();
  const ERL_NIF_TERM result = nif(&heap_, argc, argv);
  return alive() ? std::optional(result) : std::nullopt;
}

std::size_t Process::messages() {
  const std::lock_guard lock(*mutex_);
  return mailbox_.size();
}

bool Process::put(std::unique_ptr<enif_environment_t>& env, ERL_NIF_TERM message) {
  const std::lock_guard lock(*mutex_);
  if (!alive()) return false;
  mailbox_.push_back({std::move(env), message});
  came_.notify_all();
  return true;
}

bool Process::monitor(Resource& resource, ErlNifMonitor& monitor) {
  const std::uint64_t number = world().counter.fetch_add(1) + 1;
  std::memset(&monitor, 0, sizeof monitor);
  std::memcpy(&monitor, &number, sizeof number);
  const std::scoped_lock lock(*mutex_, resource.mutex);
  if (!alive()) return false;
  monitors_.emplace(number, &resource);
  resource.monitored.emplace(number, pid_.pid);
  return true;
}

bool Process::demonitor(std::uint64_t number) {
  const std::lock_guard lock(*mutex_);
  return monitors_.erase(number) != 0;
}

void Process::kill() noexcept {
  std::deque<Message> mailbox;
  std::vector<std::pair<std::uint64_t, Resource*>> told;
  {
    const std::lock_guard between_turns(*turn_);
    const std::lock_guard reached(world().living);
    const std::lock_guard lock(*mutex_);
    if (!alive_.exchange(false)) return;
    mutable_at(pid_.pid).process = nullptr;
    mailbox.swap(mailbox_);
    for (const auto& [number, resource] : monitors_) {
      if (keep_if_alive(*resource)) told.emplace_back(number, resource);
    }
    monitors_.clear();
    came_.notify_all();
  }
  for (const auto& [number, resource] : told) {
    bool still = false;
    {
      const std::lock_guard lock(resource->mutex);
      still = resource->monitored.erase(number) != 0;
    }
    if (still) {
      enif_environment_t env;
      ErlNifMonitor monitor{};
      std::memcpy(&monitor, &number, sizeof number);
      resource->type->down(&env, resource->memory(), &pid_, &monitor);
    }
    release(*resource);
  }
}

// --- the library ---

Emulator::Emulator(ErlNifEntry* entry) {
  world().entry = entry;
  enif_environment_t env;
  if (entry->load(&env, &world().priv_data, intern("undefined")) != 0) missing("library that can be loaded");
}

Emulator::~Emulator() {
  enif_environment_t env;
  world().entry->unload(&env, world().priv_data);
}

std::size_t Emulator::resources() noexcept { return world().resources.load(); }

}  // namespace typhon::testing

using namespace typhon::testing;  // what follows has names of C alone

enif_environment_t::~enif_environment_t() { clear(); }

void enif_environment_t::clear() noexcept {
  // A destructor may make terms; not in this environment.
  const std::vector<std::unique_ptr<Term>> gone = std::exchange(terms, {});
  for (const auto& term : gone) {
    if (term->resource) release(*term->resource);
  }
  raised = false;
}

ERL_NIF_TERM enif_environment_t::keep(std::unique_ptr<Term> term) {
  terms.push_back(std::move(term));
  return name_of(*terms.back());
}

extern "C" {

void* enif_priv_data(ErlNifEnv*) { return world().priv_data; }
ErlNifEnv* enif_alloc_env() { return new enif_environment_t; }
void enif_free_env(ErlNifEnv* env) { delete env; }
void enif_clear_env(ErlNifEnv* env) { env->clear(); }
ERL_NIF_TERM enif_make_copy(ErlNifEnv* to, ERL_NIF_TERM term) { return copy(to, term); }
int enif_is_identical(ERL_NIF_TERM a, ERL_NIF_TERM b) { return compare(a, b) == 0 ? 1 : 0; }
int enif_compare(ERL_NIF_TERM a, ERL_NIF_TERM b) { return compare(a, b); }
int enif_consume_timeslice(ErlNifEnv*, int) { return 0; }
ERL_NIF_TERM enif_make_badarg(ErlNifEnv* env) {
  env->raised = true;
  return intern("badarg");
}
ERL_NIF_TERM enif_raise_exception(ErlNifEnv* env, ERL_NIF_TERM reason) {
  env->raised = true;
  return reason;
}
ERL_NIF_TERM enif_schedule_nif(ErlNifEnv* env, const char*, int flags,
                               ERL_NIF_TERM (*next)(ErlNifEnv*, int, const ERL_NIF_TERM[]), int argc,
                               const ERL_NIF_TERM argv[]) {
  env->next = next;
  env->next_flags = flags;
  env->next_args.assign(argv, argv + argc);
  return 0;
}

// Resources

ErlNifResourceType* enif_init_resource_type(ErlNifEnv*, const char* name, const ErlNifResourceTypeInit* init,
                                            ErlNifResourceFlags, ErlNifResourceFlags*) {
  auto type = std::make_unique<enif_resource_type_t>();
  type->name = name;
  type->dtor = init->dtor;
  type->down = init->down;
  world().types.push_back(std::move(type));
  return world().types.back().get();
}
void* enif_alloc_resource(ErlNifResourceType* type, size_t size) {
  void* const memory = ::operator new (sizeof(Resource) + size, std::align_val_t{alignof(Resource)});
  auto* const resource = new (memory) Resource(type, size);
  world().resources.fetch_add(1);
  return resource->memory();
}
void enif_keep_resource(void* object) { Resource::of(object).count.fetch_add(1, std::memory_order_relaxed); }
void enif_release_resource(void* object) { release(Resource::of(object)); }
ERL_NIF_TERM enif_make_resource(ErlNifEnv* env, void* object) {
  enif_keep_resource(object);
  return make(env, {.kind = Kind::kReference,
                    .number = reinterpret_cast<std::uint64_t>(object),
                    .resource = &Resource::of(object)});
}
int enif_get_resource(ErlNifEnv*, ERL_NIF_TERM term, ErlNifResourceType* type, void** object) {
  Resource* const resource = at(term).resource;
  if (!is(term, Kind::kReference) || !resource || resource->type != type) return 0;
  *object = resource->memory();
  return 1;
}

// Processes

ErlNifPid* enif_self(ErlNifEnv* env, ErlNifPid* pid) {
  *pid = env->self;
  return env->self.pid != 0 ? pid : nullptr;
}
int enif_get_local_pid(ErlNifEnv*, ERL_NIF_TERM term, ErlNifPid* pid) {
  pid->pid = term;
  return is(term, Kind::kPid) ? 1 : 0;
}
int enif_is_process_alive(ErlNifEnv*, ErlNifPid* pid) {
  const std::lock_guard lock(world().living);
  return at(pid->pid).process ? 1 : 0;
}
int enif_send(ErlNifEnv*, const ErlNifPid* to, ErlNifEnv* env, ERL_NIF_TERM message) {
  auto sent = std::make_unique<enif_environment_t>();
  const ERL_NIF_TERM copied = copy(sent.get(), message);
  if (env) env->clear();
  const std::lock_guard lock(world().living);
  Process* const process = at(to->pid).process;
  return process && process->put(sent, copied) ? 1 : 0;
}
int enif_monitor_process(ErlNifEnv*, void* object, const ErlNifPid* pid, ErlNifMonitor* monitor) {
  const std::lock_guard lock(world().living);
  Process* const process = at(pid->pid).process;
  return process && process->monitor(Resource::of(object), *monitor) ? 0 : 1;
}
int enif_demonitor_process(ErlNifEnv*, void* object, const ErlNifMonitor* monitor) {
  std::uint64_t number = 0;
  std::memcpy(&number, monitor, sizeof number);
  Resource& resource = Resource::of(object);
  ERL_NIF_TERM pid = 0;
  {
    const std::lock_guard lock(resource.mutex);
    const auto found = resource.monitored.find(number);
    if (found == resource.monitored.end()) return 1;
    pid = found->second;
    resource.monitored.erase(found);
  }
  const std::lock_guard lock(world().living);
  if (Process* const process = at(pid).process) process->demonitor(number);
  return 0;
}
int enif_compare_monitors(const ErlNifMonitor* a, const ErlNifMonitor* b) {
  return std::memcmp(a, b, sizeof(std::uint64_t));
}

// Threads

ErlNifMutex* enif_mutex_create(char*) { return new ErlDrvMutex_; }
void enif_mutex_destroy(ErlNifMutex* mtx) { delete mtx; }
void enif_mutex_lock(ErlNifMutex* mutex) { mutex->mutex.lock(); }
void enif_mutex_unlock(ErlNifMutex* mutex) { mutex->mutex.unlock(); }

ErlNifThreadOpts* enif_thread_opts_create(char*) { return new ErlNifThreadOpts{}; }
void enif_thread_opts_destroy(ErlNifThreadOpts* opts) { delete opts; }
namespace {
thread_local ErlNifTid this_thread = nullptr;
}
int enif_thread_create(char*, ErlNifTid* id, void* (*run)(void*), void* argument, ErlNifThreadOpts*) {
  auto* const thread = new ErlDrvTid_;
  thread->run = run;
  thread->argument = argument;
  *id = thread;
  thread->thread = std::thread([thread] {
    this_thread = thread;
    thread->run(thread->argument);
  });
  return 0;
}
ErlNifTid enif_thread_self() { return this_thread; }
int enif_thread_type() { return this_thread ? ERL_NIF_THR_UNDEFINED : ERL_NIF_THR_NORMAL_SCHEDULER; }
int enif_thread_join(ErlNifTid thread, void**) {
  thread->thread.join();
  delete thread;
  return 0;
}

}  // extern "C"

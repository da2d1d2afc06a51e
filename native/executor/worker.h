// Worker: takes requests off its channel, runs them in Python on the main thread, and sends what came of
// them.
//
// Overview. run() is called once by typhon._worker, with the GIL, and returns when the BEAM lets go of the
// worker. One request at a time: peek, decode from where it lies, give its room back, call, encode straight
// into the reply ring, publish. While there is nothing to do it spins for some microseconds *with* the GIL
// (bounded by worker_spin_us, far below Python's own switch interval, so other Python threads do not notice),
// then lets go of it and sleeps on the doorbell.
//
// Errors. What user code raises becomes a kError frame; no request is left without an answer. A channel that
// holds garbage ends the worker (exit code kChannelBroke): nothing on it can be trusted then.
//
// Threads: the main one only. The LifeWatch thread reaches it through the doorbell and a signal.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>

#include "channel/arena.h"
#include "channel/doorbell.h"
#include "channel/region.h"
#include "channel/ring.h"
#include "executor/life_watch.h"
#include "executor/reply_sink.h"
#include "python/codec.h"
#include "python/module_state.h"
#include "python/object_table.h"
#include "python/ref.h"

namespace typhon::executor {

class Worker {
 public:
  static constexpr int kChannelBroke = 99;

  Worker(python::ModuleState& codec, std::unique_ptr<channel::Region> region, UniqueFd control,
         int beam_pid) noexcept;
  ~Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // The exit code, or -1 with a Python exception set (it could not start).
  int run(PyObject* module, PyObject* greeting) noexcept;

  // The Python handler of cancel_signal(): raises typhon.Cancelled when the running request is the one meant.
  bool raise_if_cancelled() noexcept;

 private:
  enum class Wait : std::uint8_t { kRequest, kStop, kInterrupted };

  Wait wait_for_request() noexcept;
  bool sleep_on_doorbell() noexcept;
  bool serve_one() noexcept;
  void serve(const channel::FrameHeader& header, std::span<const std::uint8_t> body) noexcept;
  void release_unread(std::span<const std::uint8_t> body) noexcept;
  void release_objects(std::span<const std::uint8_t> body) noexcept;
  void pop_request() noexcept;

  python::PyRef decode(const channel::FrameHeader& header, std::span<const std::uint8_t> body) noexcept;
  python::PyRef invoke(PyObject* request) noexcept;
  python::PyRef resolve(PyObject* target, PyObject* path) noexcept;

  bool send(channel::Kind kind, const channel::FrameHeader& request, PyObject* value) noexcept;
  void send_error(const channel::FrameHeader& header, PyObject* request) noexcept;
  void send_atom_error(const channel::FrameHeader& request, const char* name) noexcept;
  void report_cast() noexcept;
  python::PyRef describe(PyObject* exception, PyObject* request) noexcept;
  std::uint8_t* reserve_reply() noexcept;
  void publish(std::size_t size) noexcept;
  void ring_reader(bool more_to_come) noexcept;

  python::ModuleState& codec_;
  // Leaked on purpose: views of large arguments may outlive the worker's loop.
  channel::Region& region_;
  channel::Header& header_;
  channel::RingConsumer requests_;
  channel::RingProducer replies_;
  channel::ArenaPeer request_arena_;
  channel::ArenaOwner reply_arena_;
  LifeWatch life_;
  python::ObjectTable objects_;
  python::PyRef segment_buffer_type_;
  python::PyRef describe_function_;
  python::PyRef modules_;  // sys.modules
  const std::uint64_t spin_ns_;
  channel::SpinGuard spin_guard_;
  std::uint32_t deferred_wakes_ = 0;
  bool keeps_large_blocks_ = false;  // malloc may hold blocks that only a busy worker needs
  bool broken_ = false;

  // Of the request that is being served, for its reply.
  std::uint64_t times_[5] = {};
};

// For the module's exec slot: adds run_worker. 0, or -1 with an exception set.
int add_worker(PyObject* module) noexcept;

}  // namespace typhon::executor

// Decoder: ETF bytes from the worker to terms of one environment.
//
// Plain values are built directly; what only the emulator can build (pids, references, big integers, atoms
// beyond Latin-1) goes leaf by leaf through its own decoder in safe mode, from a private copy of the bytes:
// nothing that the worker could change meanwhile is ever handed to it. Atoms that do not exist are an error
// unless the channel was opened with `atoms: :create`. A `Typhon.Object` map gets a resource under `:ref`
// that owns the handle.
//
// Built for one call, on one thread. Implements etf::HostDecoder.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "beam/nif.h"
#include "channel/loan.h"
#include "etf/decode.h"
#include "etf/writer.h"

namespace typhon::beam {

class WorkerChannel;
struct ObjectHandle;
struct SegmentHandle;

// Whether this is a thread of the emulator's own: OTP 25 cannot make large maps on another one.
inline bool on_scheduler() noexcept { return enif_thread_type() != ERL_NIF_THR_UNDEFINED; }

class Decoder {
 public:
  using Value = ERL_NIF_TERM;
  struct Container {
    std::uint32_t base = 0;  // of its elements in terms_
    etf::Kind kind = etf::Kind::kTuple;
    bool is_struct = false;
  };

  // What a body in the ring may cost that is decoded where it lies: its bytes may change meanwhile, so that
  // nothing else can be said of them beforehand. A compressed one does not expand to more than this allows.
  static constexpr std::uint64_t kDirectly = std::uint64_t{24} << 20;

  Decoder(ErlNifEnv* env, WorkerChannel& channel) noexcept : env_(env), channel_(channel) {}

  // Binaries that make up most of the segment become terms that point into its copy, or into it.
  void lend(SegmentHandle* segment) noexcept { segment_ = segment; }
  // The loans of the frame, which outlive the decoder.
  void borrow(channel::FrameLoans& loans) noexcept { loans_ = &loans; }
  // Stop after so much work: over_budget() then tells that from a failure.
  void limit(std::size_t terms, std::size_t copied_bytes) noexcept {
    terms_left_ = terms;
    bytes_left_ = copied_bytes;
  }
  [[nodiscard]] bool over_budget() const noexcept { return over_budget_; }
  // It holds what the emulator can make on its schedulers' threads only, and this is none. The handles that
  // it holds are there to be made again.
  [[nodiscard]] bool needs_scheduler() const noexcept { return needs_scheduler_; }

  // For their destructors: what only the emulator can make is left out.
  void want_objects_only() noexcept { objects_only_ = true; }

  bool decode(std::span<const std::uint8_t> body) noexcept;
  [[nodiscard]] ERL_NIF_TERM term() const noexcept { return term_; }

  // {:ok, Term}, {:error, Term}, or {:error, {:cannot_decode_result, Path, Message}}.
  ERL_NIF_TERM decode_reply(std::span<const std::uint8_t> body, bool is_error) noexcept;
  ERL_NIF_TERM decode_reply(const SegmentHandle& segment) noexcept;

  // The same for a body with many small terms and nothing to point into: by the emulator's decoder, from
  // private memory. It measures the term first and takes its memory at once, where building it leaf by leaf
  // takes hundreds of small heaps.
  ERL_NIF_TERM decode_plain_reply(const SegmentHandle& segment) noexcept;

  // --- etf::HostDecoder ---
  bool integer(std::int64_t value, Value& out) noexcept {
    out = enif_make_int64(env_, value);
    return true;
  }
  bool big(bool negative, etf::Bytes magnitude, Value& out) noexcept;
  bool floating(double value, Value& out) noexcept {
    out = enif_make_double(env_, value);
    return true;
  }
  bool atom(std::string_view utf8, Value& out) noexcept;
  bool binary(etf::Bytes bytes, Value& out) noexcept;
  bool lent(std::uint32_t index, Value& out) noexcept;
  bool bits(etf::Bytes bytes, unsigned bits_in_last_byte, Value& out) noexcept;
  bool nil(Value& out) noexcept {
    out = enif_make_list(env_, 0);
    return true;
  }
  bool string(etf::Bytes bytes, Value& out) noexcept;
  bool pid(const etf::PidView& view, Value& out) noexcept { return foreign(view.raw, out); }
  bool port(const etf::PortView& view, Value& out) noexcept { return foreign(view.raw, out); }
  bool reference(const etf::ReferenceView& view, Value& out) noexcept { return foreign(view.raw, out); }
  bool exported_fun(const etf::ExportView& view, Value& out) noexcept;
  bool fun(const etf::FunView& view, Value& out) noexcept {
    return may_hold_fun(view.raw) && foreign_container(view.raw, out);
  }
  bool local(const etf::LocalView& view, Value& out) noexcept {
    return may_hold_fun(view.raw) && foreign_container(view.raw, out);
  }
  bool open_tuple(std::uint32_t n, Container& container) noexcept {
    return open(etf::Kind::kTuple, n, container);
  }
  bool open_list(std::uint32_t n, Container& container) noexcept {
    return open(etf::Kind::kList, n, container);
  }
  bool open_map(std::uint32_t n, Container& container) noexcept {
    return open(etf::Kind::kMap, std::size_t{n} * 2, container);
  }
  bool extend_list(Container&, std::uint32_t more) noexcept { return spend(more); }
  bool element(Container&, std::uint32_t, Value&& value) noexcept { return push(value); }
  bool map_key(Container& container, std::uint32_t index, Value&& key) noexcept;
  bool map_value(Container&, std::uint32_t, Value&& value) noexcept { return push(value); }
  bool close(Container& container, Value& out) noexcept;
  bool close_improper(Container& container, Value&& tail, Value& out) noexcept;
  void abandon(Container& container) noexcept { terms_.resize(container.base); }
  void drop(Value&) noexcept {}
  void failed(const etf::Outcome& outcome, std::span<const etf::Frame<Decoder>> frames) noexcept;

 private:
  bool open(etf::Kind kind, std::size_t n, Container& container) noexcept;
  bool spend(std::size_t terms) noexcept;
  bool push(Value value) noexcept {
    terms_.push_back(value);
    return true;
  }
  bool refuse(std::string message) noexcept {
    message_ = std::move(message);
    return false;
  }
  bool foreign(etf::Bytes raw, Value& out) noexcept;
  bool external(etf::Bytes bytes, std::int64_t most_atoms, Value& out) noexcept;
  bool may_make_atoms(std::int64_t most) noexcept;
  bool may_hold_fun(etf::Bytes raw) noexcept;
  bool foreign_container(etf::Bytes raw, Value& out) noexcept;
  bool close_large_map(const Container& container, Value& out) noexcept;
  bool close_map(const Container& container, Value& out) noexcept;
  bool attach_object(Value& map) noexcept;
  [[nodiscard]] std::string print_key(ERL_NIF_TERM key) const noexcept;

  ErlNifEnv* env_;
  WorkerChannel& channel_;
  SegmentHandle* segment_ = nullptr;
  channel::FrameLoans* loans_ = nullptr;
  std::size_t terms_left_ = SIZE_MAX;
  std::size_t bytes_left_ = SIZE_MAX;
  bool over_budget_ = false;
  bool needs_scheduler_ = false;
  bool objects_only_ = false;
  ERL_NIF_TERM term_ = 0;
  std::vector<ERL_NIF_TERM> terms_;  // elements of the open containers, innermost last
  std::vector<ERL_NIF_TERM> scratch_;
  std::vector<ObjectHandle*> handles_;  // made on a thread that is no scheduler
  std::string message_;                 // why a leaf was refused
  std::string path_;                    // where, as the user would write it
};

}  // namespace typhon::beam

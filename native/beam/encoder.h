// Encoder: terms of the caller's environment to ETF, in one walk straight into the frame.
//
// Plain terms are walked with the NIF term API, containers on an explicit stack; what only the emulator can
// encode (pids, references, funs, big integers, bit strings, atoms beyond Latin-1) goes leaf by leaf through
// its own encoder. A struct that the wire does not know needs the Elixir side (`Typhon.Encoder`): the walk
// stops with kNeedsEncoder. An object handle of another worker stops it with kOtherChannel, naming that
// worker.
//
// Built for one call, on one thread.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "beam/nif.h"
#include "etf/writer.h"

namespace typhon::beam {

class BodySink;
class WorkerChannel;

class Encoder {
 public:
  enum class Status : std::uint8_t {
    kDone,
    kFull,          // the sink cannot grow (now)
    kNeedsEncoder,  // a struct without a wire form
    kOtherChannel,  // an object of another worker: other()
    kOverBudget,    // more terms than limit() allows
    kBadTerm,       // message()
  };

  // `channel`: where the frame goes, for object handles.
  Encoder(ErlNifEnv* env, const State& state, const WorkerChannel* channel, BodySink& sink) noexcept;
  ~Encoder();
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  // {Module, Function, Args, Kwargs}; atoms as module, function and names of keyword arguments are written as
  // strings.
  Status call(ERL_NIF_TERM module, ERL_NIF_TERM function, ERL_NIF_TERM args, ERL_NIF_TERM kwargs) noexcept;

  // Any term.
  Status value(ERL_NIF_TERM term) noexcept;

  // Which atoms are written as binaries, which Python reads as str, in place of what the channel says. Never
  // nil, true and false, nor what a struct of the wire has in its fields.
  static constexpr unsigned kKeysAsText = 1;    // of maps
  static constexpr unsigned kValuesAsText = 2;  // all others
  void text(unsigned which) noexcept { text_ = which; }

  // Stop after so many terms.
  void limit(std::size_t terms) noexcept { terms_left_ = terms; }
  // Handles of objects that live on the channel.
  [[nodiscard]] bool has_objects() const noexcept { return has_objects_; }
  [[nodiscard]] WorkerChannel* other() const noexcept { return other_; }
  [[nodiscard]] const char* message() const noexcept {
    return message_       ? message_
           : writer_.ok() ? "the arguments cannot be encoded"
                          : writer_.outcome().expected;
  }

 private:
  struct Frame {
    enum class Kind : std::uint8_t { kTuple, kList, kMap } kind;
    bool skip_struct_key = false;
    bool numbers = true;                     // of a list: only integers so far
    bool names = false;                      // of keyword arguments: atoms as keys are written as text
    bool text = false;                       // of another map: the same, but for nil, true and false
    bool set = false;                        // of a MapSet: the keys of the map in it are its elements
    std::uint32_t count = 0;                 // of a list: elements written
    std::uint32_t remaining = 0;             // of a tuple
    std::size_t header = 0;                  // of a list: where its count belongs
    ERL_NIF_TERM tail = 0;                   // of a list: what is left
    const ERL_NIF_TERM* elements = nullptr;  // of a tuple
    ErlNifMapIterator iterator{};            // of a map
    bool at_value = false;                   // of a map: the key is written
  };

  bool name(ERL_NIF_TERM value) noexcept;
  bool latin1_name(std::string_view latin1) noexcept;
  bool wide_name(ERL_NIF_TERM atom) noexcept;
  bool walk(ERL_NIF_TERM root) noexcept;
  bool drain(std::size_t base) noexcept;
  bool term(ERL_NIF_TERM value) noexcept;
  bool atom(ERL_NIF_TERM value) noexcept;
  bool text_atom(ERL_NIF_TERM value) noexcept;
  bool key(const Frame& frame, ERL_NIF_TERM key) noexcept;
  bool field(ERL_NIF_TERM value) noexcept;
  [[nodiscard]] bool is_tagged(const Frame& tuple) const noexcept;
  void hand(ERL_NIF_TERM value) noexcept;
  bool binary(ERL_NIF_TERM value, etf::Bytes bytes) noexcept;
  bool foreign(ERL_NIF_TERM value) noexcept;
  bool keywords(ERL_NIF_TERM value) noexcept;
  bool map(ERL_NIF_TERM value) noexcept;
  bool pairs(Frame& frame) noexcept;
  bool is_struct(ERL_NIF_TERM map, std::size_t size, Frame& frame, ERL_NIF_TERM& module) noexcept;
  bool object(ERL_NIF_TERM value) noexcept;
  bool stop(Status status, const char* message = nullptr) noexcept {
    status_ = status;
    message_ = message;
    return false;
  }

  ErlNifEnv* env_;
  const State& state_;
  const WorkerChannel* channel_;
  BodySink& sink_;
  etf::Writer writer_;
  std::vector<Frame> stack_;
  Status status_ = Status::kDone;
  std::size_t terms_left_ = SIZE_MAX;
  unsigned text_;
  bool is_key_ = false;  // of a map: an atom there is no name of a process
  WorkerChannel* other_ = nullptr;
  bool has_objects_ = false;
  const char* message_ = nullptr;
};

}  // namespace typhon::beam

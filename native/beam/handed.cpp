#include "beam/handed.h"

#include <algorithm>
#include <iterator>

namespace typhon::beam {
namespace {

bool existing_atom(ErlNifEnv* env, std::string_view utf8, ERL_NIF_TERM& out) {
  // Atoms beyond Latin-1 come by the emulator's decoder: 118, 2 bytes of length, the text.
  std::string etf{"\x83v"};
  etf.push_back(static_cast<char>(utf8.size() >> 8));
  etf.push_back(static_cast<char>(utf8.size() & 0xff));
  etf.append(utf8);
  return enif_binary_to_term(env, reinterpret_cast<const unsigned char*>(etf.data()), etf.size(), &out,
                             ERL_NIF_BIN2TERM_SAFE) == etf.size();
}

// The first elements of tuples that are not for anybody to send: control of processes by OTP ('$gen_call',
// '$gen_cast', system …), what the emulator tells of links, monitors, tables and nodes, devices and the code
// server, and what this library says to its own.
bool reserved(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "system",     "EXIT",     "DOWN",      "ETS-TRANSFER", "CHANGE",      "nodeup", "nodedown",
      "io_request", "io_reply", "code_call", "code_server",  "interpreter", "typhon"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames) || name.starts_with('$') ||
         name.starts_with("typhon_");
}

// What gen:call() asks of an event manager: {From, Tag, Request}, whatever From and Tag are.
bool manages_events(std::string_view request) {
  static constexpr std::string_view kRequests[] = {"call",
                                                   "stop",
                                                   "sync_notify",
                                                   "add_handler",
                                                   "add_sup_handler",
                                                   "swap_handler",
                                                   "swap_sup_handler",
                                                   "delete_handler",
                                                   "which_handlers"};
  return std::find(std::begin(kRequests), std::end(kRequests), request) != std::end(kRequests);
}

// The text of an atom, or nothing: none that matters here is beyond Latin-1.
class AtomText {
 public:
  AtomText(ErlNifEnv* env, ERL_NIF_TERM term) {
    size_ = enif_is_atom(env, term) ? enif_get_atom(env, term, text_, sizeof text_, ERL_NIF_LATIN1) : 0;
  }
  [[nodiscard]] std::string_view get() const {
    return {text_, size_ > 0 ? static_cast<std::size_t>(size_) - 1 : 0};
  }

 private:
  char text_[256];
  int size_ = 0;
};

}  // namespace

void Handed::add(std::string_view bytes) {
  if (bytes.empty() || bytes.size() > kLongest) return;
  const Lock lock(mutex_);
  if (const auto known = found_.find(bytes); known != found_.end()) {
    order_.splice(order_.begin(), order_, known->second);
    return;
  }
  order_.emplace_front(bytes);
  found_.emplace(order_.front(), order_.begin());
  bytes_ += bytes.size();
  while (order_.size() > kMostEntries || bytes_ > kMostBytes) forget_oldest();
}

void Handed::forget_oldest() {
  bytes_ -= order_.back().size();
  found_.erase(order_.back());
  order_.pop_back();
}

void Handed::keep(std::string_view bytes) {
  const Lock lock(mutex_);
  kept_.emplace(bytes);
}

bool Handed::contains(std::string_view bytes) {
  const Lock lock(mutex_);
  return found_.contains(bytes) || kept_.contains(std::string(bytes));
}

bool Handed::may_call(ErlNifEnv* env, std::string_view module, std::string_view function,
                      std::uint32_t arity) const {
  ERL_NIF_TERM m = 0;
  ERL_NIF_TERM f = 0;
  if (functions_.empty() || !existing_atom(env, module, m) || !existing_atom(env, function, f)) return false;
  return std::any_of(functions_.begin(), functions_.end(), [&](const AllowedFunction& allowed) {
    return (allowed.module == any_ || allowed.module == m) &&
           (allowed.function == any_ || allowed.function == f) &&
           (allowed.arity < 0 || static_cast<std::uint32_t>(allowed.arity) == arity);
  });
}

// A reference that it was not handed. Answers, timers and the like are known by theirs: {Ref, Answer},
// {[alias | Ref], Answer}, {timeout, Ref, Message}.
bool Handed::made_up(ErlNifEnv* env, ERL_NIF_TERM term) {
  ERL_NIF_TERM head = 0;
  ERL_NIF_TERM tail = 0;
  if (enif_get_list_cell(env, term, &head, &tail)) term = tail;
  return enif_is_ref(env, term) && !contains(handed_key(env, term));
}

bool Handed::may_say(ErlNifEnv* env, ERL_NIF_TERM message) {
  int arity = 0;
  const ERL_NIF_TERM* items = nullptr;
  if (!enif_get_tuple(env, message, &arity, &items) || arity == 0) return true;
  if (enif_is_port(env, items[0]) || reserved(AtomText(env, items[0]).get())) return false;
  if (arity == 3) {
    int size = 0;
    const ERL_NIF_TERM* request = nullptr;
    const bool compound = enif_get_tuple(env, items[2], &size, &request) && size > 1;
    if (manages_events(AtomText(env, compound ? request[0] : items[2]).get())) return false;
  }
  return !made_up(env, items[0]) && (arity == 1 || !made_up(env, items[1]));
}

std::string handed_key(ErlNifEnv* env, ERL_NIF_TERM term) {
  ErlNifBinary encoded;
  if (!enif_term_to_binary(env, term, &encoded)) return {};
  std::string key(reinterpret_cast<const char*>(encoded.data) + 1, encoded.size - 1);
  enif_release_binary(&encoded);
  return key;
}

}  // namespace typhon::beam

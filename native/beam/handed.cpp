#include "beam/handed.h"

#include <algorithm>
#include <mutex>

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

}  // namespace

void Handed::add(std::string_view bytes) {
  if (bytes.empty() || bytes.size() > kLongest) return;
  const std::lock_guard lock(mutex_);
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
  const std::lock_guard lock(mutex_);
  kept_.emplace(bytes);
}

bool Handed::contains(std::string_view bytes) {
  const std::lock_guard lock(mutex_);
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

std::string handed_key(ErlNifEnv* env, ERL_NIF_TERM term) {
  ErlNifBinary encoded;
  if (!enif_term_to_binary(env, term, &encoded)) return {};
  std::string key(reinterpret_cast<const char*>(encoded.data) + 1, encoded.size - 1);
  enif_release_binary(&encoded);
  return key;
}

}  // namespace typhon::beam

// Keys of a dict (and elements of a set) that are different in Python and the same term on the BEAM: "a" and
// b"a", True and Atom("true"), an Enum and its value, (1, "a") and (1, b"a"). Such a map would silently lose
// an entry.
//
// Only keys of classes that can collide are noted. Each is then compared with the other noted ones by its
// bytes, and looked up among the rest as the object that its bytes decode to.
#include "python/encode/encoder.h"

#include "etf/tags.h"

#include <algorithm>
#include <new>
#include <string_view>

namespace typhon::python {
namespace {

// A term that may be a str, an int, a float or an atom: what keys that are not noted are.
bool may_be_plain(std::uint8_t tag) noexcept {
  switch (tag) {
    case etf::kBinary:
    case etf::kSmallInteger:
    case etf::kInteger:
    case etf::kSmallBig:
    case etf::kLargeBig:
    case etf::kNewFloat:
    case etf::kSmallAtomUtf8:
    case etf::kAtomUtf8:
      return true;
    default:
      return false;
  }
}

constexpr std::string_view kPlainAtoms[] = {"nil", "true", "false"};

}  // namespace

bool Encoder::note_check(PyBorrowed key, std::size_t begin) noexcept {
  // There the BEAM says so: it takes no map that has a key twice.
  if (options_.erlport != nullptr) return true;
  try {
    checks_.push_back(Check{PyRef::borrow(key), begin, writer_.position()});
    return true;
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return false;
  }
}

bool Encoder::check_keys(Frame& frame) noexcept {
  try {
    const std::size_t count = checks_.size() - frame.checks;
    bool fine = count < 2 || check_keys_among_themselves(frame);
    if (fine && count < static_cast<std::size_t>(frame.size)) {
      for (std::size_t i = frame.checks; fine && i < checks_.size(); ++i) {
        fine = check_key_against_others(frame, checks_[i]) == 0;
      }
    }
    if (fine) checks_.erase(checks_.begin() + static_cast<std::ptrdiff_t>(frame.checks), checks_.end());
    return fine;
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return false;
  }
}

bool Encoder::check_keys_among_themselves(const Frame& frame) {
  const auto bytes = [&](const Check& check) {
    return std::string_view(reinterpret_cast<const char*>(writer_.sink().data) + check.begin,
                            check.end - check.begin);
  };
  std::vector<const Check*> sorted;
  for (std::size_t i = frame.checks; i < checks_.size(); ++i) sorted.push_back(&checks_[i]);
  std::ranges::sort(sorted, {}, [&](const Check* check) { return bytes(*check); });
  const auto same = std::ranges::adjacent_find(
      sorted, [&](const Check* a, const Check* b) { return bytes(*a) == bytes(*b); });
  if (same == sorted.end()) return true;
  const Check* const first = std::min(same[0], same[1]);
  const Check* const second = std::max(same[0], same[1]);
  return refuse_keys(frame, first->key, second->key);
}

// The object that a term stands for, with Atoms for nil, true and false: None and its like are noted, an Atom
// of such a name is not. New reference, or null with an exception set.
PyObject* Encoder::plain_object(std::string_view term) {
  for (const std::string_view name : kPlainAtoms) {
    if (term.size() == name.size() + 2 && term[0] == etf::kSmallAtomUtf8 && term.substr(2) == name) {
      return state_.atoms.get(name);
    }
  }
  const std::string whole = static_cast<char>(etf::kVersion) + std::string(term);
  return decode(state_, {reinterpret_cast<const std::uint8_t*>(whole.data()), whole.size()}, DecodeOptions());
}

// 0: fine; -1: refused.
int Encoder::check_key_against_others(const Frame& frame, const Check& check) {
  const std::uint8_t* const from = writer_.sink().data + check.begin;
  if (!may_be_plain(*from)) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(from), check.end - check.begin);
  const PyRef other = PyRef::steal(plain_object(bytes));
  if (!other) {  // bytes that are no text: equal to no str
    if (PyErr_ExceptionMatches(state_.decode_error.get()) == 0) return -1;
    PyErr_Clear();
    return 0;
  }
  const bool set = frame.shape == Shape::kSet;
  const int there =
      set ? PySequence_Contains(frame.source, other.get()) : PyDict_Contains(frame.container, other.get());
  const int itself = there == 1 ? PyObject_RichCompareBool(check.key.get(), other.get(), Py_EQ) : 0;
  if (there == 0 || itself == 1) return 0;
  if (there < 0 || itself < 0) return -1;
  refuse_keys(frame, other, check.key);
  return -1;
}

}  // namespace typhon::python

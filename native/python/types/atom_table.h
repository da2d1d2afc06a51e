// Atom objects, interned: in one interpreter there is at most one `Atom` of each name, so `is` compares
// atoms.
//
// Two tables. The interner knows every living atom by name and owns none: an atom takes itself out when it
// dies, so that names which come once do not pile up. In front of it a small direct-mapped cache
// (RecentAtoms) holds the atoms met lately. An atom may outlive the module's state (at interpreter shutdown),
// therefore the interner is counted.
//
// Without a GIL the interner has a mutex, and an atom may be dying in another thread while it is looked up:
// only a weak reference tells, so that each atom has one to itself. The cache belongs to one decode then
// (DecodeCaches).
#pragma once

#include "python/cpython.h"
#include "python/ref.h"
#include "python/types/content_hash.h"

#include "etf/views.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>

namespace typhon::python {

class AtomInterner;

// An Atom as it lies in memory; its ETF form, SMALL_ATOM_UTF8_EXT or ATOM_UTF8_EXT, follows, ready to be
// copied.
struct AtomObject {
  PyObject_VAR_HEAD
  AtomInterner* interner;  // counted
  PyObject* name;          // str
#ifdef Py_GIL_DISABLED
  PyObject* weak_references;  // CPython's
  PyObject* weak_self;        // owned: one of them
#endif
  std::uint16_t name_size;  // in UTF-8 bytes; the last bytes of the ETF form
  std::uint16_t wire_size;

  [[nodiscard]] etf::Bytes wire() const noexcept {
    return {reinterpret_cast<const std::uint8_t*>(this + 1), wire_size};
  }
  [[nodiscard]] std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(this + 1) + wire_size - name_size, name_size};
  }
  [[nodiscard]] static AtomObject* of(PyObject* object) noexcept {
    return reinterpret_cast<AtomObject*>(object);
  }
};

inline constexpr std::size_t kMaxAtomCharacters = 255;  // the BEAM's own limit

// Atoms met lately, found by their names' bytes. Direct-mapped: a collision replaces.
class RecentAtoms {
 public:
  // A new reference, or null without an exception.
  [[nodiscard]] PyObject* find(ContentWords words, const std::uint8_t* name, std::size_t size) noexcept {
    const Slot& slot = slot_of(words, size);
    if (slot.words == words && slot.size == size && slot.atom) [[likely]] {
      if (size <= 16 || std::memcmp(AtomObject::of(slot.atom.get())->text().data(), name, size) == 0)
          [[likely]] {
        return take(slot.atom.get());
      }
    }
    return nullptr;
  }
  void put(ContentWords words, std::size_t size, PyBorrowed atom) noexcept {
    Slot& slot = slot_of(words, size);
    slot.words = words;
    slot.size = size;
    slot.atom = PyRef::borrow(atom);
  }
  int traverse(visitproc visit, void* arg) noexcept;
  void clear() noexcept;

 private:
  struct Slot {
    ContentWords words{};
    PyRef atom;
    std::size_t size = 0;
  };
  Slot& slot_of(ContentWords words, std::size_t size) noexcept {
    return slots_[content_hash(words, size) % kSlots];
  }

  static constexpr std::size_t kSlots = 512;
  std::array<Slot, kSlots> slots_;
};

class AtomTable {
 public:
  AtomTable() noexcept = default;
  AtomTable(const AtomTable&) = delete;
  AtomTable& operator=(const AtomTable&) = delete;
  ~AtomTable();

  // `type` is the heap type Atom. 0, or -1 with an exception set. Once, before anything else.
  int init(PyTypeObject* type) noexcept;

  // The same, but only when such an atom exists already; null, and no exception, otherwise.
  [[nodiscard]] PyObject* find(const std::uint8_t* name, std::size_t size) noexcept {
#ifdef Py_GIL_DISABLED
    return find_living(name, size);
#else
    return find(recent_, name, size);
#endif
  }
  // The same with a cache of the caller's.
  [[nodiscard]] PyObject* find(RecentAtoms& recent, const std::uint8_t* name, std::size_t size) noexcept {
    const ContentWords words = content_words(name, size);
    PyObject* const found = recent.find(words, name, size);
    return found != nullptr ? found : find_living(recent, words, name, size);
  }

  // A new reference to the atom with this UTF-8 name; null with ValueError (too long, not UTF-8) or
  // MemoryError set.
  [[nodiscard]] PyObject* get(const std::uint8_t* name, std::size_t size) noexcept {
    PyObject* const found = find(name, size);
    return found != nullptr ? found : make(name, size);
  }
  [[nodiscard]] PyObject* get(std::string_view name) noexcept {
    return get(reinterpret_cast<const std::uint8_t*>(name.data()), name.size());
  }

  int traverse(visitproc visit, void* arg) noexcept;
  void clear() noexcept;

 private:
  PyObject* find_living(const std::uint8_t* name, std::size_t size) noexcept;
  PyObject* find_living(RecentAtoms& recent, ContentWords words, const std::uint8_t* name,
                        std::size_t size) noexcept;
  PyObject* make(const std::uint8_t* name, std::size_t size) noexcept;

#ifndef Py_GIL_DISABLED
  RecentAtoms recent_;
#endif
  PyTypeObject* type_ = nullptr;  // owned by the ModuleState
  AtomInterner* interner_ = nullptr;
};

// The heap type `typhon.Atom` of `module`; empty with an exception set on failure.
PyRef make_atom_type(PyObject* module) noexcept;

}  // namespace typhon::python

// Atom objects, interned: in one interpreter there is at most one `Atom` of each name, so `is` compares
// atoms.
//
// Two tables. The interner knows every living atom by name and owns none: an atom takes itself out when it
// dies, so that names which come once do not pile up. In front of it a small direct-mapped cache holds the
// atoms met lately. An atom may outlive the module's state (at interpreter shutdown), therefore the interner
// is counted.
#pragma once

#include "python/content_hash.h"
#include "python/cpython.h"
#include "python/ref.h"

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
  AtomInterner* interner;   // counted
  PyObject* name;           // str
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
    const ContentWords words = content_words(name, size);
    Slot& slot = slots_[content_hash(words, size) % kSlots];
    if (slot.words == words && slot.size == size && slot.atom) [[likely]] {
      if (size <= 16 || std::memcmp(AtomObject::of(slot.atom.get())->text().data(), name, size) == 0)
          [[likely]] {
        return take(slot.atom.get());
      }
    }
    return find_living(slot, words, name, size);
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
  struct Slot {
    ContentWords words{};
    PyRef atom;
    std::size_t size = 0;
  };
  PyObject* find_living(Slot& slot, ContentWords words, const std::uint8_t* name, std::size_t size) noexcept;
  PyObject* make(const std::uint8_t* name, std::size_t size) noexcept;

  static constexpr std::size_t kSlots = 512;
  std::array<Slot, kSlots> slots_;
  PyTypeObject* type_ = nullptr;  // owned by the ModuleState
  AtomInterner* interner_ = nullptr;
};

// The heap type `typhon.Atom` of `module`; empty with an exception set on failure.
PyRef make_atom_type(PyObject* module) noexcept;

}  // namespace typhon::python

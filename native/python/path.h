// Path: where in a value something went wrong, as Python would write it: args[0]["user"][3].
// Only made once something has. An exception that is set stays set, in each function here.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace typhon::python {

class Path {
 public:
  // `parts`, if any, are the names of the root's own elements: then the path starts with parts[i] instead of
  // root[i].
  explicit Path(std::string_view root, std::span<const std::string_view> parts = {})
      : root_(root), parts_(parts) {}

  // Each may throw std::bad_alloc.
  void index(std::size_t index);                       // [3]
  void key(PyBorrowed key);                            // ["user"]
  void attribute(PyBorrowed name);                     // .user
  void member(std::string_view name);                  // .tail
  void suffix(std::string_view text);                  // as it is
  void at_key(std::string_view what, PyBorrowed key);  // (key "user"): the key itself is at fault

  [[nodiscard]] std::string text() const;

 private:
  void step(std::string text);

  static constexpr std::size_t kShown = 24;  // steps at each end of a very long path

  std::string root_;
  std::span<const std::string_view> parts_;
  std::string head_;
  std::string suffix_;
  std::string tail_[kShown];
  std::size_t steps_ = 0;
};

// A map key or an element for an error text: "user", Atom('ok'), 3 …; shortened, and only the type's name
// where making it might run code of a user's class.
std::string describe(PyBorrowed value);

// What a class has under this name, or null with an exception set. Not what its metaclass makes of that: it
// may raise whatever it likes.
PyRef attribute_of_class(PyTypeObject* type, const char* name) noexcept;

// The name of a value's type as an error text shows it: "int", "numpy.ndarray", "mymod.Thing".
std::string type_name(PyBorrowed value);

}  // namespace typhon::python

// What the parts of questions and statements are called when one of them cannot cross.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "python/cpython.h"

namespace typhon::executor {

inline constexpr std::array<std::string_view, 4> kCallParts{"call", "module", "function", "args"};
inline constexpr std::array<std::string_view, 3> kApplyParts{"call", "function", "args"};
inline constexpr std::array<std::string_view, 3> kSendParts{"send", "dest", "message"};
inline constexpr std::array<std::string_view, 2> kMessageParts{"dest", "message"};

inline std::span<const std::string_view> question_parts(PyObject* term) noexcept {
  if (PyTuple_Check(term) && PyTuple_Size(term) == 4) return kCallParts;
  if (PyTuple_Check(term) && PyTuple_Size(term) == 3) return kApplyParts;
  return {};
}

}  // namespace typhon::executor

// skip: finds the end of a term and validates it on the way, without building anything. It accepts exactly
// what decode() accepts (but for duplicate map keys, which only a decoder can see).
//
// No allocation but the explicit stack below 64 levels of nesting. Thread-safe: no shared state.
#pragma once

#include "etf/outcome.h"
#include "etf/views.h"

namespace typhon::etf {

// The term at the start of `input`, which begins with the version byte: Outcome::used is its size. A
// compressed term is inflated (the only way to validate it).
Outcome skip(Bytes input, const Limits&) noexcept;

// The same for a term without the version byte, as it lies inside another one; such a term is never
// compressed.
Outcome skip_inner(Bytes input, const Limits&) noexcept;

}  // namespace typhon::etf

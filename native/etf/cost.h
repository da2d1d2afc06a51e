// cost: how much memory a term takes on the BEAM, told before it is built: a byte can become sixteen there.
//
// A pass over the bytes that builds nothing. Large binaries do not count: who decodes points into the bytes,
// or copies no more than there are. No shared state.
#pragma once

#include <cstdint>

#include "etf/outcome.h"
#include "etf/views.h"

namespace typhon::etf {

// Leaves with few bytes that become many words: the empty list takes a byte, an empty binary five, a float
// nine.
inline constexpr std::uint64_t kMostCostOfAByte = 24;

// What the term can come to at most, by its size alone: enough when that is little.
std::uint64_t most_it_can_cost(Bytes input) noexcept;

// False when the term at `input` takes more than `bytes`, or expands to more. Also true for what is no term:
// the decoder says what is wrong with it.
bool costs_at_most(Bytes input, const Limits& limits, std::uint64_t bytes) noexcept;

}  // namespace typhon::etf

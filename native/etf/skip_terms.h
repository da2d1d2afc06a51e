// skip_terms: the loop behind skip(), also used for the free variables of a fun. Internal to this folder.
#pragma once

#include <cstdint>

#include "etf/leaf.h"

namespace typhon::etf::detail {

inline constexpr const char* kExpectLessNesting = "less nesting";
inline constexpr const char* kExpectFunSize = "a fun that ends where its size says";

// Moves scan.at behind `count` terms, `depth` levels deep already, while those around still need `owed` more
// terms. On failure scan.fault is the start of the term at fault.
bool skip_terms(Scan& scan, std::uint64_t count, std::uint32_t max_depth, std::uint32_t depth,
                std::uint64_t owed) noexcept;

// The part of NEW_FUN_EXT before its free variables; fun_end is where its size field says that it ends.
bool scan_fun_header(Scan&, AtomScratch&, FunView&, const std::uint8_t*& fun_end) noexcept;

}  // namespace typhon::etf::detail

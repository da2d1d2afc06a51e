// The numbers that Elixir and the NIFs say to each other, by name. lib/typhon/wire.ex has the same table, and
// a test compares the two.
#pragma once

#include <cstdint>

#include "beam/encoder.h"
#include "beam/quota.h"

namespace typhon::beam::wire {

// call()'s kinds
constexpr unsigned kCall = 0;
constexpr unsigned kCast = 1;
// tell()'s kinds
constexpr unsigned kAnswer = 0;
constexpr unsigned kFailure = 1;
constexpr unsigned kMessage = 2;
constexpr unsigned kTellKinds = 3;  // their bits; those of text follow
// call()'s flags
constexpr unsigned kTimings = 1;
constexpr unsigned kCapture = 2;
// The call, or answer, says itself which atoms are written as text, in place of the channel.
constexpr unsigned kTextShift = 2;
constexpr unsigned kKeysAsText = Encoder::kKeysAsText << kTextShift;
constexpr unsigned kValuesAsText = Encoder::kValuesAsText << kTextShift;
constexpr unsigned kOwnText = 16;
// The call was accepted before: it is not to be refused for being one too many.
constexpr unsigned kAdmitted = 128;
// The result stays in Python, also when it has a counterpart.
constexpr unsigned kAsObject = 256;
// From this bit on: a place, and 1; 0 for the least loaded worker.
constexpr unsigned kPlaceBit = 9;
// A channel in its pool: its place, and from this bit on its serial number.
constexpr unsigned kSerialBit = 16;

struct Number {
  const char* name;
  std::uint64_t value;
};
constexpr Number kNumbers[] = {
    {"call", kCall},
    {"cast", kCast},
    {"answer", kAnswer},
    {"failure", kFailure},
    {"message", kMessage},
    {"timings", kTimings},
    {"capture", kCapture},
    {"keys_as_text", kKeysAsText},
    {"values_as_text", kValuesAsText},
    {"own_text", kOwnText},
    {"admitted", kAdmitted},
    {"as_object", kAsObject},
    {"place_bit", kPlaceBit},
    {"serial_bit", kSerialBit},
    {"statement", static_cast<std::uint64_t>(Quota::Of::kStatement)},
    {"question", static_cast<std::uint64_t>(Quota::Of::kQuestion)},
    {"refusal", static_cast<std::uint64_t>(Quota::Of::kRefusal)},
};

}  // namespace typhon::beam::wire

// The tag bytes of Erlang's External Term Format (ETF), as OTP 25 to 28 emit and accept them.
#pragma once

#include <cstdint>

namespace typhon::etf {

inline constexpr std::uint8_t kVersion = 131;  // first byte of every encoded term

enum Tag : std::uint8_t {
  kNewFloat = 70,        // 8 bytes IEEE 754, big endian
  kBitBinary = 77,       // u32 bytes, u8 bits used in the last one (1..8)
  kCompressed = 80,      // only after the version byte: u32 inflated size, zlib stream
  kAtomCacheRef = 82,    // distribution with an atom cache only; never decoded here
  kNewPid = 88,          // node atom, u32 id, u32 serial, u32 creation
  kNewPort = 89,         // node atom, u32 id, u32 creation
  kNewerReference = 90,  // u16 words, node atom, u32 creation, words × u32
  kSmallInteger = 97,    // u8
  kInteger = 98,         // i32
  kFloatText = 99,       // 31 bytes "%.20e", zero padded (before OTP 17)
  kAtomLatin1 = 100,     // u16 length (OTP up to 25 still emits it)
  kReference = 101,      // node atom, u32 id, u8 creation (before OTP R6)
  kPort = 102,           // node atom, u32 id, u8 creation (before OTP 23)
  kPid = 103,            // node atom, u32 id, u32 serial, u8 creation (before OTP 23)
  kSmallTuple = 104,     // u8 arity
  kLargeTuple = 105,     // u32 arity
  kNil = 106,            // []
  kString = 107,         // u16 length: a list of bytes, never text
  kList = 108,           // u32 length, elements, tail
  kBinary = 109,         // u32 length
  kSmallBig = 110,       // u8 bytes, sign, magnitude in little endian
  kLargeBig = 111,       // u32 bytes, sign, magnitude in little endian
  kNewFun = 112,  // u32 size, u8 arity, 16 bytes uniq, u32 index, u32 free, module, index, uniq, pid, terms
  kExport = 113,  // module atom, function atom, arity
  kNewReference = 114,     // u16 words, node atom, u8 creation, words × u32 (before OTP 23)
  kSmallAtomLatin1 = 115,  // u8 length
  kMap = 116,              // u32 pairs
  kFun = 117,              // removed in OTP 23; never decoded here
  kAtomUtf8 = 118,         // u16 length
  kSmallAtomUtf8 = 119,    // u8 length
  kV4Port = 120,           // node atom, u64 id, u32 creation
  kLocal = 121,            // only after the version byte: bytes for one particular decoder (OTP 26)

  // Not of ETF: u32, which of the loans of its frame this binary is (docs/protocol.md, "Loans"). Read only
  // where Limits says that there are some.
  kLent = 200,
};

inline constexpr std::uint32_t kMaxAtomCharacters = 255;
inline constexpr std::uint32_t kMaxReferenceWords = 5;
inline constexpr std::uint32_t kMaxStringLength = 65'535;

}  // namespace typhon::etf

// decode: bytes in Erlang's External Term Format to a host language's values, in one pass and without a tree
// between.
//
// The reader knows the format; a *decoder* knows the host. The reader reads a leaf and hands it to the
// decoder, which makes a Value; a container is opened, filled element by element, and closed into a Value.
// Nesting lies on an explicit stack (32 frames inline, then heap, bounded by Limits::max_depth), so deep
// terms cannot overflow the native one, and after a failure the stack says where it happened.
//
// Guarantees
//   * Every read is bounds-checked. No container is opened unless the bytes that remain can hold all elements
//     which it and all open containers around it still claim: nested lies cannot add up, so a decoder may
//     preallocate `n`.
//   * noexcept; decoders must be, too (the concept demands it). No allocation but the deep stack and the
//     inflated bytes of a compressed term; their failure is an Outcome with kSystem.
//   * kTruncated means: more bytes could make this valid. Every proper prefix of a valid term gives it.
//   * A call of decode() shares nothing: calls on several threads are independent.
#pragma once

#include <utility>

#include "etf/host_decoder.h"
#include "etf/inflate.h"
#include "etf/outcome.h"
#include "etf/reader.h"
#include "etf/tags.h"
#include "etf/views.h"

namespace typhon::etf {

// Decodes the term at the start of `input` (which begins with the version byte) and says in Outcome::used how
// many bytes it took. On failure `out` is untouched and the decoder holds nothing any more.
template <HostDecoder B>
Outcome decode_prefix(Bytes input, B& decoder, const Limits& limits, typename B::Value& out) noexcept {
  detail::Reader<B> reader(decoder, limits, input);
  if (input.empty()) return reader.reject(Code::kTruncated, input.data(), "the version byte 131");
  if (input[0] != kVersion) return reader.reject(Code::kInvalid, input.data(), "the version byte 131");
  if (input.size() < 2) return reader.reject(Code::kTruncated, input.data() + 1, "a term");
  if (input[1] != kCompressed) return reader.run(input.data() + 1, true, out);

  Inflated buffer;
  const Outcome inflation = inflate(input, limits.max_inflated, buffer);
  if (!inflation.ok()) return reader.reject(inflation.code, input.data() + 1, inflation.expected);
  const Bytes bytes = buffer.bytes();  // stays valid when the decoder moves the buffer away
  if constexpr (HasInflated<B>) decoder.inflated(buffer);
  detail::Reader<B> inner(decoder, limits, bytes);
  inner.mark_inflated();
  typename B::Value value{};
  Outcome outcome = inner.run(bytes.data(), false, value);
  if (!outcome.ok()) return outcome;
  if (outcome.used != bytes.size()) {
    decoder.drop(value);
    return inner.reject(Code::kTrailing, bytes.data() + outcome.used, "the end of the inflated term");
  }
  out = std::move(value);
  outcome.used = inflation.used;
  return outcome;
}

// Decodes `input`, which must be one whole term and nothing after it.
template <HostDecoder B>
Outcome decode(Bytes input, B& decoder, const Limits& limits, typename B::Value& out) noexcept {
  typename B::Value value{};
  const Outcome outcome = decode_prefix(input, decoder, limits, value);
  if (!outcome.ok()) return outcome;
  if (outcome.used != input.size()) {
    decoder.drop(value);
    detail::Reader<B> reader(decoder, limits, input);
    return reader.reject(Code::kTrailing, input.data() + outcome.used, "the end of the input");
  }
  out = std::move(value);
  return outcome;
}

}  // namespace typhon::etf

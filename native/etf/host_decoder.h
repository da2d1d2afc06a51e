// HostDecoder: what a host language plugs into decode().
//
// What the reader settles so that decoders need not: integers that fit 64 bits always arrive by integer();
// big() gets only larger ones, without leading zeros. Latin-1 atoms arrive as UTF-8. A bit string of whole
// bytes arrives by binary(); STRING_EXT and LIST_EXT of no elements by nil() (or as their tail, as OTP has
// it); a list whose tail is a list arrives as one list. Floats are finite. Text is validated for atoms only,
// not for binaries.
//
// Everything is noexcept. Every `bool` means: false to stop; the Outcome is kHost then, and the decoder keeps
// the details.
//
//   using Value
//     Default constructible, nothrow movable; may be a raw owning pointer or an ERL_NIF_TERM.
//   using Container
//     The state of one open container (the result under construction, a pending key …); the same demands. It
//     is moved when the stack grows: no pointers into itself.
//
// Leaves. Each makes a Value:
//
//   bool integer(std::int64_t, Value&);
//   bool big(bool negative, Bytes little_endian_magnitude, Value&);
//   bool floating(double, Value&);
//   bool atom(std::string_view utf8, Value&);
//     At most 255 characters of valid UTF-8.
//   bool find_atom(std::string_view bytes, Value&);
//     Optional. Called before validation: true and a Value when the decoder has an atom of exactly these
//     bytes already. False is not an error: validation and atom() follow. Must be noexcept to be found.
//   bool binary(Bytes, Value&);
//   bool lent(std::uint32_t index, Value&);
//     Optional, and noexcept to be found. A binary that did not come with the term but as loan `index` of
//     Limits::loans.
//   bool bits(Bytes, unsigned bits_in_last_byte, Value&);
//     1 to 7 bits in the last byte, the highest ones; the others may be anything: mask them.
//   bool nil(Value&);
//     The empty list.
//   bool string(Bytes, Value&);
//     A list of 1 to 65,535 integers from 0 to 255.
//   bool pid(const PidView&, Value&);
//   bool port(const PortView&, Value&);
//   bool reference(const ReferenceView&, Value&);
//   bool exported_fun(const ExportView&, Value&);
//   bool fun(const FunView&, Value&);
//   bool local(const LocalView&, Value&);
//
// Containers:
//
//   bool open_tuple(std::uint32_t n, Container&);  n may be 0
//   bool open_list(std::uint32_t n, Container&);   n is at least 1
//   bool open_map(std::uint32_t n, Container&);    n pairs, may be 0
//     After false the Container is not used again.
//   bool extend_list(Container&, std::uint32_t more);
//     More elements will come than were announced: a list is the tail of a list. OTP takes that, though no
//     known encoder writes it. A decoder that appends beyond what it preallocated need not do anything here.
//   bool element(Container&, std::uint32_t index, Value&&);
//   bool map_key(Container&, std::uint32_t index, Value&&);
//     Called BEFORE the value of the pair is decoded, so that a decoder can react to `__struct__`. Keep the
//     key in the Container.
//   bool map_value(Container&, std::uint32_t index, Value&&);
//     Refuse duplicate keys here or in close(), as OTP does: the reader compares no keys.
//     These three consume the Value, also when they return false.
//   bool close(Container&, Value&);
//     All elements are there. For a list this means a proper one.
//   bool close_improper(Container&, Value&& tail, Value&);
//     The same for a list with another tail than [], which is consumed in any case.
//     After true the Container is consumed; after false it is still open and will be abandoned.
//   void abandon(Container&);
//     Release an open container after a failure.
//   void drop(Value&);
//     Release a Value that found no place: there are bytes after the term.
//
// Also optional (noexcept, too):
//
//   void failed(const Outcome&, std::span<const Frame<Decoder>>);
//     Called once on failure, before any abandon(): the open frames from the outermost to the innermost, to
//     print a path. See Frame for what its fields mean then.
//   void inflated(Inflated&);
//     The term is compressed: every span of this call points into this buffer, not into the input. A decoder
//     that borrows spans for longer moves the buffer to itself (addresses stay).
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "etf/inflate.h"
#include "etf/outcome.h"
#include "etf/views.h"

namespace typhon::etf {

enum class Kind : std::uint8_t { kTuple, kList, kMap };

// What of a frame is being read. For maps: its key or its value; for lists also the tail.
enum class Part : std::uint8_t { kElement, kTail, kKey, kValue };

// One open container. At a failure: `index` is the element (or pair) that was being read or delivered, `part`
// says which half of a pair; with kValue the key is in the container, where map_key() put it. With index ==
// count the container itself was being closed (or, part kTail, its improper tail read).
template <class Decoder>
struct Frame {
  typename Decoder::Container container;
  const std::uint8_t* start;  // of the container's own tag
  std::uint64_t owed;         // terms that the frames below still have to read: each takes at least a byte
  std::uint32_t index;
  std::uint32_t count;
  Kind kind;
  Part part;
};

// clang-format off
template <class B>
concept HostDecoder =
    std::is_nothrow_default_constructible_v<typename B::Value> && std::is_nothrow_move_constructible_v<typename B::Value> &&
    std::is_nothrow_move_assignable_v<typename B::Value> &&
    std::is_nothrow_default_constructible_v<typename B::Container> && std::is_nothrow_move_constructible_v<typename B::Container> &&
    requires(B b, typename B::Value& v, typename B::Container& c, std::int64_t i, std::uint32_t n, unsigned u, double d, bool negative,
             Bytes bytes, std::string_view text, const PidView& pid, const PortView& port, const ReferenceView& reference,
             const ExportView& exported, const FunView& fun, const LocalView& local) {
      { b.integer(i, v) } noexcept -> std::same_as<bool>;
      { b.big(negative, bytes, v) } noexcept -> std::same_as<bool>;
      { b.floating(d, v) } noexcept -> std::same_as<bool>;
      { b.atom(text, v) } noexcept -> std::same_as<bool>;
      { b.binary(bytes, v) } noexcept -> std::same_as<bool>;
      { b.bits(bytes, u, v) } noexcept -> std::same_as<bool>;
      { b.nil(v) } noexcept -> std::same_as<bool>;
      { b.string(bytes, v) } noexcept -> std::same_as<bool>;
      { b.pid(pid, v) } noexcept -> std::same_as<bool>;
      { b.port(port, v) } noexcept -> std::same_as<bool>;
      { b.reference(reference, v) } noexcept -> std::same_as<bool>;
      { b.exported_fun(exported, v) } noexcept -> std::same_as<bool>;
      { b.fun(fun, v) } noexcept -> std::same_as<bool>;
      { b.local(local, v) } noexcept -> std::same_as<bool>;
      { b.open_tuple(n, c) } noexcept -> std::same_as<bool>;
      { b.open_list(n, c) } noexcept -> std::same_as<bool>;
      { b.open_map(n, c) } noexcept -> std::same_as<bool>;
      { b.extend_list(c, n) } noexcept -> std::same_as<bool>;
      { b.element(c, n, std::move(v)) } noexcept -> std::same_as<bool>;
      { b.map_key(c, n, std::move(v)) } noexcept -> std::same_as<bool>;
      { b.map_value(c, n, std::move(v)) } noexcept -> std::same_as<bool>;
      { b.close(c, v) } noexcept -> std::same_as<bool>;
      { b.close_improper(c, std::move(v), v) } noexcept -> std::same_as<bool>;
      { b.abandon(c) } noexcept;
      { b.drop(v) } noexcept;
    };

template <class B>
concept HasFindAtom = requires(B b, std::string_view text, typename B::Value& v) {
  { b.find_atom(text, v) } noexcept -> std::same_as<bool>;
};
template <class B>
concept HasLent = requires(B b, std::uint32_t index, typename B::Value& v) {
  { b.lent(index, v) } noexcept -> std::same_as<bool>;
};
template <class B>
concept HasFailed = requires(B b, const Outcome& outcome, std::span<const Frame<B>> frames) {
  { b.failed(outcome, frames) } noexcept;
};
template <class B>
concept HasInflated = requires(B b, Inflated& buffer) {
  { b.inflated(buffer) } noexcept;
};
// clang-format on

}  // namespace typhon::etf

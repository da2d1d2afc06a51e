#include "beam/decoder.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <new>

#include "beam/binary_loans.h"
#include "beam/handed.h"
#include "beam/worker_channel.h"
#include "etf/cost.h"
#include "etf/tags.h"

namespace typhon::beam {
namespace {

// Below this a copy is cheaper than a resource binary, and does not hold a segment back.
constexpr std::size_t kLendAtLeast = std::size_t{64} * 1024;
// A binary is lent only when it is at least this part of its segment: a small one must not pin a large one.
constexpr std::size_t kLendShare = 4;
// Not what was inflated, which goes away.
bool lies_in(etf::Bytes part, etf::Bytes whole) noexcept {
  const auto begin = reinterpret_cast<std::uintptr_t>(whole.data());
  const auto at = reinterpret_cast<std::uintptr_t>(part.data());
  return at >= begin && at < begin + whole.size();
}

// Larger ones are made in another way by the emulator.
constexpr std::size_t kSmallMap = 32;

// UTF-8 to Latin-1; false when a character is beyond it.
bool to_latin1(std::string_view utf8, std::array<char, 256>& out, std::size_t& length) noexcept {
  length = 0;
  for (std::size_t i = 0; i < utf8.size();) {
    const auto byte = static_cast<unsigned char>(utf8[i]);
    if (length == out.size()) return false;
    if (byte < 0x80) {
      out[length++] = utf8[i++];
    } else if ((byte == 0xc2 || byte == 0xc3) && i + 1 < utf8.size()) {
      const auto next = static_cast<unsigned char>(utf8[i + 1]);
      out[length++] = static_cast<char>(((byte & 3U) << 6) | (next & 0x3fU));
      i += 2;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

bool Decoder::decode(std::span<const std::uint8_t> body) noexcept {
  etf::Limits limits;
  if (loans_) limits.loans = loans_->count();
  if (!segment_) limits.max_inflated = kDirectly / etf::kMostCostOfAByte;
  limits.max_inflated = std::min<std::uint64_t>(limits.max_inflated, channel_.max_result());
  const bool decoded = etf::decode(body, *this, limits, term_).ok();
  if (needs_scheduler_) {
    for (ObjectHandle* handle : handles_) handle->disowned = true;
  }
  return decoded;
}

ERL_NIF_TERM Decoder::decode_reply(std::span<const std::uint8_t> body, bool is_error) noexcept {
  const Atoms& atoms = channel_.atoms();
  if (decode(body)) return enif_make_tuple2(env_, is_error ? atoms.error : atoms.ok, term_);
  const ERL_NIF_TERM error = enif_make_tuple3(env_, atoms.cannot_decode_result, make_binary(env_, path_),
                                              make_binary(env_, message_));
  return enif_make_tuple2(env_, atoms.error, error);
}

ERL_NIF_TERM Decoder::decode_reply(const SegmentHandle& segment) noexcept {
  return decode_reply(segment.body, segment.is_error);
}

ERL_NIF_TERM Decoder::decode_plain_reply(const SegmentHandle& segment) noexcept {
  const std::span<const std::uint8_t> body = segment.body;
  const Atoms& atoms = channel_.atoms();
  std::unique_ptr<std::uint8_t[]> copy;
  const std::uint8_t* bytes = body.data();
  if (!segment.is_private()) {
    copy.reset(new (std::nothrow) std::uint8_t[body.size()]);
    if (copy) std::memcpy(copy.get(), body.data(), body.size());
    bytes = copy.get();
  }
  // What expands is not for the emulator, which takes any size.
  const bool compressed = bytes && body.size() > 1 && bytes[1] == etf::kCompressed;
  if (bytes && !compressed &&
      enif_binary_to_term(env_, bytes, body.size(), &term_, ERL_NIF_BIN2TERM_SAFE) == body.size())
    return enif_make_tuple2(env_, segment.is_error ? atoms.error : atoms.ok, term_);
  return decode_reply(segment);  // it makes new atoms if it may, or tells what is wrong, and where
}

bool Decoder::spend(std::size_t terms) noexcept {
  if (terms > terms_left_) {
    over_budget_ = true;
    return false;
  }
  terms_left_ -= terms;
  return true;
}

bool Decoder::open(etf::Kind kind, std::size_t n, Container& container) noexcept {
  if (!spend(n)) return false;
  container.kind = kind;
  container.base = static_cast<std::uint32_t>(terms_.size());
  container.is_struct = false;
  terms_.reserve(terms_.size() + n);  // the reader has checked n against the bytes that remain
  return true;
}

bool Decoder::big(bool negative, etf::Bytes magnitude, Value& out) noexcept {
  etf::HeapSink sink;
  etf::Writer writer(sink);
  writer.version();
  writer.big(negative, magnitude);
  if (!writer.ok()) return refuse("the integer is too large");
  if (enif_binary_to_term(env_, sink.data, sink.size, &out, ERL_NIF_BIN2TERM_SAFE) != 0) return true;
  return refuse("the integer is larger than the BEAM can hold");
}

bool Decoder::may_make_atoms(std::int64_t most) noexcept {
  return channel_.create_atoms() && channel_.atom_room().take(most);
}

// By the emulator's own decoder. It makes `most_atoms` at most.
bool Decoder::external(etf::Bytes bytes, std::int64_t most_atoms, Value& out) noexcept {
  const auto decode = [&](ErlNifBinaryToTerm mode) {
    return enif_binary_to_term(env_, bytes.data(), bytes.size(), &out, mode) == bytes.size();
  };
  return decode(ERL_NIF_BIN2TERM_SAFE) || (may_make_atoms(most_atoms) && decode(ErlNifBinaryToTerm{}));
}

bool Decoder::atom(std::string_view utf8, Value& out) noexcept {
  std::array<char, 256> latin1;
  std::size_t length = 0;
  if (to_latin1(utf8, latin1, length)) {
    if (enif_make_existing_atom_len(env_, latin1.data(), length, &out, ERL_NIF_LATIN1)) return true;
    if (may_make_atoms(1)) {
      out = enif_make_atom_len(env_, latin1.data(), length);
      return true;
    }
  } else {
    etf::HeapSink sink;
    etf::Writer writer(sink);
    writer.version();
    writer.atom(utf8);
    if (writer.ok() && external({sink.data, sink.size}, 1, out)) return true;
  }
  if (channel_.create_atoms())
    return refuse(
        "the atom :" + std::string(utf8) +
        " would be new, and Python has brought so many that half of the room in the atom table of this "
        "VM is taken; return a string");
  return refuse("the atom :" + std::string(utf8) +
                " does not exist in this VM; return a string, or start the pool with atoms: :create");
}

bool Decoder::binary(etf::Bytes bytes, Value& out) noexcept {
  if (segment_ && bytes.size() >= kLendAtLeast && bytes.size() >= segment_->body.size() / kLendShare &&
      lies_in(bytes, segment_->body)) {
    if (!segment_->copy && !segment_->pinned.exchange(true, std::memory_order_relaxed))
      channel_.pinned().add(segment_->body.size());
    void* const owner = segment_->copy ? static_cast<void*>(segment_->copy) : segment_;
    out = enif_make_resource_binary(env_, owner, bytes.data(), bytes.size());
    return true;
  }
  if (bytes.size() > bytes_left_) {
    over_budget_ = true;
    return false;
  }
  bytes_left_ -= bytes.size();
  unsigned char* data = enif_make_new_binary(env_, bytes.size(), &out);
  if (!data) return refuse("out of memory");
  if (!bytes.empty()) std::memcpy(data, bytes.data(), bytes.size());
  return true;
}

bool Decoder::lent(std::uint32_t index, Value& out) noexcept {
  channel::Loan* loan = loans_->at(index);
  void* memory = loan ? enif_alloc_resource(channel_.state().borrowed_type, sizeof(Borrowed)) : nullptr;
  if (!memory) return refuse("out of memory");
  auto* borrowed = new (memory) Borrowed{loan, &channel_};
  channel::hold(*loan);
  enif_keep_resource(&channel_);
  channel_.borrowed().add(loan->size);
  channel_.state().borrowed.add(loan->size);
  out = enif_make_resource_binary(env_, borrowed, loan->data, loan->size);
  enif_release_resource(borrowed);
  return true;
}

bool Decoder::bits(etf::Bytes bytes, unsigned bits_in_last_byte, Value& out) noexcept {
  etf::HeapSink sink;
  etf::Writer writer(sink);
  writer.version();
  writer.bits(bytes, bits_in_last_byte);
  if (writer.ok() && enif_binary_to_term(env_, sink.data, sink.size, &out, ERL_NIF_BIN2TERM_SAFE) != 0)
    return true;
  return refuse("a bit string that the VM refuses");
}

bool Decoder::string(etf::Bytes bytes, Value& out) noexcept {
  if (!spend(bytes.size())) return false;
  scratch_.resize(bytes.size());
  for (std::size_t i = 0; i < bytes.size(); ++i) scratch_[i] = enif_make_uint(env_, bytes[i]);
  out = enif_make_list_from_array(env_, scratch_.data(), static_cast<unsigned>(scratch_.size()));
  return true;
}

// A fun is code: whoever gets it may call it. With an allow list Python may give back those that it was
// handed, and name those that are in the list.
bool Decoder::may_hold_fun(etf::Bytes raw) noexcept {
  Handed* const handed = channel_.handed();
  if (!handed || objects_only_ || handed->contains({reinterpret_cast<const char*>(raw.data()), raw.size()})) {
    return true;
  }
  return refuse("a function that this worker was not handed, which the option allow: of its pool forbids");
}

bool Decoder::exported_fun(const etf::ExportView& view, Value& out) noexcept {
  Handed* const handed = channel_.handed();
  const bool listed = handed && handed->may_call(env_, view.module, view.function, view.arity);
  return (listed || may_hold_fun(view.raw)) && foreign(view.raw, out);
}

// What may hold any term. A large map in it ends the emulator on other threads, as in close_large_map().
bool Decoder::foreign_container(etf::Bytes raw, Value& out) noexcept {
  if (objects_only_) {
    out = enif_make_list(env_, 0);
    return true;
  }
  constexpr std::size_t kHoldsNoLargeMap = 2 * kSmallMap;
  if (raw.size() <= kHoldsNoLargeMap || on_scheduler()) return foreign(raw, out);
  needs_scheduler_ = true;
  return refuse("a fun that only a scheduler can make");
}

bool Decoder::foreign(etf::Bytes raw, Value& out) noexcept {
  etf::HeapSink sink;
  etf::Writer writer(sink);
  writer.version();
  writer.raw(raw);
  if (!writer.ok()) return refuse("out of memory");
  // An atom takes three bytes or more.
  if (external({sink.data, sink.size}, 1 + static_cast<std::int64_t>(sink.size / 3), out)) return true;
  return refuse("an identifier or fun that this VM refuses (it may name an atom that does not exist here)");
}

bool Decoder::map_key(Container& container, std::uint32_t index, Value&& key) noexcept {
  if (index == 0 && key == channel_.atoms().struct_key) container.is_struct = true;
  return push(key);
}

bool Decoder::close(Container& container, Value& out) noexcept {
  const auto count = static_cast<unsigned>(terms_.size() - container.base);
  const ERL_NIF_TERM* first = terms_.data() + container.base;
  switch (container.kind) {
    case etf::Kind::kTuple:
      out = enif_make_tuple_from_array(env_, first, count);
      break;
    case etf::Kind::kList:
      out = enif_make_list_from_array(env_, first, count);
      break;
    case etf::Kind::kMap:
      if (!close_map(container, out)) return false;
      break;
  }
  terms_.resize(container.base);
  return true;
}

bool Decoder::close_improper(Container& container, Value&& tail, Value& out) noexcept {
  out = tail;
  for (std::size_t i = terms_.size(); i > container.base; --i)
    out = enif_make_list_cell(env_, terms_[i - 1], out);
  terms_.resize(container.base);
  return true;
}

bool Decoder::close_map(const Container& container, Value& out) noexcept {
  const std::size_t pairs = (terms_.size() - container.base) / 2;
  if (pairs > kSmallMap && !on_scheduler()) return close_large_map(container, out);
  scratch_.resize(pairs * 2);
  for (std::size_t i = 0; i < pairs; ++i) {
    scratch_[i] = terms_[container.base + 2 * i];
    scratch_[pairs + i] = terms_[container.base + 2 * i + 1];
  }
  if (!enif_make_map_from_arrays(env_, scratch_.data(), scratch_.data() + pairs, pairs, &out)) {
    return refuse("a map with the same key twice");
  }
  if (container.is_struct && !channel_.raw() && scratch_[pairs] == channel_.atoms().object)
    return attach_object(out);
  return true;
}

// On a thread that is no scheduler: there the emulator (OTP 25) cannot sort the hashes of a large map, which
// it does with a scheduler's random numbers.
bool Decoder::close_large_map(const Container& container, Value& out) noexcept {
  out = enif_make_new_map(env_);
  for (std::size_t i = container.base; i < terms_.size(); i += 2) {
    if (enif_make_map_put(env_, out, terms_[i], terms_[i + 1], &out) == 0) return refuse("out of memory");
  }
  std::size_t size = 0;
  enif_get_map_size(env_, out, &size);
  if (2 * size != terms_.size() - container.base) return refuse("a map with the same key twice");
  return true;
}

// The struct as Elixir has it: what the worker said of the object, whose it is, and the resource.
bool Decoder::attach_object(Value& map) noexcept {
  const Atoms& atoms = channel_.atoms();
  ERL_NIF_TERM id_term = 0;
  ERL_NIF_TERM type = 0;
  ErlNifUInt64 id = 0;
  if (!enif_get_map_value(env_, map, atoms.id, &id_term) || !enif_get_uint64(env_, id_term, &id)) {
    return refuse("an object handle without an id");
  }
  if (!enif_get_map_value(env_, map, atoms.type, &type) || !enif_is_binary(env_, type)) {
    return refuse("an object handle without a type");
  }
  ERL_NIF_TERM repr = atoms.nil;
  if (enif_get_map_value(env_, map, atoms.repr, &repr) && !enif_is_binary(env_, repr)) {
    return refuse("an object handle whose repr is no text");
  }
  void* memory = enif_alloc_resource(channel_.state().object_type, sizeof(ObjectHandle));
  auto* handle = new (memory) ObjectHandle{&channel_, id, false, false};
  if (!on_scheduler()) handles_.push_back(handle);
  enif_keep_resource(&channel_);
  const ERL_NIF_TERM ref = enif_make_resource(env_, handle);
  enif_release_resource(handle);
  const std::array keys{atoms.struct_key, atoms.id, atoms.type, atoms.repr, atoms.ref, atoms.pool};
  const std::array values{atoms.object, id_term, type, repr, ref, channel_.pool(env_)};
  return enif_make_map_from_arrays(env_, const_cast<ERL_NIF_TERM*>(keys.data()),
                                   const_cast<ERL_NIF_TERM*>(values.data()), keys.size(), &map) != 0;
}

std::string Decoder::print_key(ERL_NIF_TERM key) const noexcept {
  ErlNifBinary binary;
  if (enif_inspect_binary(env_, key, &binary)) {
    return '"' +
           std::string(reinterpret_cast<const char*>(binary.data), std::min<std::size_t>(binary.size, 64)) +
           '"';
  }
  std::array<char, 96> text;
  enif_snprintf(text.data(), text.size(), enif_is_atom(env_, key) ? ":%T" : "%T", key);
  return text.data();
}

void Decoder::failed(const etf::Outcome& outcome, std::span<const etf::Frame<Decoder>> frames) noexcept {
  path_ = "result";
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const auto& frame = frames[i];
    if (frame.part == etf::Part::kValue) {
      // The key of the open pair is the last term before those of the containers inside it.
      const std::size_t end = i + 1 < frames.size() ? frames[i + 1].container.base : terms_.size();
      path_ += '[' + print_key(terms_[end - 1]) + ']';
    } else if (frame.part == etf::Part::kElement) {
      path_ += '[' + std::to_string(frame.index) + ']';
    }
  }
  if (message_.empty()) {
    message_ = std::string("byte ") + std::to_string(outcome.offset) + ": expected " + outcome.expected;
  }
}

}  // namespace typhon::beam

#include "beam/encoder.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>

#include "beam/body_sink.h"
#include "beam/handed.h"
#include "beam/worker_channel.h"
#include "etf/tags.h"

namespace typhon::beam {
namespace {

constexpr std::size_t kMaxDepth = 10'000;  // the reader's limit
constexpr std::size_t kSmallMap = 32;      // larger ones are in no order

bool is_ascii(const char* text, std::size_t length) noexcept {
  for (std::size_t i = 0; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0x80U) != 0) return false;
  }
  return true;
}

}  // namespace

Encoder::Encoder(ErlNifEnv* env, const State& state, const WorkerChannel* channel, BodySink& sink) noexcept
    : env_(env), state_(state), channel_(channel), sink_(sink), writer_(sink), text_(channel->text()) {}

Encoder::~Encoder() {
  for (Frame& frame : stack_) {
    if (frame.kind == Frame::Kind::kMap) enif_map_iterator_destroy(env_, &frame.iterator);
  }
}

Encoder::Status Encoder::call(ERL_NIF_TERM module, ERL_NIF_TERM function, ERL_NIF_TERM args,
                              ERL_NIF_TERM kwargs) noexcept {
  const bool done = writer_.version() && writer_.tuple_header(4) && name(module) && name(function) &&
                    walk(args) && keywords(kwargs);
  if (done) return Status::kDone;
  return status_ == Status::kDone ? Status::kFull : status_;
}

Encoder::Status Encoder::value(ERL_NIF_TERM term) noexcept {
  if (writer_.version() && walk(term)) return Status::kDone;
  return status_ == Status::kDone ? Status::kFull : status_;
}

// A module or function: its text, or an object handle in the place of a module.
bool Encoder::name(ERL_NIF_TERM value) noexcept {
  std::array<char, 256> text;
  const int length = enif_get_atom(env_, value, text.data(), text.size(), ERL_NIF_LATIN1);
  if (length > 0) {
    const std::string_view latin1(text.data(), static_cast<std::size_t>(length) - 1);
    return is_ascii(latin1.data(), latin1.size()) ? writer_.binary(latin1) : latin1_name(latin1);
  }
  if (enif_is_atom(env_, value)) return wide_name(value);
  ErlNifBinary binary;
  if (enif_inspect_binary(env_, value, &binary)) return writer_.binary(etf::Bytes(binary.data, binary.size));
  if (enif_is_map(env_, value)) return walk(value);
  return stop(Status::kBadTerm, "a module or function must be an atom or a string");
}

// Names are UTF-8.
bool Encoder::latin1_name(std::string_view latin1) noexcept {
  std::array<char, 512> utf8;
  std::size_t size = 0;
  for (const char letter : latin1) {
    const auto code = static_cast<unsigned char>(letter);
    if (code < 0x80) {
      utf8[size++] = letter;
    } else {
      utf8[size++] = static_cast<char>(0xC0U | (code >> 6U));
      utf8[size++] = static_cast<char>(0x80U | (code & 0x3FU));
    }
  }
  return writer_.binary(std::string_view(utf8.data(), size));
}

// An atom beyond Latin-1. The NIF API tells its text from OTP 26 on only; the emulator's encoder always
// writes it as UTF-8.
bool Encoder::wide_name(ERL_NIF_TERM atom) noexcept {
  ErlNifBinary encoded;
  if (!enif_term_to_binary(env_, atom, &encoded)) return stop(Status::kBadTerm, "out of memory");
  const std::size_t header = encoded.data[1] == etf::kSmallAtomUtf8 ? 3 : 4;
  const bool written = writer_.binary(etf::Bytes(encoded.data + header, encoded.size - header));
  enif_release_binary(&encoded);
  return written;
}

bool Encoder::keywords(ERL_NIF_TERM value) noexcept {
  std::size_t size = 0;
  if (!enif_get_map_size(env_, value, &size)) return stop(Status::kBadTerm, "kwargs must be a map");
  Frame frame{.kind = Frame::Kind::kMap};
  frame.names = true;
  if (!writer_.map_header(size)) return false;
  if (size == 0) return true;
  if (!enif_map_iterator_create(env_, value, &frame.iterator, ERL_NIF_MAP_ITERATOR_FIRST)) {
    return stop(Status::kBadTerm, "out of memory");
  }
  stack_.push_back(frame);
  return drain(0);
}

bool Encoder::walk(ERL_NIF_TERM root) noexcept {
  const std::size_t base = stack_.size();
  return term(root) && drain(base);
}

// Writes all that the containers above `base` still hold.
bool Encoder::drain(std::size_t base) noexcept {
  while (stack_.size() > base) {
    Frame& frame = stack_.back();
    switch (frame.kind) {
      case Frame::Kind::kTuple: {
        if (frame.remaining == 0) {
          stack_.pop_back();
          break;
        }
        --frame.remaining;
        const ERL_NIF_TERM element = *frame.elements++;
        if (!term(element)) return false;
        break;
      }
      case Frame::Kind::kList: {
        // Lists are where the numbers are: as long as it begins with integers, without a look at types.
        ERL_NIF_TERM head = 0;
        ERL_NIF_TERM tail = 0;
        if (frame.numbers) {
          ErlNifSInt64 number = 0;
          while (terms_left_ > 0 && frame.count < std::numeric_limits<std::uint32_t>::max() &&
                 enif_get_list_cell(env_, frame.tail, &head, &tail) && enif_get_int64(env_, head, &number)) {
            --terms_left_;
            ++frame.count;
            frame.tail = tail;
            if (!writer_.integer(number)) return false;
          }
          frame.numbers = false;
        }
        if (enif_get_list_cell(env_, frame.tail, &head, &tail)) {
          frame.tail = tail;
          if (++frame.count == std::numeric_limits<std::uint32_t>::max()) {
            return stop(Status::kBadTerm, "a list of 2^32 elements or more");
          }
          if (!term(head)) return false;
          break;
        }
        writer_.patch_count(frame.header, frame.count);
        const ERL_NIF_TERM last = frame.tail;
        stack_.pop_back();
        if (enif_is_empty_list(env_, last)) {
          if (!writer_.nil()) return false;
        } else if (!term(last)) {
          return false;
        }
        break;
      }
      case Frame::Kind::kMap:
        if (!pairs(frame)) return false;
        break;
    }
  }
  return true;
}

// Pairs of a map up to the first one that holds a container, which goes onto the stack and comes first.
bool Encoder::pairs(Frame& frame) noexcept {
  const std::size_t depth = stack_.size();
  ERL_NIF_TERM key = 0;
  ERL_NIF_TERM value = 0;
  while (enif_map_iterator_get_pair(env_, &frame.iterator, &key, &value)) {
    if (!frame.at_value) {
      if (frame.skip_struct_key && key == state_.atoms.struct_key) {
        enif_map_iterator_next(env_, &frame.iterator);
        continue;
      }
      frame.at_value = true;
      if (!this->key(frame, key)) return false;
      if (stack_.size() != depth) return true;
    }
    frame.at_value = false;
    enif_map_iterator_next(env_, &frame.iterator);
    if (!(frame.skip_struct_key ? field(value) : term(value))) return false;
    if (stack_.size() != depth) return true;
  }
  enif_map_iterator_destroy(env_, &frame.iterator);
  stack_.pop_back();
  return true;
}

bool Encoder::key(const Frame& frame, ERL_NIF_TERM key) noexcept {
  if ((frame.names || frame.text) && enif_is_atom(env_, key)) return frame.names ? name(key) : text_atom(key);
  is_key_ = true;
  const bool written = term(key);
  is_key_ = false;
  return written;
}

// Of a struct of the wire. An atom there is what the reader looks for.
bool Encoder::field(ERL_NIF_TERM value) noexcept {
  if (!enif_is_atom(env_, value)) return term(value);
  hand(value);
  return atom(value);
}

bool Encoder::term(ERL_NIF_TERM value) noexcept {
  if (terms_left_-- == 0) return stop(Status::kOverBudget);
  switch (enif_term_type(env_, value)) {
    case ERL_NIF_TERM_TYPE_INTEGER: {
      ErlNifSInt64 number = 0;
      if (enif_get_int64(env_, value, &number)) return writer_.integer(number);
      return foreign(value);
    }
    case ERL_NIF_TERM_TYPE_FLOAT: {
      double number = 0;
      enif_get_double(env_, value, &number);
      return writer_.floating(number);
    }
    case ERL_NIF_TERM_TYPE_ATOM:
      if (is_key_) return atom(value);
      hand(value);  // as a name
      return (text_ & kValuesAsText) != 0 ? text_atom(value) : atom(value);
    case ERL_NIF_TERM_TYPE_BITSTRING: {
      ErlNifBinary binary;
      if (enif_inspect_binary(env_, value, &binary))
        return this->binary(value, etf::Bytes(binary.data, binary.size));
      return foreign(value);
    }
    case ERL_NIF_TERM_TYPE_LIST: {
      if (enif_is_empty_list(env_, value)) return writer_.nil();
      if (stack_.size() >= kMaxDepth) return stop(Status::kBadTerm, "nested more than 10,000 deep");
      Frame frame{.kind = Frame::Kind::kList};
      frame.header = writer_.position() + 1;
      frame.tail = value;
      if (!writer_.list_header(0)) return false;
      stack_.push_back(frame);
      return true;
    }
    case ERL_NIF_TERM_TYPE_TUPLE: {
      if (stack_.size() >= kMaxDepth) return stop(Status::kBadTerm, "nested more than 10,000 deep");
      int arity = 0;
      Frame frame{.kind = Frame::Kind::kTuple};
      enif_get_tuple(env_, value, &arity, &frame.elements);
      frame.remaining = static_cast<std::uint32_t>(arity);
      if (!writer_.tuple_header(frame.remaining)) return false;
      if ((text_ & kValuesAsText) != 0 && is_tagged(frame)) {
        // Numbers, and atoms that the reader looks for.
        while (frame.remaining-- > 0) {
          if (!field(*frame.elements++)) return false;
        }
        return true;
      }
      stack_.push_back(frame);
      return true;
    }
    case ERL_NIF_TERM_TYPE_MAP:
      return map(value);
    case ERL_NIF_TERM_TYPE_PID:
    case ERL_NIF_TERM_TYPE_REFERENCE:
    case ERL_NIF_TERM_TYPE_FUN:
      hand(value);
      return foreign(value);
    default:
      return foreign(value);
  }
}

// A tuple that stands for an object of Python's, by its first element.
bool Encoder::is_tagged(const Frame& tuple) const noexcept {
  const Atoms& atoms = state_.atoms;
  const auto parts_are = [&](std::uint32_t size, auto&& part) {
    return tuple.remaining == size && std::all_of(tuple.elements + 1, tuple.elements + size, part);
  };
  const auto integer = [&](ERL_NIF_TERM part) {
    return enif_term_type(env_, part) == ERL_NIF_TERM_TYPE_INTEGER;
  };
  const auto number = [&](ERL_NIF_TERM part) {
    return integer(part) || enif_term_type(env_, part) == ERL_NIF_TERM_TYPE_FLOAT || part == atoms.nan ||
           part == atoms.infinity || part == atoms.neg_infinity;
  };
  if (tuple.remaining == 0) return false;
  const ERL_NIF_TERM tag = tuple.elements[0];
  if (tag == atoms.timedelta) return parts_are(4, integer);
  if (!channel_->tagged()) return false;
  return (tag == atoms.fraction && parts_are(3, integer)) || (tag == atoms.complex && parts_are(3, number));
}

// From now on the worker may send to it, or call it, or give it back.
void Encoder::hand(ERL_NIF_TERM value) noexcept {
  if (Handed* const handed = channel_->handed()) [[unlikely]]
    handed->add(handed_key(env_, value));
}

bool Encoder::atom(ERL_NIF_TERM value) noexcept {
  std::array<char, 256> text;
  const int length = enif_get_atom(env_, value, text.data(), text.size(), ERL_NIF_LATIN1);
  if (length > 0) {
    const std::size_t size = static_cast<std::size_t>(length) - 1;
    if (is_ascii(text.data(), size)) return writer_.known_atom(std::string_view(text.data(), size));
  }
  return foreign(value);
}

bool Encoder::text_atom(ERL_NIF_TERM value) noexcept {
  const Atoms& atoms = state_.atoms;
  const bool stays = value == atoms.nil || value == atoms.true_ || value == atoms.false_;
  return stays ? atom(value) : name(value);
}

bool Encoder::binary(ERL_NIF_TERM value, etf::Bytes bytes) noexcept {
  if (!sink_.lends(bytes.size())) [[likely]]
    return writer_.binary(bytes);
  const auto index = sink_.lend(value, bytes.size());
  return index ? writer_.lent(*index)
               : stop(sink_.no_room() ? Status::kFull : Status::kBadTerm, "out of memory");
}

bool Encoder::foreign(ERL_NIF_TERM value) noexcept {
  ErlNifBinary encoded;
  if (!enif_term_to_binary(env_, value, &encoded)) return stop(Status::kBadTerm, "out of memory");
  const bool written = writer_.raw(etf::Bytes(encoded.data + 1, encoded.size - 1));
  enif_release_binary(&encoded);
  return written;
}

bool Encoder::map(ERL_NIF_TERM value) noexcept {
  if (stack_.size() >= kMaxDepth) return stop(Status::kBadTerm, "nested more than 10,000 deep");
  std::size_t size = 0;
  enif_get_map_size(env_, value, &size);
  if (size == 0) return writer_.map_header(0);
  Frame frame{.kind = Frame::Kind::kMap};
  if (!enif_map_iterator_create(env_, value, &frame.iterator, ERL_NIF_MAP_ITERATOR_FIRST)) {
    return stop(Status::kBadTerm, "out of memory");
  }
  ERL_NIF_TERM module = 0;
  if (channel_->raw() || !is_struct(value, size, frame, module)) {
    if (text_ != 0) [[unlikely]] {
      const bool elements = !stack_.empty() && stack_.back().set;
      frame.text = (text_ & (elements ? kValuesAsText : kKeysAsText)) != 0;
    }
    stack_.push_back(frame);
    return writer_.map_header(size);
  }
  const Atoms& atoms = state_.atoms;
  if (module == atoms.object || !atoms.knows_struct(module)) {
    enif_map_iterator_destroy(env_, &frame.iterator);
    return module == atoms.object ? object(value) : stop(Status::kNeedsEncoder);
  }
  // The struct's name goes first, so that a reader knows what it is about to read.
  frame.skip_struct_key = true;
  frame.set = module == atoms.map_set;
  stack_.push_back(frame);
  return writer_.map_header(size) && atom(atoms.struct_key) && atom(module);
}

// `frame` is at the first pair. The keys of a small map are in the order of terms, binaries last: one that
// begins with a binary has no atom among its keys, and so no name.
bool Encoder::is_struct(ERL_NIF_TERM map, std::size_t size, Frame& frame, ERL_NIF_TERM& module) noexcept {
  ERL_NIF_TERM key = 0;
  if (size <= kSmallMap && enif_map_iterator_get_pair(env_, &frame.iterator, &key, &module) &&
      enif_term_type(env_, key) == ERL_NIF_TERM_TYPE_BITSTRING) {
    return false;
  }
  return enif_get_map_value(env_, map, state_.atoms.struct_key, &module) && enif_is_atom(env_, module);
}

bool Encoder::object(ERL_NIF_TERM value) noexcept {
  const Atoms& atoms = state_.atoms;
  ERL_NIF_TERM ref = 0;
  void* resource = nullptr;
  if (!enif_get_map_value(env_, value, atoms.ref, &ref) ||
      !enif_get_resource(env_, ref, state_.object_type, &resource)) {
    return stop(
        Status::kBadTerm,
        "a Typhon.Object that no Python call has returned, or one that has been released since: nobody on "
        "this node held its handle, and one that is written down, or on another node, does not count "
        "(Typhon.lease/2)");
  }
  const auto* handle = static_cast<const ObjectHandle*>(resource);
  if (handle->channel != channel_) {
    other_ = handle->channel;
    return stop(Status::kOtherChannel);
  }
  has_objects_ = true;
  return writer_.map_header(2) && atom(atoms.struct_key) && atom(atoms.object) && atom(atoms.id) &&
         writer_.unsigned_integer(handle->id);
}

}  // namespace typhon::beam

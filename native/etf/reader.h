// Reader: the loop behind decode(). Internal to this folder: use decode.h.
//
// Three things make it fast. The commonest leaves are dispatched inline in each of the loops (elements, keys,
// values); everything else is a call. The position in the input is a local variable of these loops, so that
// it stays in a register; functions that are not inlined hand it back in next_. And what remains to be read
// is kept as two numbers, the frame's own and what is owed to the frames below, so that a leaf costs no
// bookkeeping beyond its index.
//
// It is longer than a file should be: one class whose functions the compiler has to see together, for all
// that.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <span>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "etf/host_decoder.h"
#include "etf/leaf.h"
#include "etf/outcome.h"
#include "etf/tags.h"
#include "etf/views.h"

namespace typhon::etf::detail {

// The reader for one call of decode(). `begin` .. `end` are the bytes that offsets and spans refer to; on a
// compressed term a second Reader runs over the inflated ones.
template <HostDecoder B>
class Reader {
 public:
  using Value = typename B::Value;
  using Container = typename B::Container;

  Reader(B& decoder, const Limits& limits, Bytes input) noexcept
      : decoder_(decoder), limits_(limits), begin_(input.data()), end_(input.data() + input.size()) {}
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() {
    if (frames_ != inline_frames()) std::free(frames_);
  }

  // Reads one term that starts at `from`. On failure everything built is released and failed() has been
  // called.
  Outcome run(const std::uint8_t* from, bool is_root, Value& out) noexcept {
    if (is_root && from != end_ && *from == kLocal) return run_local(from, out);
    if (read(from, out)) return Outcome::success(static_cast<std::uint64_t>(next_ - begin_));
    return give_up();
  }

  // For what is wrong outside of terms; there are no frames then.
  Outcome reject(Code code, const std::uint8_t* where, const char* expected) noexcept {
    fail(code, where, expected);
    return give_up();
  }

  void mark_inflated() noexcept { in_inflated_ = true; }

 private:
  using FrameType = Frame<B>;
  static constexpr std::uint32_t kInlineFrames = 32;

  enum class Step : std::uint8_t { kValue, kOpened, kFailed };

  FrameType* inline_frames() noexcept { return reinterpret_cast<FrameType*>(inline_storage_); }
  FrameType& top() noexcept { return frames_[depth_ - 1]; }

  [[gnu::cold]] bool fail(Code code, const std::uint8_t* where, const char* expected) noexcept {
    failure_ = Outcome::failure(code, static_cast<std::uint64_t>(where - begin_), expected);
    return false;
  }
  [[gnu::cold]] bool fail_truncated(const std::uint8_t* where) noexcept {
    return fail(Code::kTruncated, where, "more bytes: the input ends inside a term");
  }
  [[gnu::cold]] bool fail_host(const std::uint8_t* where) noexcept {
    return fail(Code::kHost, where, "a value that the host accepts");
  }
  [[gnu::cold]] Step step_failed(bool) noexcept { return Step::kFailed; }

  [[gnu::cold]] Outcome give_up() noexcept {
    failure_.in_inflated = in_inflated_;
    // More input cannot lengthen what was inflated.
    if (in_inflated_ && failure_.code == Code::kTruncated) failure_.code = Code::kInvalid;
    if constexpr (HasFailed<B>) decoder_.failed(failure_, std::span<const FrameType>(frames_, depth_));
    while (depth_ != 0) {
      decoder_.abandon(top().container);
      pop();
    }
    return failure_;
  }

  Outcome run_local(const std::uint8_t* from, Value& out) noexcept {
    const LocalView view{Bytes(from + 1, end_), Bytes(from, end_)};
    if (view.payload.empty()) {
      fail_truncated(from);
      return give_up();
    }
    if (decoder_.local(view, out)) return Outcome::success(static_cast<std::uint64_t>(end_ - begin_));
    fail_host(from);
    return give_up();
  }

  // --- the loop ---

  bool read(const std::uint8_t* p, Value& out) noexcept {
    Value value{};
    switch (step_rare(p, value)) {
      case Step::kFailed:
        return false;
      case Step::kValue:
        out = std::move(value);
        return true;
      case Step::kOpened:
        break;
    }
    p = next_;
    for (;;) {
      FrameType& frame = top();
      Step last = frame.kind == Kind::kMap ? read_pairs(p, frame, value) : read_elements(p, frame, value);
      if (last == Step::kFailed) return false;
      p = next_;
      if (last == Step::kOpened) continue;
      // A container is complete. Its value may complete those around it only through an improper tail.
      for (;;) {
        if (depth_ == 0) {
          out = std::move(value);
          return true;
        }
        FrameType& parent = top();
        bool tail = false;
        if (!deliver(parent, value, tail)) return false;
        if (!tail) break;
      }
    }
  }

  // Hands the value of a container that was just closed to the one around it. `closed`: that one is complete,
  // too, and `value` is now its value.
  bool deliver(FrameType& parent, Value& value, bool& closed) noexcept {
    bool taken = false;
    switch (parent.part) {
      case Part::kElement:
        taken = decoder_.element(parent.container, parent.index, std::move(value));
        if (taken) ++parent.index;
        break;
      case Part::kKey:
        taken = decoder_.map_key(parent.container, parent.index, std::move(value));
        if (taken) parent.part = Part::kValue;
        break;
      case Part::kValue:
        taken = decoder_.map_value(parent.container, parent.index, std::move(value));
        if (taken) {
          parent.part = Part::kKey;
          ++parent.index;
        }
        break;
      case Part::kTail: {
        Value list{};
        taken = decoder_.close_improper(parent.container, std::move(value), list);
        if (taken) {
          closed_ = parent.start;
          pop();
          value = std::move(list);
          closed = true;
        }
        break;
      }
    }
    return taken || fail_host(closed_);
  }

  // Reads elements until the frame is complete (kValue: closed into `value`) or a container opens inside it.
  Step read_elements(const std::uint8_t* p, FrameType& frame, Value& value) noexcept {
    for (;;) {
      const std::uint32_t count = frame.count;
      for (std::uint32_t index = frame.index; index < count; ++index) {
        const std::uint8_t* const start = p;
        frame.index = index;
        const Step did = step(p, value);
        if (did != Step::kValue) [[unlikely]]
          return did;
        if (!decoder_.element(frame.container, index, std::move(value))) [[unlikely]]
          return step_failed(fail_host(start));
      }
      frame.index = count;
      if (frame.kind == Kind::kTuple) break;
      if (p == end_) return step_failed(fail_truncated(p));
      if (*p == kNil) [[likely]] {
        ++p;
        break;
      }
      bool closed = false;
      const Step did = read_tail(p, frame, value, closed);
      if (did != Step::kValue || closed) return did;
      p = next_;  // the list goes on
    }
    return close(p, frame, value);
  }

  Step read_pairs(const std::uint8_t* p, FrameType& frame, Value& value) noexcept {
    const std::uint32_t count = frame.count;
    std::uint32_t index = frame.index;
    while (index < count) {
      if (frame.part == Part::kKey) {
        const std::uint8_t* const start = p;
        const Step did = step(p, value);
        if (did != Step::kValue) return did;
        if (!decoder_.map_key(frame.container, index, std::move(value))) [[unlikely]]
          return step_failed(fail_host(start));
        frame.part = Part::kValue;
      }
      const std::uint8_t* const start = p;
      const Step did = step(p, value);
      if (did != Step::kValue) return did;
      if (!decoder_.map_value(frame.container, index, std::move(value))) [[unlikely]]
        return step_failed(fail_host(start));
      frame.part = Part::kKey;
      frame.index = ++index;
    }
    return close(p, frame, value);
  }

  Step close(const std::uint8_t* p, FrameType& frame, Value& value) noexcept {
    if (!decoder_.close(frame.container, value)) [[unlikely]]
      return step_failed(fail_host(frame.start));
    closed_ = frame.start;
    pop();
    next_ = p;
    return Step::kValue;
  }

  // The tail of a list that is not simply []. A list or string there continues this list (kValue, not
  // closed); any other term makes it improper.
  [[gnu::cold]] [[gnu::noinline]] Step read_tail(const std::uint8_t* p, FrameType& frame, Value& value,
                                                 bool& closed) noexcept {
    const auto left = static_cast<std::uint64_t>(end_ - p);
    if (*p == kList) {
      if (left < 5) return step_failed(fail_truncated(p));
      const auto more = load_big<std::uint32_t>(p + 1);
      if (!room_for(p, 5, std::uint64_t{more} + 1, frame.owed) || !extend(p, frame, more))
        return Step::kFailed;
      next_ = p + 5;
      return Step::kValue;
    }
    if (*p == kString) {
      if (left < 3) return step_failed(fail_truncated(p));
      const std::uint32_t more = load_big<std::uint16_t>(p + 1);
      if (left - 3 < more) return step_failed(fail_truncated(p));
      if (!extend(p, frame, more)) return Step::kFailed;
      for (std::uint32_t i = 0; i < more; ++i) {
        Value byte{};
        if (!decoder_.integer(p[3 + i], byte)) return step_failed(fail_host(p));
        if (!decoder_.element(frame.container, frame.index, std::move(byte)))
          return step_failed(fail_host(p));
        ++frame.index;
      }
      closed = true;
      return close(p + 3 + more, frame, value);
    }
    frame.part = Part::kTail;
    const std::uint8_t* const start = p;
    const Step did = step_rare(p, value);
    if (did != Step::kValue) return did;
    Value tail = std::move(value);
    if (!decoder_.close_improper(frame.container, std::move(tail), value))
      return step_failed(fail_host(start));
    closed_ = frame.start;
    pop();
    closed = true;
    return Step::kValue;  // next_ is set by step_rare
  }

  bool extend(const std::uint8_t* p, FrameType& frame, std::uint32_t more) noexcept {
    if (more > UINT32_MAX - frame.count)
      return fail(Code::kTooLarge, p, "a list of fewer than 2^32 elements");
    if (more != 0 && !decoder_.extend_list(frame.container, more)) return fail_host(p);
    frame.count += more;
    return true;
  }

  // --- one term ---

  // Reads a leaf into `out` and moves `p` behind it, or opens a container (next_ is behind its header then).
  // Inlined into each of the loops: a call a leaf costs a fifth of the time of a list of small integers.
  [[gnu::always_inline]] inline Step step(const std::uint8_t*& p, Value& out) noexcept {
    const std::uint8_t* const start = p;
    const auto left = static_cast<std::size_t>(end_ - start);
    if (left == 0) [[unlikely]]
      return step_failed(fail_truncated(start));
    bool built = false;
    switch (start[0]) {
      case kSmallInteger:
        if (left < 2) [[unlikely]]
          return step_failed(fail_truncated(start));
        p = start + 2;
        built = decoder_.integer(start[1], out);
        break;
      case kInteger:
        if (left < 5) [[unlikely]]
          return step_failed(fail_truncated(start));
        p = start + 5;
        built = decoder_.integer(static_cast<std::int32_t>(load_big<std::uint32_t>(start + 1)), out);
        break;
      case kNewFloat: {
        if (left < 9) [[unlikely]]
          return step_failed(fail_truncated(start));
        const auto bits = load_big<std::uint64_t>(start + 1);
        if ((bits & kExponentMask) == kExponentMask) [[unlikely]]
          return step_failed(fail(Code::kInvalid, start, "a finite float"));
        p = start + 9;
        built = decoder_.floating(std::bit_cast<double>(bits), out);
        break;
      }
      case kBinary: {
        if (left < 5) [[unlikely]]
          return step_failed(fail_truncated(start));
        const std::size_t size = load_big<std::uint32_t>(start + 1);
        if (left - 5 < size) [[unlikely]]
          return step_failed(fail_truncated(start));
        p = start + 5 + size;
        built = decoder_.binary(Bytes(start + 5, size), out);
        break;
      }
      case kSmallAtomUtf8: {
        if (left < 2) [[unlikely]]
          return step_failed(fail_truncated(start));
        const std::size_t size = start[1];
        if (left - 2 < size) [[unlikely]]
          return step_failed(fail_truncated(start));
        p = start + 2 + size;
        const std::string_view text(reinterpret_cast<const char*>(start + 2), size);
        if constexpr (HasFindAtom<B>) {
          if (decoder_.find_atom(text, out)) [[likely]]
            return Step::kValue;
        }
        return new_atom(start, text, out);
      }
      case kSmallTuple:
      case kLargeTuple:
      case kMap:
      case kList: {
        const Step did = open_any(start, out);
        p = next_;
        return did;
      }
      case kSmallBig: {
        const Step did = small_big(start, out);
        p = next_;
        return did;
      }
      default: {
        const Step did = rare(start, out);
        p = next_;
        return did;
      }
    }
    if (built) [[likely]]
      return Step::kValue;
    return step_failed(fail_host(start));
  }

  // The same without inlining, for roots and tails. Sets next_ in every case.
  [[gnu::noinline]] Step step_rare(const std::uint8_t* p, Value& out) noexcept {
    const Step did = step(p, out);
    if (did != Step::kOpened) next_ = p;
    return did;
  }

  // An atom that the decoder did not know by its bytes.
  [[gnu::noinline]] Step new_atom(const std::uint8_t* start, std::string_view utf8, Value& out) noexcept {
    if (!check_atom(utf8))
      return step_failed(fail(Code::kInvalid, start, "an atom of at most 255 characters in UTF-8"));
    if constexpr (HasFindAtom<B>) {
      if (++new_atoms_ > limits_.max_atoms)
        return step_failed(fail(Code::kTooManyAtoms, start, "fewer new atoms"));
    }
    if (!decoder_.atom(utf8, out)) return step_failed(fail_host(start));
    return Step::kValue;
  }

  // Time stamps, ids and the like are beyond 32 bits and within 64. Sets next_.
  [[gnu::noinline]] Step small_big(const std::uint8_t* start, Value& out) noexcept {
    if (end_ - start >= 3 + 8) {
      const unsigned size = start[1];
      if (size - 1 < 8) {
        // Those of the 8 bytes that lie beyond the magnitude are masked out.
        const std::uint64_t loaded = byte_swap(load_big<std::uint64_t>(start + 3));
        const std::uint64_t magnitude = loaded & (UINT64_MAX >> (64 - 8 * size));
        if (magnitude >> 63 == 0) {
          next_ = start + 3 + size;
          const auto value = static_cast<std::int64_t>(magnitude);
          if (decoder_.integer(start[2] != 0 ? -value : value, out)) return Step::kValue;
          return step_failed(fail_host(start));
        }
      }
    }
    return rare(start, out);
  }

  // Everything but the commonest leaves. Sets next_.
  [[gnu::noinline]] Step rare(const std::uint8_t* start, Value& out) noexcept {
    Scan scan{start, end_};
    bool built = false;
    switch (start[0]) {
      case kNil:
        next_ = start + 1;
        built = decoder_.nil(out);
        break;
      case kString: {
        Bytes string;
        if (!scan_string(scan, string)) return bad_scan(start, scan);
        next_ = scan.at;
        built = string.empty() ? decoder_.nil(out) : decoder_.string(string, out);
        break;
      }
      case kSmallBig:
      case kLargeBig: {
        BigView big;
        if (!scan_big(scan, big)) return bad_scan(start, scan);
        next_ = scan.at;
        built = big.fits ? decoder_.integer(big.small, out) : decoder_.big(big.negative, big.magnitude, out);
        break;
      }
      case kFloatText: {
        double value = 0;
        if (!scan_float_text(scan, value)) return bad_scan(start, scan);
        next_ = scan.at;
        built = decoder_.floating(value, out);
        break;
      }
      case kAtomUtf8:
      case kAtomLatin1:
      case kSmallAtomLatin1: {
        AtomScratch scratch;
        std::string_view text;
        if (!scan_atom_text(scan, scratch, text)) return bad_scan(start, scan);
        next_ = scan.at;
        if constexpr (HasFindAtom<B>) {
          if (decoder_.find_atom(text, out)) return Step::kValue;
        }
        return new_atom(start, text, out);
      }
      case kBitBinary: {
        Bytes bytes;
        unsigned bits = 0;
        if (!scan_bits(scan, bytes, bits)) return bad_scan(start, scan);
        next_ = scan.at;
        built = bits == 8 ? decoder_.binary(bytes, out) : decoder_.bits(bytes, bits, out);
        break;
      }
      case kPid:
      case kNewPid: {
        AtomScratch scratch;
        PidView view;
        if (!scan_pid(scan, scratch, view)) return bad_scan(start, scan);
        next_ = scan.at;
        built = decoder_.pid(view, out);
        break;
      }
      case kPort:
      case kNewPort:
      case kV4Port: {
        AtomScratch scratch;
        PortView view;
        if (!scan_port(scan, scratch, view)) return bad_scan(start, scan);
        next_ = scan.at;
        built = decoder_.port(view, out);
        break;
      }
      case kReference:
      case kNewReference:
      case kNewerReference: {
        AtomScratch scratch;
        ReferenceView view;
        if (!scan_reference(scan, scratch, view)) return bad_scan(start, scan);
        next_ = scan.at;
        built = decoder_.reference(view, out);
        break;
      }
      case kExport: {
        AtomScratch module;
        AtomScratch function;
        ExportView view;
        if (!scan_export(scan, module, function, view)) return bad_scan(start, scan);
        next_ = scan.at;
        built = decoder_.exported_fun(view, out);
        break;
      }
      case kNewFun: {
        AtomScratch scratch;
        FunView view;
        const std::uint64_t owed = depth_ == 0 ? 0 : top().owed + rest(top());
        if (!scan_fun(scan, scratch, limits_.max_depth, depth_, owed, view)) return bad_scan(start, scan);
        next_ = scan.at;
        built = decoder_.fun(view, out);
        break;
      }
      case kLent:
        if constexpr (HasLent<B>) {
          scan.loans = limits_.loans;
          std::uint32_t index = 0;
          if (!scan_lent(scan, index)) return bad_scan(start, scan);
          next_ = scan.at;
          built = decoder_.lent(index, out);
          break;
        }
        [[fallthrough]];
      default:
        scan_unknown(scan);
        return bad_scan(start, scan);
    }
    if (built) return Step::kValue;
    return step_failed(fail_host(start));
  }

  [[gnu::cold]] Step bad_scan(const std::uint8_t* start, const Scan& scan) noexcept {
    // Inside a fun the scan knows better where: at one of its free variables.
    return step_failed(fail(scan.code, scan.fault != nullptr ? scan.fault : start, scan.expected));
  }

  // --- containers ---

  // Terms that a frame still has to read after the one being read now.
  static std::uint64_t rest(const FrameType& frame) noexcept {
    const std::uint64_t left = std::uint64_t{frame.count} - frame.index;
    switch (frame.part) {
      case Part::kElement:
        return frame.kind == Kind::kList ? left : left - 1;  // a list has a tail besides
      case Part::kKey:
        return 2 * left - 1;
      case Part::kValue:
        return 2 * left - 2;
      case Part::kTail:
        break;
    }
    return 0;
  }

  bool room_for(const std::uint8_t* start, std::uint32_t header, std::uint64_t children,
                std::uint64_t owed) noexcept {
    const auto left = static_cast<std::uint64_t>(end_ - start) - header;
    if (left >= owed && left - owed >= children) [[likely]]
      return true;
    return fail(Code::kTruncated, start, "a byte at least for each element that the open containers claim");
  }

  // Any container, by its tag. Sets next_.
  [[gnu::noinline]] Step open_any(const std::uint8_t* start, Value& out) noexcept {
    if (start[0] == kSmallTuple) {
      if (end_ - start < 2) return step_failed(fail_truncated(start));
      return open(start, 2, start[1], Kind::kTuple, out);
    }
    if (start[0] == kList) return open_list(start, out);
    if (end_ - start < 5) return step_failed(fail_truncated(start));
    return open(start, 5, load_big<std::uint32_t>(start + 1), start[0] == kMap ? Kind::kMap : Kind::kTuple,
                out);
  }

  Step open_list(const std::uint8_t* start, Value& out) noexcept {
    // A list of no elements is its tail. Not by recursion: such headers can follow one another.
    const std::uint64_t owed = depth_ == 0 ? 0 : top().owed + rest(top());
    for (const std::uint8_t* p = start;;) {
      if (end_ - p < 5) return step_failed(fail_truncated(p));
      const auto count = load_big<std::uint32_t>(p + 1);
      if (count != 0) return open(p, 5, count, Kind::kList, out);
      if (!room_for(p, 5, 1, owed)) return Step::kFailed;
      p += 5;
      if (*p != kList) return step_rare(p, out);
    }
  }

  Step open(const std::uint8_t* start, std::uint32_t header, std::uint32_t count, Kind kind,
            Value& out) noexcept {
    const std::uint64_t owed = depth_ == 0 ? 0 : top().owed + rest(top());
    const std::uint64_t children = kind == Kind::kMap    ? std::uint64_t{count} * 2
                                   : kind == Kind::kList ? std::uint64_t{count} + 1
                                                         : count;
    if (!room_for(start, header, children, owed)) return Step::kFailed;
    if (count != 0 && depth_ >= limits_.max_depth) [[unlikely]]
      return step_failed(fail(Code::kTooDeep, start, "less nesting"));
    Container container{};
    const bool opened = kind == Kind::kMap    ? decoder_.open_map(count, container)
                        : kind == Kind::kList ? decoder_.open_list(count, container)
                                              : decoder_.open_tuple(count, container);
    if (!opened) return step_failed(fail_host(start));
    next_ = start + header;
    if (count == 0) {
      if (decoder_.close(container, out)) return Step::kValue;
      decoder_.abandon(container);
      return step_failed(fail_host(start));
    }
    if (depth_ == capacity_ && !grow()) [[unlikely]] {
      decoder_.abandon(container);
      return step_failed(fail(Code::kSystem, start, "memory for nesting this deep"));
    }
    ::new (static_cast<void*>(frames_ + depth_)) FrameType{
        std::move(container), start, owed, 0, count, kind, kind == Kind::kMap ? Part::kKey : Part::kElement};
    ++depth_;
    return Step::kOpened;
  }

  void pop() noexcept {
    --depth_;
    frames_[depth_].~FrameType();
  }

  [[gnu::cold]] bool grow() noexcept {
    const std::size_t capacity = std::size_t{capacity_} * 2;
    auto* const frames = static_cast<FrameType*>(std::malloc(capacity * sizeof(FrameType)));
    if (frames == nullptr) return false;
    for (std::uint32_t i = 0; i < depth_; ++i) {
      ::new (static_cast<void*>(frames + i)) FrameType(std::move(frames_[i]));
      frames_[i].~FrameType();
    }
    if (frames_ != inline_frames()) std::free(frames_);
    frames_ = frames;
    capacity_ = static_cast<std::uint32_t>(capacity);
    return true;
  }

  static constexpr std::uint64_t kExponentMask = 0x7ff0'0000'0000'0000;
  // An optional function that misses noexcept would be passed over in silence.
  static_assert(HasFindAtom<B> || !requires(B b, std::string_view t, Value& v) { b.find_atom(t, v); });
  static_assert(HasFailed<B> ||
                !requires(B b, const Outcome& o, std::span<const FrameType> f) { b.failed(o, f); });
  static_assert(HasLent<B> || !requires(B b, std::uint32_t i, Value& v) { b.lent(i, v); });
  static_assert(HasInflated<B> || !requires(B b, Inflated& i) { b.inflated(i); });
  static_assert(alignof(FrameType) <= alignof(std::max_align_t));

  B& decoder_;
  const Limits& limits_;
  const std::uint8_t* const begin_;
  const std::uint8_t* const end_;
  const std::uint8_t* closed_ = nullptr;  // start of the container closed last
  const std::uint8_t* next_ = nullptr;    // where reading goes on after a call that was not inlined
  FrameType* frames_ = inline_frames();
  std::uint32_t depth_ = 0;
  std::uint32_t capacity_ = kInlineFrames;
  std::uint64_t new_atoms_ = 0;
  Outcome failure_{};
  bool in_inflated_ = false;
  alignas(FrameType) unsigned char inline_storage_[kInlineFrames * sizeof(FrameType)];
};

}  // namespace typhon::etf::detail

#include "ruby/frame.h"

#include <cstring>
#include <new>
#include <span>

#include "channel/arena.h"
#include "os/clock.h"
#include "ruby/codec.h"
#include "worker/forked.h"

namespace typhon::ruby {

namespace {

using channel::Kind;
using channel::SegmentRef;

// Its segment is the BEAM's again.
void let_go(Frame& frame) noexcept {
  if (!frame.has_body) return;
  frame.has_body = false;
  std::vector<std::uint8_t>& body = frame.incoming.body;
  if ((frame.incoming.header.flags & channel::kInSegment) != 0 && body.size() == sizeof(SegmentRef)) {
    SegmentRef ref{};
    std::memcpy(&ref, body.data(), sizeof ref);
    if (!worker::in_forked_child()) frame.link->arena().release(ref.slot);
  }
  body = {};
}

void free_frame(void* data) {
  auto* const frame = static_cast<Frame*>(data);
  let_go(*frame);
  frame->~Frame();
  ruby_xfree(frame);
}

std::size_t frame_size(const void* data) {
  return sizeof(Frame) + static_cast<const Frame*>(data)->incoming.body.capacity();
}

const rb_data_type_t kFrameType = {"Typhon::Native::Frame",
                                   {nullptr, free_frame, frame_size, nullptr, {}},
                                   nullptr,
                                   nullptr,
                                   RUBY_TYPED_FREE_IMMEDIATELY};

const channel::FrameHeader& header_of(VALUE self) { return frame_of(self).incoming.header; }

VALUE frame_kind(VALUE self) { return UINT2NUM(static_cast<unsigned>(header_of(self).kind)); }
VALUE frame_id(VALUE self) { return ULL2NUM(header_of(self).id); }
// An object stands in the module's place, which may be a String.
VALUE frame_of_object(VALUE self) {
  return (header_of(self).flags & channel::kOfObject) != 0 ? Qtrue : Qfalse;
}
VALUE frame_captured(VALUE self) { return header_of(self).times[3] != 0 ? Qtrue : Qfalse; }
VALUE frame_failed(VALUE self) { return (header_of(self).flags & channel::kFailed) != 0 ? Qtrue : Qfalse; }
VALUE frame_expired(VALUE self) {
  const std::uint64_t deadline = header_of(self).times[1];
  return deadline != 0 && os::is_past(deadline) ? Qtrue : Qfalse;
}

// claim? -> whether it may begin; of a call that the BEAM has taken back nobody waits for an answer
VALUE frame_claim(VALUE self) {
  Frame& frame = frame_of(self);
  if (frame.link->mailroom().claim(frame.incoming.header)) return Qtrue;
  frame.incoming.header.flags &= static_cast<std::uint8_t>(~channel::kInSegment);  // the BEAM's again
  let_go(frame);
  return Qfalse;
}

// ids() -> the objects that a release names
VALUE frame_ids(VALUE self) {
  const Frame& frame = frame_of(self);
  const VALUE ids = rb_ary_new();
  for (std::size_t at = 0; at + sizeof(std::uint64_t) <= frame.incoming.body.size();
       at += sizeof(std::uint64_t)) {
    std::uint64_t id = 0;
    std::memcpy(&id, frame.incoming.body.data() + at, sizeof id);
    rb_ary_push(ids, ULL2NUM(id));
  }
  RB_GC_GUARD(self);
  return ids;
}

// Where the term lies. Raises when that is outside of the arena.
std::span<const std::uint8_t> term_of(const Frame& frame) {
  const std::span<const std::uint8_t> body(frame.incoming.body);
  if ((frame.incoming.header.flags & channel::kInSegment) == 0) return body;
  SegmentRef ref{};
  if (body.size() == sizeof ref) std::memcpy(&ref, body.data(), sizeof ref);
  const auto view = body.size() == sizeof ref ? frame.link->arena().view(ref) : std::nullopt;
  if (!view) rb_raise(rb_eRuntimeError, "a request names a segment outside of its arena");
  return *view;
}

// decode(objects, dialect) -> the term; once
VALUE frame_decode(VALUE self, VALUE objects, VALUE dialect) {
  Frame& frame = frame_of(self);
  if (!frame.has_body) rb_raise(rb_eRuntimeError, "a frame is decoded once");
  const std::span<const std::uint8_t> bytes = term_of(frame);
  const Kind kind = frame.incoming.header.kind;
  Options options;
  options.dialect = RTEST(dialect) ? Dialect::kErlport : Dialect::kNative;
  options.objects = objects;
  options.is_call = kind == Kind::kCall || kind == Kind::kCast;
  options.root = options.is_call ? "call" : kind == Kind::kAnswer ? "answer" : "message";
  frame.timings = worker::Timings(frame.incoming.header);
  const Decoded decoded = decode(bytes, options);
  frame.timings.add(worker::Timings::Part::kDecoding);
  let_go(frame);
  RB_GC_GUARD(self);
  if (decoded.value == Qundef) raise_failure(decoded.error, decoded.state);
  return decoded.value;
}

}  // namespace

Frame& frame_of(VALUE self) { return *static_cast<Frame*>(rb_check_typeddata(self, &kFrameType)); }

VALUE make_frame(Link& link) {
  Frame* frame = nullptr;
  const VALUE object = TypedData_Make_Struct(names().frame, Frame, &kFrameType, frame);
  new (frame) Frame{&link, {}, {}, false};
  return object;
}

void define_frame(VALUE native) {
  const VALUE frame = rb_define_class_under(native, "Frame", rb_cObject);
  names().frame = frame;
  rb_gc_register_mark_object(frame);
  rb_undef_alloc_func(frame);
  define_method(frame, "kind", frame_kind, 0);
  define_method(frame, "id", frame_id, 0);
  define_method(frame, "captured?", frame_captured, 0);
  define_method(frame, "of_object?", frame_of_object, 0);
  define_method(frame, "failed?", frame_failed, 0);
  define_method(frame, "expired?", frame_expired, 0);
  define_method(frame, "claim?", frame_claim, 0);
  define_method(frame, "ids", frame_ids, 0);
  define_method(frame, "decode", frame_decode, 2);
}

}  // namespace typhon::ruby

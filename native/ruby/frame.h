// Frame: a request, an answer or a message, as the Ruby side works with it (Typhon::Native::Frame): an object
// that is made when a frame of the mailroom is taken.
//
// Everything needs Ruby's lock.
#pragma once

#include <optional>
#include <utility>

#include "ruby/api.h"
#include "ruby/link.h"
#include "worker/incoming.h"
#include "worker/timings.h"

namespace typhon::ruby {

struct Frame {
  Link* link;
  worker::Incoming incoming;
  worker::Timings timings;  // from when it is decoded
  bool has_body;            // until it is decoded, or dropped
};

// May raise.
Frame& frame_of(VALUE self);
VALUE make_frame(Link& link);
void define_frame(VALUE native);

// What `take()` gives (an optional Incoming), as a Frame; nil for nothing. The object is made first: nothing
// of C++ is alive when Ruby raises, and no frame is lost then.
template <class Take>
VALUE take_frame(Link& link, Take take) {
  const VALUE object = make_frame(link);
  Frame& frame = frame_of(object);
  std::optional<worker::Incoming> taken = take();
  if (!taken) return Qnil;
  frame.incoming = std::move(*taken);
  frame.has_body = true;
  return object;
}

}  // namespace typhon::ruby

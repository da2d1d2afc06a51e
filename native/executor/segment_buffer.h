// SegmentBuffer: a request's segment as a Python object with the buffer protocol.
//
// Views of large arguments (typhon's memoryviews, numpy arrays) are made from it and keep it alive; with the
// last one the segment goes back to the BEAM. The region it points into stays mapped until the process ends.
// Needs the GIL.
#pragma once

#include <atomic>
#include <cstddef>
#include <span>

#include "channel/arena.h"
#include "python/cpython.h"
#include "python/ref.h"

namespace typhon::executor {

// The heap type; empty with an exception set on failure.
python::PyRef make_segment_buffer_type(PyObject* module) noexcept;

// Takes over the segment: it is released when the object dies. `alive` counts those that there are: until
// there is none it must stay, and the arena be mapped. Empty with an exception set (and the segment released)
// on failure.
python::PyRef make_segment_buffer(PyObject* type, const channel::ArenaPeer& arena,
                                  std::atomic<std::size_t>& alive, std::uint64_t slot,
                                  std::span<const std::uint8_t> bytes) noexcept;

}  // namespace typhon::executor

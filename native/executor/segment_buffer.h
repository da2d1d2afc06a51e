// SegmentBuffer: memory of the BEAM's as a Python object with the buffer protocol: the segment of a request,
// or a binary that was lent.
//
// Views of large arguments (typhon's memoryviews, numpy arrays) are made from it and keep it alive; with the
// last one the memory goes back to the BEAM. The region that a segment lies in stays mapped until the process
// ends. Needs the GIL.
#pragma once

#include <atomic>
#include <cstddef>
#include <span>

#include "channel/arena.h"
#include "channel/loan.h"
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

// One more holder of the loan. Empty with an exception set on failure.
python::PyRef make_loan_buffer(PyObject* type, channel::Loan& loan) noexcept;

// Whether it is one over a loan, whose bytes stay what they are. A segment's do not outlive its channel.
[[nodiscard]] bool is_loan_buffer(PyObject* type, PyObject* object) noexcept;

}  // namespace typhon::executor

#include "executor/segment_buffer.h"

#include "worker/forked.h"

namespace typhon::executor {
namespace {

struct SegmentBuffer {
  PyObject_HEAD
  const channel::ArenaPeer* arena;  // of a segment
  std::atomic<std::size_t>* alive;
  std::uint64_t slot;
  channel::Loan* loan;  // of a binary
  const std::uint8_t* data;
  Py_ssize_t size;
};

int get_buffer(PyObject* self, Py_buffer* view, int flags) noexcept {
  auto* buffer = reinterpret_cast<SegmentBuffer*>(self);
  return PyBuffer_FillInfo(view, self, const_cast<std::uint8_t*>(buffer->data), buffer->size, 1, flags);
}

void dealloc(PyObject* self) noexcept {
  auto* buffer = reinterpret_cast<SegmentBuffer*>(self);
  if (buffer->arena && !worker::in_forked_child()) buffer->arena->release(buffer->slot);
  if (buffer->loan) channel::let_go(*buffer->loan);
  if (buffer->arena) buffer->alive->fetch_sub(1, std::memory_order_relaxed);
  PyTypeObject* type = Py_TYPE(self);
  PyObject_Free(self);
  Py_DECREF(type);
}

constexpr const char* kDoc = "The memory of a large argument, shared with the BEAM (read-only).";

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
    {Py_tp_doc, const_cast<char*>(kDoc)},
    {0, nullptr},
};

PyType_Spec spec = {"typhon._native.SegmentBuffer", sizeof(SegmentBuffer), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

}  // namespace

python::PyRef make_segment_buffer_type(PyObject* module) noexcept {
  return python::PyRef::steal(PyType_FromModuleAndSpec(module, &spec, nullptr));
}

python::PyRef make_segment_buffer(PyObject* type, const channel::ArenaPeer& arena,
                                  std::atomic<std::size_t>& alive, std::uint64_t slot,
                                  std::span<const std::uint8_t> bytes) noexcept {
  auto* buffer = PyObject_New(SegmentBuffer, reinterpret_cast<PyTypeObject*>(type));
  if (!buffer) {
    arena.release(slot);
    return {};
  }
  alive.fetch_add(1, std::memory_order_relaxed);
  buffer->arena = &arena;
  buffer->alive = &alive;
  buffer->slot = slot;
  buffer->loan = nullptr;
  buffer->data = bytes.data();
  buffer->size = static_cast<Py_ssize_t>(bytes.size());
  return python::PyRef::steal(reinterpret_cast<PyObject*>(buffer));
}

bool is_loan_buffer(PyObject* type, PyObject* object) noexcept {
  return reinterpret_cast<PyObject*>(Py_TYPE(object)) == type &&
         reinterpret_cast<SegmentBuffer*>(object)->loan != nullptr;
}

python::PyRef make_loan_buffer(PyObject* type, channel::Loan& loan) noexcept {
  auto* buffer = PyObject_New(SegmentBuffer, reinterpret_cast<PyTypeObject*>(type));
  if (!buffer) return {};
  channel::hold(loan);
  buffer->arena = nullptr;
  buffer->slot = 0;
  buffer->loan = &loan;
  buffer->data = loan.data;
  buffer->size = static_cast<Py_ssize_t>(loan.size);
  return python::PyRef::steal(reinterpret_cast<PyObject*>(buffer));
}

}  // namespace typhon::executor

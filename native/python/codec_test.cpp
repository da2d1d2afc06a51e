// What only C++ callers of the codec can do. Values, errors and hostile bytes are tested in python/tests.
#include "python/codec.h"

#include "python/types/object_table.h"
#include "testing/embedded_python.h"
#include "testing/loans.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace typhon::python {
namespace {

using namespace std::string_view_literals;

const EmbeddedPython* python = nullptr;

// Moves at each growth, and by no more than asked for: a pointer kept across one is a use after free.
struct MovingSink final : etf::Sink {
  bool grow(std::size_t at_least) noexcept override {
    std::unique_ptr<std::uint8_t[]> moved(new std::uint8_t[at_least]);
    if (size != 0) std::memcpy(moved.get(), data, size);
    memory = std::move(moved);
    data = memory.get();
    capacity = at_least;
    return true;
  }
  [[nodiscard]] std::string text() const { return {reinterpret_cast<const char*>(data), size}; }

  std::unique_ptr<std::uint8_t[]> memory;
};

std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::string encoded(PyBorrowed object, const EncodeOptions& options = {}) {
  MovingSink sink;
  EXPECT_TRUE(encode(python->state(), object.get(), sink, options));
  return sink.text();
}

PyRef decoded(std::string_view term, const DecodeOptions& options = {}) {
  return PyRef::steal(decode(python->state(), bytes_of(term), options));
}

// The text of the exception that is set, which must be of `type`; cleared.
std::string raised(PyBorrowed type) {
  EXPECT_TRUE(PyErr_ExceptionMatches(type.get()));
  PyObject* parts[3];
  PyErr_Fetch(&parts[0], &parts[1], &parts[2]);
  PyErr_NormalizeException(&parts[0], &parts[1], &parts[2]);
  const PyRef owners[] = {PyRef::steal(parts[0]), PyRef::steal(parts[1]), PyRef::steal(parts[2])};
  const PyRef text = PyRef::steal(PyObject_Str(parts[1]));
  Py_ssize_t size = 0;
  return text ? PyUnicode_AsUTF8AndSize(text.get(), &size) : "";
}

TEST(ObjectTable, NeverUsesAnIdAgain) {
  ObjectTable table;
  const PyRef object = python->eval("object()");
  const std::uint64_t first = table.put(object.get());
  const std::uint64_t second = table.put(object.get());
  EXPECT_EQ(first, 1u);
  EXPECT_EQ(second, 2u);
  EXPECT_EQ(table.get(first).get(), object.get());
  table.release(first);
  table.release(first);
  EXPECT_FALSE(table.get(first));
  EXPECT_EQ(table.get(second).get(), object.get());
  EXPECT_EQ(table.count(), 1u);
  table.release(second);
  EXPECT_EQ(table.put(object.get()), 3u);
  EXPECT_FALSE(table.get(0));
}

TEST(ObjectTable, HoldsOneReferenceEach) {
  const PyRef object = python->eval("object()");
  const Py_ssize_t before = Py_REFCNT(object.get());
  {
    ObjectTable table;
    const std::uint64_t id = table.put(object.get());
    EXPECT_NE(table.put(object.get()), 0u);
    EXPECT_EQ(Py_REFCNT(object.get()), before + 2);
    table.release(id);
    EXPECT_EQ(Py_REFCNT(object.get()), before + 1);
  }
  EXPECT_EQ(Py_REFCNT(object.get()), before);
}

TEST(Encode, PutsOtherObjectsIntoTheTable) {
  ObjectTable table;
  EncodeOptions options;
  options.objects = &table;
  const PyRef value = python->eval("[1, object()]");
  const std::string term = encoded(value, options);
  EXPECT_EQ(term,
            "\x83l\0\0\0\2a\1t\0\0\0\3w\x0a__struct__w\x14"
            "Elixir.Typhon.Objectw\2ida\1w\4typem\0\0\0\6objectj"sv);
  EXPECT_EQ(table.get(1).get(), PyList_GetItem(value.get(), 1));

  DecodeOptions back;
  back.objects = &table;
  const PyRef again = decoded(term, back);
  ASSERT_TRUE(again);
  EXPECT_EQ(PyList_GetItem(again.get(), 1), PyList_GetItem(value.get(), 1));

  table.release(1);
  EXPECT_FALSE(decoded(term, back));
  EXPECT_EQ(
      raised(python->state().decode_error),
      "term[1]: this Typhon.Object is not held here: it was released, or another Python process holds it");
}

TEST(Encode, TakesObjectsOutOfTheTableAgainWhenItFails) {
  ObjectTable table;
  EncodeOptions options;
  options.objects = &table;
  const PyRef value = python->eval("[object(), {'a': object()}, '\\ud800']");
  MovingSink sink;
  EXPECT_FALSE(encode(python->state(), value.get(), sink, options));
  EXPECT_EQ(raised(python->state().encode_error),
            "value[2]: a str with a lone surrogate (character 0 is U+D800), which no UTF-8 can hold");
  EXPECT_EQ(table.count(), 0u);
  EXPECT_EQ(table.put(value.get()), 3u);
}

TEST(Encode, NamesTheRootAndItsParts) {
  const std::array<std::string_view, 2> parts{"args", "kwargs"};
  EncodeOptions options;
  options.root = "result";
  const PyRef value = python->eval("([1, {'user': object}], {})");
  MovingSink sink;
  EXPECT_FALSE(encode(python->state(), value.get(), sink, options));
  EXPECT_EQ(raised(python->state().encode_error),
            "result[0][1][\"user\"]: a value of type type has no counterpart on the BEAM");
  options.parts = parts;
  EXPECT_FALSE(encode(python->state(), value.get(), sink, options));
  EXPECT_EQ(raised(python->state().encode_error),
            "args[1][\"user\"]: a value of type type has no counterpart on the BEAM");
}

TEST(Encode, AppendsATermWithoutTheVersionByte) {
  MovingSink sink;
  ASSERT_TRUE(sink.grow(2));
  std::memcpy(sink.data, "ab", 2);
  sink.size = 2;
  const PyRef value = python->eval("(1, 'x')");
  ASSERT_TRUE(encode_term(python->state(), value.get(), sink, {}));
  EXPECT_EQ(sink.text(), "abh\2a\1m\0\0\0\1x"sv);
  const PyRef bad = python->eval("(1, ['x' * 100, object()])");
  EXPECT_FALSE(encode_term(python->state(), bad.get(), sink, {}));
  PyErr_Clear();
  EXPECT_EQ(sink.text(), "abh\2a\1m\0\0\0\1x"sv);
}

TEST(Encode, FailsCleanlyWhereverTheDestinationEnds) {
  const PyRef value = python->eval(
      "[1, -1, 1 << 40, 1 << 100, 1 << 4000, 1.5, float('nan'), 'text', 'é' * 2000, b'x', None, [], (), {}, "
      "[1, 2, 3],"
      " {'a': (1, {2: [3]}), (4, 5): 6}, {7}, range(8), typhon.Atom('ok'), typhon.BitString(b'\\xe0', 3),"
      " typhon.ImproperList([1], 2), __import__('datetime').datetime(2024, 1, 1), "
      "__import__('decimal').Decimal('1.5')]");
  ASSERT_TRUE(value);
  const std::string term = encoded(value);
  std::vector<std::uint8_t> memory(term.size());
  for (std::size_t capacity = 0; capacity < term.size(); ++capacity) {
    etf::FixedSink sink(memory.data(), capacity);
    ASSERT_FALSE(encode(python->state(), value.get(), sink, {})) << capacity;
    EXPECT_EQ(sink.size, 0u);
    const std::string text = raised(python->state().encode_error);
    ASSERT_TRUE(text.ends_with(": expected room in the destination")) << text;
  }
  etf::FixedSink sink(memory.data(), memory.size());
  EXPECT_TRUE(encode(python->state(), value.get(), sink, {}));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(sink.data), sink.size), term);
}

TEST(Decode, NamesTheRootAndItsParts) {
  const std::array<std::string_view, 2> parts{"args", "kwargs"};
  DecodeOptions options;
  options.root = "request";
  constexpr auto term = "\x83h\2l\0\0\0\1t\0\0\0\1m\0\0\0\4userm\0\0\0\1\xffjt\0\0\0\0"sv;
  EXPECT_FALSE(decoded(term, options));
  EXPECT_TRUE(
      raised(python->state().decode_error).starts_with("request[0][0][\"user\"]: a binary of 1 bytes"));
  options.parts = parts;
  EXPECT_FALSE(decoded(term, options));
  EXPECT_TRUE(raised(python->state().decode_error).starts_with("args[0][\"user\"]: a binary of 1 bytes"));
  EXPECT_FALSE(decoded(term.substr(0, 5), options));
  EXPECT_TRUE(raised(python->state().decode_error).starts_with("args: expected more bytes"));
}

TEST(Decode, ViewsTheOwnersMemory) {
  constexpr auto term =
      "\x83t\0\0\0\2w\x0a__struct__w\x14"
      "Elixir.Typhon.Bufferw\4datam\0\0\0\3abc"sv;
  const std::string segment = "before" + std::string(term) + "after";
  const PyRef owner =
      PyRef::steal(PyBytes_FromStringAndSize(segment.data(), static_cast<Py_ssize_t>(segment.size())));
  const Py_ssize_t before = Py_REFCNT(owner.get());
  DecodeOptions options;
  options.buffer_owner = owner.get();
  const std::string_view inside(PyBytes_AsString(owner.get()) + 6, term.size());
  {
    const PyRef view = decoded(inside, options);
    ASSERT_TRUE(view);
    EXPECT_GT(Py_REFCNT(owner.get()), before);
    Py_buffer buffer;
    ASSERT_EQ(PyObject_GetBuffer(view.get(), &buffer, PyBUF_SIMPLE), 0);
    EXPECT_EQ(buffer.buf, inside.data() + term.size() - 3);
    EXPECT_EQ(buffer.readonly, 1);
    PyBuffer_Release(&buffer);
  }
  EXPECT_EQ(Py_REFCNT(owner.get()), before);
  // Input that lies elsewhere is copied: the owner does not keep it.
  const PyRef copy = decoded(term, options);
  ASSERT_TRUE(copy);
  EXPECT_EQ(Py_REFCNT(owner.get()), before);
}

TEST(Decode, RefusesAnOwnerWithoutABuffer) {
  DecodeOptions options;
  options.buffer_owner = Py_None;
  EXPECT_FALSE(
      decoded("\x83t\0\0\0\2w\x0a__struct__w\x14"
              "Elixir.Typhon.Bufferw\4datam\0\0\0\3abc"sv,
              options));
  EXPECT_EQ(raised(python->state().decode_error),
            "term[Atom('data')]: TypeError: a bytes-like object is required, not 'NoneType'");
}

TEST(PyRef, OwnsExactlyOneReference) {
  const PyRef list = PyRef::steal(PyList_New(0));
  ASSERT_EQ(Py_REFCNT(list.get()), 1);
  {
    PyRef other = PyRef::borrow(list);
    EXPECT_EQ(Py_REFCNT(list.get()), 2);
    PyRef moved = std::move(other);
    EXPECT_EQ(Py_REFCNT(list.get()), 2);
    moved = PyRef::borrow(moved);
    EXPECT_EQ(Py_REFCNT(list.get()), 2);
    PyObject* const released = moved.release();
    EXPECT_EQ(Py_REFCNT(list.get()), 2);
    drop(released);
  }
  EXPECT_EQ(Py_REFCNT(list.get()), 1);
  EXPECT_FALSE(PyRef::steal(nullptr));
  EXPECT_FALSE(PyRef::borrow(nullptr));
}

TEST(PyRef, LeavesImmortalObjectsAlone) {
  const Py_ssize_t before = Py_REFCNT(Py_None);
  PyObject* const none = take(Py_None);
  EXPECT_EQ(Py_REFCNT(Py_None), Py_Version >= kPython312 ? before : before + 1);
  drop(none);
  EXPECT_EQ(Py_REFCNT(Py_None), before);
}

TEST(Encode, LendsLargeImmutableBytesAndCopiesTheRest) {
  TestLoans loans;
  EncodeOptions options;
  options.lender = &loans;
  const auto lends = [&](const char* expression) {
    const std::uint32_t before = loans.count();
    const PyRef value = python->eval(expression);
    EXPECT_TRUE(value);
    const std::string term = encoded(value, options);
    EXPECT_EQ(term.size() < 200, loans.count() != before) << expression;
    return loans.count() - before;
  };
  EXPECT_EQ(lends("b'x' * 1024"), 1u);
  EXPECT_EQ(lends("['x' * 1025, 'ä' * 1025]"), 2u);
  EXPECT_EQ(lends("memoryview(b'x' * 2048)"), 1u);
  EXPECT_EQ(lends("memoryview(memoryview(b'x' * 2048)[1:])[1:2000]"), 1u);
  EXPECT_EQ(lends("{'k': (b'x' * 1024,)}"), 1u);
  // What can change, has gaps, or is compared with others.
  EXPECT_EQ(lends("bytearray(b'x' * 2048)"), 0u);
  EXPECT_EQ(lends("memoryview(bytearray(b'x' * 2048)).toreadonly()"), 0u);
  EXPECT_EQ(lends("memoryview(b'x' * 4096)[::2]"), 0u);
  EXPECT_EQ(lends("{b'x' * 1024: 1, 'ä' * 1025: 2, 'x' * 1025: 3, (b'y' * 1024,): 4}"), 0u);
  EXPECT_EQ(lends("{b'x' * 1024, 'y' * 1025, 'ä' * 1025}"), 0u);
}

TEST(Encode, ComparesLargeKeysAsEver) {
  TestLoans loans;
  EncodeOptions options;
  options.lender = &loans;
  const PyRef value = python->eval("{b'x' * 2048: 1, 'x' * 2048: 2}");
  MovingSink sink;
  EXPECT_FALSE(encode(python->state(), value.get(), sink, options));
  raised(python->state().encode_error);
}

TEST(Decode, MakesOfALoanWhatItMakesOfABinary) {
  TestLoans loans;
  loans.add(bytes_of("text"));
  loans.add(bytes_of("no\xfftext"));
  DecodeOptions options;
  options.lent = &loans;
  const auto is = [&](std::string_view term, const char* expected) {
    const PyRef value = decoded(term, options);
    const PyRef wanted = python->eval(expected);
    ASSERT_TRUE(value && wanted);
    EXPECT_EQ(PyObject_RichCompareBool(value.get(), wanted.get(), Py_EQ), 1) << expected;
  };
  is("\x83\xc8\0\0\0\0"sv, "'text'");
  is("\x83t\0\0\0\1\xc8\0\0\0\0\xc8\0\0\0\0"sv, "{'text': 'text'}");
  // As one literal each: g++ 12 warns of copies that overlap where a string is put together.
  constexpr std::string_view kBytes =
      "\x83t\0\0\0\2w\x0a"
      "__struct__"
      "w\x13"
      "Elixir.Typhon.Bytes"
      "w\x04"
      "data"
      "\xc8\0\0\0\1"sv;
  is(kBytes, "b'no\\xfftext'");
  constexpr std::string_view kView =
      "\x83t\0\0\0\2w\x0a"
      "__struct__"
      "w\x14"
      "Elixir.Typhon.Buffer"
      "w\x04"
      "data"
      "\xc8\0\0\0\1"sv;
  is(kView, "b'no\\xfftext'");
  EXPECT_NE(PyMemoryView_Check(decoded(kView, options).get()), 0);

  for (const std::string_view refused :
       {"\x83\xc8\0\0\0\1"sv, "\x83\xc8\0\0\0\2"sv, "\x83t\0\0\0\1a\1\xc8\0\0\0\1"sv}) {
    EXPECT_FALSE(decoded(refused, options));
    raised(python->state().decode_error);
  }
  EXPECT_FALSE(decoded("\x83\xc8\0\0\0\0"sv));
  EXPECT_NE(raised(python->state().decode_error).find("the tag of a term"), std::string::npos);
}

}  // namespace
}  // namespace typhon::python

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const typhon::python::EmbeddedPython embedded;
  typhon::python::python = &embedded;
  return RUN_ALL_TESTS();
}

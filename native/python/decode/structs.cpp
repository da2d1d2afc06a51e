#include "python/decode/structs.h"

#include "python/decode/decode_context.h"
#include "python/errors.h"
#include "python/types/big_integer.h"
#include "python/types/object_table.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>
#include <string_view>

namespace typhon::python {
namespace {

struct Named {
  Known name;
  Struct kind;
};

constexpr std::array<Named, 14> kStructs{{
    {Known::kBytes, Struct::kBytes},
    {Known::kBuffer, Struct::kBuffer},
    {Known::kArray, Struct::kArray},
    {Known::kObject, Struct::kObject},
    {Known::kDate, Struct::kDate},
    {Known::kTime, Struct::kTime},
    {Known::kNaiveDateTime, Struct::kNaiveDateTime},
    {Known::kDateTime, Struct::kDateTime},
    {Known::kDuration, Struct::kDuration},
    {Known::kNamed, Struct::kNamed},
    {Known::kMapSet, Struct::kMapSet},
    {Known::kDecimal, Struct::kDecimal},
    {Known::kRange, Struct::kRange},
    {Known::kIter, Struct::kIter},
}};

// The fields of one struct. All pointers are borrowed from the pairs, which outlive it.
class Fields {
 public:
  Fields(DecodeContext& context, const char* name, std::span<PyObject* const> pairs) noexcept
      : context_(context), name_(name), pairs_(pairs) {}

  [[nodiscard]] PyObject* find(Known field) const noexcept {
    PyObject* const key = context_.state.known(field);
    for (std::size_t i = 0; i + 1 < pairs_.size(); i += 2) {
      if (pairs_[i] == key) return pairs_[i + 1];
    }
    return nullptr;
  }
  // Null, and refused, when there is no such field.
  [[nodiscard]] PyObject* need(Known field) noexcept {
    PyObject* const value = find(field);
    if (value == nullptr) {
      const std::string_view text = kKnownAtoms[static_cast<std::size_t>(field)];
      context_.refuse("a %s without the field %.*s", name_, static_cast<int>(text.size()), text.data());
    }
    return value;
  }
  // Several at once; false when one is missing.
  template <std::size_t N>
  [[nodiscard]] bool need(const std::array<Known, N>& fields, PyObject** values) noexcept {
    return std::ranges::all_of(fields, [&](Known field) { return (*values++ = need(field)) != nullptr; });
  }

 private:
  DecodeContext& context_;
  const char* name_;
  std::span<PyObject* const> pairs_;
};

bool is_iso(DecodeContext& context, const Fields& fields) noexcept {
  const PyObject* const calendar = fields.find(Known::kCalendar);
  if (calendar == nullptr || calendar == context.state.known(Known::kCalendarIso)) return true;
  context.refuse("Python knows the calendar Calendar.ISO only");
  return false;
}

// The number of microseconds in the field {microseconds, precision}; borrowed.
PyObject* microseconds(DecodeContext& context, Fields& fields) noexcept {
  PyObject* const pair = fields.need(Known::kMicrosecond);
  if (pair == nullptr) return nullptr;
  if (PyTuple_CheckExact(pair) == 0 || PyTuple_Size(pair) != 2) {
    return context.refuse("the field microsecond is no tuple {microseconds, precision}");
  }
  return PyTuple_GetItem(pair, 0);
}

template <class... Arguments>
PyObject* call(DecodeContext& context, Lazy callee, const char* what, Arguments... arguments) noexcept {
  const PyBorrowed function = context.state.imports.get(callee);
  PyObject* const made =
      function ? PyObject_CallFunctionObjArgs(function.get(), arguments..., static_cast<PyObject*>(nullptr))
               : nullptr;
  return made != nullptr ? made : context.refuse_exception(what);
}

constexpr std::array kDateFields{Known::kYear, Known::kMonth, Known::kDay};
constexpr std::array kTimeFields{Known::kHour, Known::kMinute, Known::kSecond};

PyObject* make_date(DecodeContext& context, Fields fields) noexcept {
  PyObject* d[3];
  if (!fields.need(kDateFields, d) || !is_iso(context, fields)) return nullptr;
  return call(context, Lazy::kDate, "datetime.date", d[0], d[1], d[2]);
}

PyObject* make_time(DecodeContext& context, Fields fields) noexcept {
  PyObject* t[3];
  if (!fields.need(kTimeFields, t) || !is_iso(context, fields)) return nullptr;
  PyObject* const us = microseconds(context, fields);
  return us == nullptr ? nullptr : call(context, Lazy::kTime, "datetime.time", t[0], t[1], t[2], us);
}

PyObject* make_datetime(DecodeContext& context, Fields& fields, PyBorrowed zone) noexcept {
  PyObject* d[3];
  PyObject* t[3];
  if (!fields.need(kDateFields, d) || !fields.need(kTimeFields, t) || !is_iso(context, fields))
    return nullptr;
  PyObject* const us = microseconds(context, fields);
  if (us == nullptr) return nullptr;
  return call(context, Lazy::kDateTime, "datetime.datetime", d[0], d[1], d[2], t[0], t[1], t[2], us,
              zone.get());
}

// A wall time can mean two instants (when clocks go back), or none that this machine's time zone data agrees
// with. The offset of the struct says which instant is meant: it is kept, whatever the data says.
PyObject* make_zoned(DecodeContext& context, Fields& fields, PyBorrowed name) noexcept {
  PyObject* offsets[2];
  if (!fields.need(std::array{Known::kUtcOffset, Known::kStdOffset}, offsets)) return nullptr;
  const PyRef zone = PyRef::steal(call(context, Lazy::kZoneInfo, "zoneinfo.ZoneInfo", name.get()));
  if (!zone) return nullptr;
  PyRef wall = PyRef::steal(make_datetime(context, fields, zone));
  if (!wall) return nullptr;
  const PyRef seconds = PyRef::steal(PyNumber_Add(offsets[0], offsets[1]));
  const PyRef zero = PyRef::steal(PyLong_FromLong(0));
  if (!seconds || !zero) return context.refuse_exception("datetime.datetime");
  const PyRef offset =
      PyRef::steal(call(context, Lazy::kTimeDelta, "datetime.timedelta", zero.get(), seconds.get()));
  if (!offset) return nullptr;
  const PyRef assumed = PyRef::steal(PyObject_CallMethod(wall.get(), "utcoffset", nullptr));
  const int agreed = assumed ? PyObject_RichCompareBool(assumed.get(), offset.get(), Py_EQ) : -1;
  if (agreed == 1) return wall.release();
  const PyBorrowed utc = agreed == 0 ? context.state.imports.get(Lazy::kUtc) : PyBorrowed(nullptr);
  if (!utc) return context.refuse_exception("datetime.datetime");
  const PyRef shifted = PyRef::steal(make_datetime(context, fields, utc));
  if (!shifted) return nullptr;
  const PyRef instant = PyRef::steal(PyNumber_Subtract(shifted.get(), offset.get()));
  PyObject* const made =
      instant ? PyObject_CallMethod(instant.get(), "astimezone", "O", zone.get()) : nullptr;
  return made != nullptr ? made : context.refuse_exception("datetime.datetime");
}

PyObject* make_aware(DecodeContext& context, Fields fields) noexcept {
  PyObject* const zone = fields.need(Known::kTimeZone);
  if (zone == nullptr) return nullptr;
  if (PyUnicode_CheckExact(zone) == 0) return context.refuse("the field time_zone is no binary");
  if (PyUnicode_CompareWithASCIIString(zone, "Etc/UTC") != 0) return make_zoned(context, fields, zone);
  const PyBorrowed utc = context.state.imports.get(Lazy::kUtc);
  return utc ? make_datetime(context, fields, utc) : context.refuse_exception("datetime.datetime");
}

// --- timedelta ---

// Integers of any size: timedelta itself says what it cannot hold.
template <class... Parts>
PyObject* timedelta(DecodeContext& context, PyBorrowed days, PyBorrowed seconds, PyBorrowed microseconds,
                    Parts... more) noexcept {
  return call(context, Lazy::kTimeDelta, "datetime.timedelta", days.get(), seconds.get(), microseconds.get(),
              more...);
}

PyObject* make_duration(DecodeContext& context, Fields fields) noexcept {
  PyObject* calendar[2];
  PyObject* parts[5];
  if (!fields.need(std::array{Known::kYear, Known::kMonth}, calendar)) return nullptr;
  if (!fields.need(std::array{Known::kWeek, Known::kDay, Known::kHour, Known::kMinute, Known::kSecond},
                   parts))
    return nullptr;
  PyObject* const us = microseconds(context, fields);
  if (us == nullptr) return nullptr;
  const PyRef zero = PyRef::steal(PyLong_FromLong(0));
  if (!zero) return nullptr;
  const auto is_integer = [](PyObject* part) { return PyLong_CheckExact(part) != 0; };
  if (!std::ranges::all_of(calendar, is_integer) || !std::ranges::all_of(parts, is_integer) ||
      !is_integer(us)) {
    return context.refuse("a Duration whose fields are not all integers");
  }
  for (PyObject* const part : calendar) {
    const int same = PyObject_RichCompareBool(part, zero.get(), Py_EQ);
    if (same < 0) return nullptr;
    if (same == 0) {
      return context.refuse(
          "a Duration with years or months, which have no fixed length, and a timedelta has no other: "
          "send days in their place, or the fields as a map");
    }
  }
  const auto [week, day, hour, minute, second] = parts;
  return timedelta(context, day, second, us, zero.get(), minute, hour, week);
}

// {:timedelta, days, seconds, microseconds}
PyObject* make_timedelta(DecodeContext& context, PyBorrowed tuple) noexcept {
  PyObject* const parts[] = {PyTuple_GetItem(tuple.get(), 1), PyTuple_GetItem(tuple.get(), 2),
                             PyTuple_GetItem(tuple.get(), 3)};
  const auto is_integer = [](PyObject* part) { return PyLong_CheckExact(part) != 0; };
  if (!std::ranges::all_of(parts, is_integer)) return take(tuple.get());
  return timedelta(context, parts[0], parts[1], parts[2]);
}

// --- numbers that the BEAM has not ---

// {:fraction, numerator, denominator}
PyObject* make_fraction(DecodeContext& context, PyBorrowed tuple) noexcept {
  PyObject* const numerator = PyTuple_GetItem(tuple.get(), 1);
  PyObject* const denominator = PyTuple_GetItem(tuple.get(), 2);
  if (PyLong_CheckExact(numerator) == 0 || PyLong_CheckExact(denominator) == 0) return take(tuple.get());
  return call(context, Lazy::kFraction, "fractions.Fraction", numerator, denominator);
}

// False, without an exception: it is no number.
bool part_of_complex(const ModuleState& state, PyBorrowed part, double& out) noexcept {
  if (part.get() == state.known(Known::kNan)) {
    out = std::numeric_limits<double>::quiet_NaN();
  } else if (part.get() == state.known(Known::kInfinity)) {
    out = std::numeric_limits<double>::infinity();
  } else if (part.get() == state.known(Known::kNegInfinity)) {
    out = -std::numeric_limits<double>::infinity();
  } else if (PyFloat_CheckExact(part.get()) != 0 || PyLong_CheckExact(part.get()) != 0) {
    out = PyFloat_AsDouble(part.get());
    return out != -1 || PyErr_Occurred() == nullptr;
  } else {
    return false;
  }
  return true;
}

// {:complex, real, imaginary}
PyObject* make_complex(DecodeContext& context, PyBorrowed tuple) noexcept {
  double parts[2] = {0, 0};
  for (Py_ssize_t i = 0; i < 2; ++i) {
    if (part_of_complex(context.state, PyTuple_GetItem(tuple.get(), i + 1), parts[i])) continue;
    return PyErr_Occurred() != nullptr ? context.refuse_exception("complex") : take(tuple.get());
  }
  return PyComplex_FromDoubles(parts[0], parts[1]);
}

// --- binaries ---

// The field data as bytes or as a memoryview. A str is what a binary became before the struct was known: its
// UTF-8 form has the very same bytes.
PyRef raw_data(DecodeContext& context, PyBorrowed data) noexcept {
  if (PyUnicode_CheckExact(data.get()) != 0) return PyRef::steal(PyUnicode_AsUTF8String(data.get()));
  if (PyBytes_CheckExact(data.get()) != 0 || PyMemoryView_Check(data.get()) != 0) return PyRef::borrow(data);
  context.refuse("the field data is no binary");
  return {};
}

PyObject* make_bytes(DecodeContext& context, Fields fields) noexcept {
  PyObject* const data = fields.need(Known::kData);
  if (data == nullptr) return nullptr;
  const PyRef raw = raw_data(context, data);
  return raw ? PyBytes_FromObject(raw.get()) : nullptr;
}

PyRef make_view(DecodeContext& context, Fields& fields) noexcept {
  PyObject* const data = fields.need(Known::kData);
  if (data == nullptr) return {};
  PyRef raw = raw_data(context, data);
  if (raw && PyBytes_CheckExact(raw.get()) != 0) raw = PyRef::steal(PyMemoryView_FromObject(raw.get()));
  return raw;
}

// Whether the dtype is one of plain data, in the form of numpy's array protocol: "<f8", "|b1", "<M8[ns]".
// Everything else must stay out: over memory that the sender has filled, an object array would follow the
// sender's pointers.
bool is_plain_dtype(PyBorrowed dtype) noexcept {
  Py_ssize_t size = 0;
  const char* const utf8 = PyUnicode_AsUTF8AndSize(dtype.get(), &size);
  if (utf8 == nullptr) {
    PyErr_Clear();
    return false;
  }
  std::string_view text(utf8, static_cast<std::size_t>(size));
  const auto skip = [&](auto&& accepts) {
    const std::size_t before = text.size();
    while (!text.empty() && accepts(text.front())) text.remove_prefix(1);
    return before != text.size();
  };
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (!text.empty() && std::string_view("<>|").find(text.front()) != std::string_view::npos)
    text.remove_prefix(1);
  if (text.empty() || std::string_view("biufcMmSU").find(text.front()) == std::string_view::npos)
    return false;
  const bool dated = text.front() == 'M' || text.front() == 'm';
  text.remove_prefix(1);
  if (!skip(digit)) return false;
  if (dated && text.size() > 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
    skip(digit);
    skip([](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); });
  }
  return text.empty();
}

bool is_shape(PyBorrowed shape) noexcept {
  if (PyTuple_CheckExact(shape.get()) == 0) return false;
  const Py_ssize_t dimensions = PyTuple_Size(shape.get());
  for (Py_ssize_t i = 0; i < dimensions; ++i) {
    PyObject* const size = PyTuple_GetItem(shape.get(), i);
    int overflow = 0;
    if (PyLong_CheckExact(size) == 0 || PyLong_AsLongLongAndOverflow(size, &overflow) < 0 || overflow != 0)
      return false;
  }
  return true;
}

PyObject* make_array(DecodeContext& context, Fields fields) noexcept {
  PyObject* const shape = fields.need(Known::kShape);
  PyObject* const dtype = shape != nullptr ? fields.need(Known::kDtype) : nullptr;
  if (dtype == nullptr) return nullptr;
  const PyRef view = make_view(context, fields);
  if (!view) return nullptr;
  if (!is_shape(shape)) return context.refuse("the field shape is no tuple of sizes");
  if (PyUnicode_CheckExact(dtype) == 0 || !is_plain_dtype(dtype)) {
    return context.refuse("the field dtype is no plain type such as \"<f8\"");
  }
  const PyBorrowed array_type = context.state.imports.get(Lazy::kNumpyArray);
  if (!array_type) {
    return context.refuse_import("this Python needs numpy to receive a Typhon.Array, and cannot import it");
  }
  PyRef array =
      PyRef::steal(PyObject_CallFunctionObjArgs(array_type.get(), shape, dtype, view.get(), nullptr));
  const PyRef size = PyRef::steal(array ? PyObject_GetAttrString(array.get(), "nbytes") : nullptr);
  const Py_ssize_t used = size ? PyLong_AsSsize_t(size.get()) : -1;
  if (used < 0) return context.refuse_exception("numpy.ndarray");
  const Py_ssize_t given = PyObject_Size(view.get());
  if (used != given) {
    return context.refuse("an array of this shape and dtype has %zd bytes of data, not %zd", used, given);
  }
  return array.release();
}

// --- MapSet, Decimal, Range, Object ---

PyObject* make_set(DecodeContext& context, Fields fields) noexcept {
  PyObject* const map = fields.need(Known::kMap);
  if (map == nullptr) return nullptr;
  if (Py_TYPE(map) == &PySet_Type) return take(map);
  if (PyDict_CheckExact(map) == 0) return context.refuse("the field map is no map");
  return PySet_New(map);  // of its keys
}

PyObject* decimal_from(DecodeContext& context, PyRef argument) noexcept {
  return argument ? call(context, Lazy::kDecimal, "decimal.Decimal", argument.get())
                  : context.refuse_exception("decimal.Decimal");
}

PyObject* make_decimal(DecodeContext& context, Fields fields) noexcept {
  PyObject* values[3];
  if (!fields.need(std::array{Known::kSign, Known::kCoef, Known::kExp}, values)) return nullptr;
  const auto [sign, coef, exp] = values;
  int overflow = 0;
  const long long sign_value =
      PyLong_CheckExact(sign) != 0 ? PyLong_AsLongLongAndOverflow(sign, &overflow) : 0;
  if (overflow != 0 || (sign_value != 1 && sign_value != -1))
    return context.refuse("the field sign is neither 1 nor -1");
  const bool negative = sign_value < 0;
  if (coef == context.state.known(Known::kDecimalNan)) {
    return decimal_from(context, PyRef::steal(PyUnicode_FromString(negative ? "-NaN" : "NaN")));
  }
  if (coef == context.state.known(Known::kDecimalInf)) {
    return decimal_from(context, PyRef::steal(PyUnicode_FromString(negative ? "-Infinity" : "Infinity")));
  }
  if (PyLong_CheckExact(coef) == 0 || PyLong_CheckExact(exp) == 0) {
    return context.refuse("the fields coef and exp are not both integers");
  }
  int exp_overflow = 0;
  const long long coef_value = PyLong_AsLongLongAndOverflow(coef, &overflow);
  const long long exp_value = PyLong_AsLongLongAndOverflow(exp, &exp_overflow);
  if (overflow < 0 || (overflow == 0 && coef_value < 0)) return context.refuse("the field coef is negative");
  if (overflow == 0 && exp_overflow == 0) {
    char text[64];
    std::snprintf(text, sizeof text, "%s%lldE%lld", negative ? "-" : "", coef_value, exp_value);
    return decimal_from(context, PyRef::steal(PyUnicode_FromString(text)));
  }
  // Arithmetic on decimals rounds to the context's precision; only this constructor is exact for any size.
  const PyRef exact = PyRef::steal(decimal_from(context, PyRef::borrow(coef)));
  if (!exact) return nullptr;
  const PyRef parts = PyRef::steal(PyObject_CallMethod(exact.get(), "as_tuple", nullptr));
  PyObject* const digits = parts ? PyTuple_GetItem(parts.get(), 1) : nullptr;
  if (digits == nullptr) return context.refuse_exception("decimal.Decimal");
  return decimal_from(context, PyRef::steal(Py_BuildValue("(iOO)", negative ? 1 : 0, digits, exp)));
}

PyObject* make_range(DecodeContext& context, Fields fields) noexcept {
  PyObject* ends[2];
  if (!fields.need(std::array{Known::kFirst, Known::kLast}, ends)) return nullptr;
  const auto [first, last] = ends;
  if (PyLong_CheckExact(first) == 0 || PyLong_CheckExact(last) == 0) {
    return context.refuse("the fields first and last are not both integers");
  }
  PyRef step = PyRef::borrow(fields.find(Known::kStep));
  if (!step) {  // ranges before Elixir 1.12
    const int down = PyObject_RichCompareBool(first, last, Py_GT);
    step = PyRef::steal(PyLong_FromLong(down == 1 ? -1 : 1));
  }
  const PyRef zero = PyRef::steal(PyLong_FromLong(0));
  if (!step || !zero) return nullptr;
  if (PyLong_CheckExact(step.get()) == 0) return context.refuse("the field step is no integer");
  const int down = PyObject_RichCompareBool(step.get(), zero.get(), Py_LT);
  const PyRef beyond = PyRef::steal(PyLong_FromLong(down == 1 ? -1 : 1));
  const PyRef stop = PyRef::steal(beyond ? PyNumber_Add(last, beyond.get()) : nullptr);
  if (!stop) return nullptr;
  PyObject* const range = PyObject_CallFunctionObjArgs(reinterpret_cast<PyObject*>(&PyRange_Type), first,
                                                       stop.get(), step.get(), nullptr);
  return range != nullptr ? range : context.refuse_exception("range");
}

// An enumerable of the BEAM: `pull` names it there.
PyObject* make_iter(DecodeContext& context, Fields fields) noexcept {
  PyObject* const pull = fields.need(Known::kPull);
  return pull == nullptr ? nullptr : call(context, Lazy::kIter, "typhon.Iter", pull);
}

// The name and the fields of a struct of somebody's: the object that Python code has registered a function
// for, or the fields.
PyObject* make_named(DecodeContext& context, Fields fields) noexcept {
  PyObject* values[2];
  if (!fields.need(std::array{Known::kName, Known::kFields}, values)) return nullptr;
  const auto [name, dict] = values;
  if (reinterpret_cast<PyObject*>(Py_TYPE(name)) != context.state.atom_type.get())
    return context.refuse("the field name is no atom");
  if (PyDict_CheckExact(dict) == 0) return context.refuse("the field fields is no map");
  if (!context.state.conversions.has_decoders()) return take(dict);
  const PyRef decoder = context.state.conversions.decoder_of(AtomObject::of(name)->name);
  if (!decoder) return PyErr_Occurred() == nullptr ? take(dict) : nullptr;
  PyObject* const object = PyObject_CallFunctionObjArgs(decoder.get(), dict, nullptr);
  return object != nullptr ? object : context.refuse_decoder(decoder, AtomObject::of(name)->text());
}

PyObject* find_object(DecodeContext& context, Fields fields) noexcept {
  PyObject* const id = fields.need(Known::kId);
  if (id == nullptr) return nullptr;
  if (context.options.objects == nullptr) {
    return context.refuse("a Typhon.Object means something only in the Python process that holds the object");
  }
  const unsigned long long number = PyLong_CheckExact(id) != 0 ? PyLong_AsUnsignedLongLong(id) : 0;
  PyErr_Clear();
  PyRef object = number != 0 ? context.options.objects->get(number) : PyRef();
  if (!object) {
    return context.refuse(
        "this Typhon.Object is not held here: it was released, or another Python process holds it");
  }
  return object.release();
}

}  // namespace

Struct struct_named(const ModuleState& state, PyBorrowed name) noexcept {
  for (const Named& entry : kStructs) {
    if (name.get() == state.known(entry.name)) return entry.kind;
  }
  return Struct::kUnknown;
}

PyObject* make_struct(DecodeContext& context, Struct kind, std::span<PyObject* const> pairs) noexcept {
  const auto fields = [&](const char* name) { return Fields(context, name, pairs); };
  switch (kind) {
    case Struct::kBytes:
      return make_bytes(context, fields("Typhon.Bytes"));
    case Struct::kBuffer: {
      Fields own = fields("Typhon.Buffer");
      return make_view(context, own).release();
    }
    case Struct::kArray:
      return make_array(context, fields("Typhon.Array"));
    case Struct::kObject:
      return find_object(context, fields("Typhon.Object"));
    case Struct::kDate:
      return make_date(context, fields("Date"));
    case Struct::kTime:
      return make_time(context, fields("Time"));
    case Struct::kNaiveDateTime: {
      Fields own = fields("NaiveDateTime");
      return make_datetime(context, own, Py_None);
    }
    case Struct::kDateTime:
      return make_aware(context, fields("DateTime"));
    case Struct::kDuration:
      return make_duration(context, fields("Duration"));
    case Struct::kNamed:
      return make_named(context, fields("Typhon.Struct"));
    case Struct::kMapSet:
      return make_set(context, fields("MapSet"));
    case Struct::kDecimal:
      return make_decimal(context, fields("Decimal"));
    case Struct::kRange:
      return make_range(context, fields("Range"));
    case Struct::kIter:
      return make_iter(context, fields("Typhon.Iter.Reference"));
    case Struct::kNone:
    case Struct::kUnknown:
    case Struct::kTagged:
      break;
  }
  return nullptr;
}

PyObject* make_tagged(DecodeContext& context, PyBorrowed tuple) noexcept {
  const PyObject* const tag = PyTuple_GetItem(tuple.get(), 0);
  const Py_ssize_t size = PyTuple_Size(tuple.get());
  if (size == 4 && tag == context.state.known(Known::kTimeDelta)) return make_timedelta(context, tuple);
  if (size == 3 && tag == context.state.known(Known::kFraction)) return make_fraction(context, tuple);
  if (size == 3 && tag == context.state.known(Known::kComplex)) return make_complex(context, tuple);
  return take(tuple.get());
}

}  // namespace typhon::python

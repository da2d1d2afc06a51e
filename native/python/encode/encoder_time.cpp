// datetime and decimal objects as Elixir's structs.
#include "python/encode/encoder.h"

#include "python/errors.h"

#include <array>
#include <string>

namespace typhon::python {
namespace {

// Those of a timedelta. The days may be negative, the others not: a second before zero is 86,399 seconds of
// the day before.
struct Delta {
  long long days = 0;
  long long seconds = 0;
  long long microseconds = 0;
};

constexpr long long kMostDays = 999'999'999;  // as in datetime

bool read_number(PyBorrowed object, const char* name, long long& out) noexcept {
  const PyRef number = PyRef::steal(PyObject_GetAttrString(object.get(), name));
  out = number ? PyLong_AsLongLong(number.get()) : -1;
  return out != -1 || PyErr_Occurred() == nullptr;
}

// False with an exception set.
bool read_delta(PyBorrowed object, Delta& delta) noexcept {
  return read_number(object, "days", delta.days) && read_number(object, "seconds", delta.seconds) &&
         read_number(object, "microseconds", delta.microseconds);
}

// All parts with the sign of the whole, as those who write a Duration would have them.
Delta of_one_sign(Delta delta) noexcept {
  if (delta.days >= 0) return delta;
  if (delta.microseconds > 0) {
    delta.microseconds -= 1'000'000;
    ++delta.seconds;
  }
  if (delta.seconds > 0) {
    delta.seconds -= 86'400;
    ++delta.days;
  }
  return delta;
}

// A timedelta (or None) as whole seconds. False, without an exception, when it is finer than that; with one
// otherwise.
bool whole_seconds(PyBorrowed object, long long& seconds) noexcept {
  Delta delta;
  if (object.get() != Py_None && !read_delta(object, delta)) return false;
  seconds = delta.days * 86'400 + delta.seconds;
  return delta.microseconds == 0;
}

}  // namespace

bool Encoder::put_date_fields(PyBorrowed object) noexcept {
  return put_known(Known::kCalendar) && put_known(Known::kCalendarIso) &&
         put_integer_attribute(object, Known::kYear) && put_integer_attribute(object, Known::kMonth) &&
         put_integer_attribute(object, Known::kDay);
}

bool Encoder::put_time_fields(PyBorrowed object) noexcept {
  const PyRef microsecond = attribute(object, Known::kMicrosecond);
  const long us = microsecond ? PyLong_AsLong(microsecond.get()) : -1;
  if (us == -1 && PyErr_Occurred() != nullptr) return false;
  return put_integer_attribute(object, Known::kHour) && put_integer_attribute(object, Known::kMinute) &&
         put_integer_attribute(object, Known::kSecond) && put_known(Known::kMicrosecond) &&
         writer_.tuple_header(2) && writer_.integer(us) && writer_.integer(us == 0 ? 0 : 6);
}

Encoder::Did Encoder::put_date(PyBorrowed object) noexcept {
  if (put_struct(Known::kDate, 4) && put_date_fields(object)) return Did::kWritten;
  return PyErr_Occurred() != nullptr ? refuse_exception(object, "a date") : Did::kFailed;
}

Encoder::Did Encoder::put_time(PyBorrowed object) noexcept {
  const PyRef zone = PyRef::steal(PyObject_GetAttrString(object.get(), "tzinfo"));
  if (zone && zone.get() != Py_None) return refuse(object, "a time with a time zone: Elixir's Time has none");
  if (zone && put_struct(Known::kTime, 5) && put_known(Known::kCalendar) && put_known(Known::kCalendarIso) &&
      put_time_fields(object)) {
    return Did::kWritten;
  }
  return PyErr_Occurred() != nullptr ? refuse_exception(object, "a time") : Did::kFailed;
}

// Elixir knows time zones by their name only. A zone that has none (a fixed offset) becomes UTC: the same
// instant.
Encoder::Did Encoder::put_datetime(PyRef object) noexcept {
  const auto failed = [&]() noexcept {
    return PyErr_Occurred() != nullptr ? refuse_exception(object, "a datetime") : Did::kFailed;
  };
  const PyRef offset = PyRef::steal(PyObject_CallMethod(object.get(), "utcoffset", nullptr));
  if (!offset) return failed();
  if (offset.get() == Py_None) {
    const bool written =
        put_struct(Known::kNaiveDateTime, 8) && put_date_fields(object) && put_time_fields(object);
    return written ? Did::kWritten : failed();
  }

  const PyBorrowed utc = state_.imports.get(Lazy::kUtc);
  const PyRef zone = PyRef::steal(utc ? PyObject_GetAttrString(object.get(), "tzinfo") : nullptr);
  if (!zone) return failed();
  PyRef name;
  if (zone.get() != utc.get()) {
    const PyBorrowed zone_info = state_.imports.if_loaded(Lazy::kZoneInfo);
    if (zone_info &&
        PyType_IsSubtype(Py_TYPE(zone.get()), reinterpret_cast<PyTypeObject*>(zone_info.get())) != 0) {
      name = PyRef::steal(PyObject_GetAttrString(zone.get(), "key"));
      if (!name) return failed();
      const bool named = PyUnicode_Check(name.get()) != 0 &&
                         PyUnicode_CompareWithASCIIString(name.get(), "UTC") != 0 &&
                         PyUnicode_CompareWithASCIIString(name.get(), "Etc/UTC") != 0;
      if (!named) name.reset();
    }
  }

  PyRef abbreviation;
  long long utc_offset = 0;
  long long std_offset = 0;
  if (name) {
    const PyRef dst = PyRef::steal(PyObject_CallMethod(object.get(), "dst", nullptr));
    abbreviation = PyRef::steal(dst ? PyObject_CallMethod(object.get(), "tzname", nullptr) : nullptr);
    if (!abbreviation) return failed();
    if (whole_seconds(offset, utc_offset) && whole_seconds(dst, std_offset) &&
        PyUnicode_Check(abbreviation.get()) != 0) {
      utc_offset -= std_offset;
    } else if (PyErr_Occurred() != nullptr) {
      return failed();
    } else {
      name.reset();
    }
  }
  if (!name) {
    if (zone.get() != utc.get()) {
      PyRef shifted = PyRef::steal(PyObject_CallMethod(object.get(), "astimezone", "O", utc.get()));
      if (!shifted) return failed();
      object = std::move(shifted);
    }
    name = PyRef::steal(PyUnicode_FromString("Etc/UTC"));
    abbreviation = PyRef::steal(PyUnicode_FromString("UTC"));
    if (!name || !abbreviation) return failed();
    utc_offset = std_offset = 0;
  }

  const bool written =
      put_struct(Known::kDateTime, 12) && put_date_fields(object) && put_time_fields(object) &&
      put_known(Known::kTimeZone) && put_text(name.get()) == Did::kWritten && put_known(Known::kZoneAbbr) &&
      put_text(abbreviation.get()) == Did::kWritten && put_known(Known::kUtcOffset) &&
      writer_.integer(utc_offset) && put_known(Known::kStdOffset) && writer_.integer(std_offset);
  return written ? Did::kWritten : failed();
}

// A Duration, or the tuple that stands for one where Elixir has none. pandas counts nanoseconds, too.
Encoder::Did Encoder::put_timedelta(PyBorrowed object) noexcept {
  Delta delta;
  long long nanoseconds = 0;
  if (!read_delta(object, delta)) return refuse_exception(object, "a timedelta");
  const PyBorrowed pandas = state_.imports.if_loaded(Lazy::kPandasTimedelta);
  if (pandas && PyObject_TypeCheck(object.get(), reinterpret_cast<PyTypeObject*>(pandas.get())) != 0 &&
      !read_number(object, "nanoseconds", nanoseconds)) {
    return refuse_exception(object, "a timedelta");
  }
  if (nanoseconds != 0) return refuse_finer(object);
  if (delta.days > kMostDays || delta.days < -kMostDays) return refuse_longer(object);
  if (!options_.duration) {
    return done(writer_.tuple_header(4) && put_known(Known::kTimeDelta) && writer_.integer(delta.days) &&
                writer_.integer(delta.seconds) && writer_.integer(delta.microseconds));
  }
  delta = of_one_sign(delta);
  const auto field = [this](Known name, long long value) noexcept {
    return put_known(name) && writer_.integer(value);
  };
  return done(put_struct(Known::kDuration, 8) && field(Known::kYear, 0) && field(Known::kMonth, 0) &&
              field(Known::kWeek, 0) && field(Known::kDay, delta.days) && field(Known::kHour, 0) &&
              field(Known::kMinute, 0) && field(Known::kSecond, delta.seconds) &&
              put_known(Known::kMicrosecond) && writer_.tuple_header(2) &&
              writer_.integer(delta.microseconds) && writer_.integer(delta.microseconds == 0 ? 0 : 6));
}

Encoder::Did Encoder::refuse_finer(PyBorrowed object) noexcept {
  return refuse(object,
                "a span of time with less than microseconds, which neither a timedelta nor Elixir's Duration "
                "has: round it to microseconds, or send its nanoseconds as an integer");
}

Encoder::Did Encoder::refuse_longer(PyBorrowed object) noexcept {
  return refuse(object, "a span of time of more than 999,999,999 days, which no timedelta holds");
}

// sign * coef * 10^exp. The digits come one by one; beyond 18 of them only Decimal itself turns them into an
// integer exactly and in linear time.
Encoder::Did Encoder::put_decimal(PyBorrowed object) noexcept {
  const PyRef parts = PyRef::steal(PyObject_CallMethod(object.get(), "as_tuple", nullptr));
  if (!parts) return refuse_exception(object, "a Decimal");
  if (PyTuple_Check(parts.get()) == 0 || PyTuple_Size(parts.get()) != 3)
    return refuse(object, "a Decimal whose as_tuple() is no tuple of three");
  const long sign = PyLong_AsLong(PyTuple_GetItem(parts.get(), 0));
  if (sign == -1 && PyErr_Occurred() != nullptr) return refuse_exception(object, "a Decimal");
  PyObject* const digits = PyTuple_GetItem(parts.get(), 1);
  PyObject* const exponent = PyTuple_GetItem(parts.get(), 2);
  const bool header = put_struct(Known::kDecimal, 3) && put_known(Known::kSign) &&
                      writer_.integer(sign == 1 ? -1 : 1) && put_known(Known::kCoef);
  if (!header) return Did::kFailed;
  if (PyUnicode_Check(exponent) != 0) {
    const bool infinite = PyUnicode_CompareWithASCIIString(exponent, "F") == 0;
    return done(put_known(infinite ? Known::kDecimalInf : Known::kDecimalNan) && put_known(Known::kExp) &&
                writer_.integer(0));
  }
  const Py_ssize_t count = PyTuple_Check(digits) != 0 ? PyTuple_Size(digits) : -1;
  bool written = false;
  if (count >= 0 && count <= 18) {
    long long coefficient = 0;
    for (Py_ssize_t i = 0; i < count; ++i)
      coefficient = coefficient * 10 + PyLong_AsLong(PyTuple_GetItem(digits, i));
    written = PyErr_Occurred() == nullptr && writer_.integer(coefficient);
  } else {
    const PyBorrowed decimal = state_.imports.get(Lazy::kDecimal);
    const PyRef argument = PyRef::steal(decimal ? Py_BuildValue("(iOi)", 0, digits, 0) : nullptr);
    const PyRef whole = PyRef::steal(
        argument ? PyObject_CallFunctionObjArgs(decimal.get(), argument.get(), nullptr) : nullptr);
    const PyRef coefficient = PyRef::steal(whole ? PyNumber_Long(whole.get()) : nullptr);
    written = coefficient && put_integer(coefficient);
  }
  if (written && put_known(Known::kExp) && put_integer(exponent)) return Did::kWritten;
  return PyErr_Occurred() != nullptr ? refuse_exception(object, "a Decimal") : Did::kFailed;
}

}  // namespace typhon::python

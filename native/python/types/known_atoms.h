// The atoms that the codec itself looks for or writes: the names and the fields of the structs it knows.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace typhon::python {

// clang-format off
enum class Known : std::size_t {
  kStruct,
  // struct names
  kBytes, kBuffer, kArray, kObject, kDate, kTime, kNaiveDateTime, kDateTime, kMapSet, kDecimal, kRange,
  kIter, kDuration, kNamed, kCalendarIso,
  // fields
  kData, kShape, kDtype, kId, kType, kRepr, kCalendar, kYear, kMonth, kDay, kWeek, kHour, kMinute, kSecond, kMicrosecond,
  kTimeZone, kZoneAbbr, kUtcOffset, kStdOffset, kMap, kVersion, kSign, kCoef, kExp, kFirst, kLast, kStep, kPull, kName, kFields,
  // values
  kTimeDelta, kFraction, kComplex, kNan, kInfinity, kNegInfinity, kDecimalNan, kDecimalInf,
  kCount,
};

inline constexpr std::array<std::string_view, static_cast<std::size_t>(Known::kCount)> kKnownAtoms{
    "__struct__",
    "Elixir.Typhon.Bytes", "Elixir.Typhon.Buffer", "Elixir.Typhon.Array", "Elixir.Typhon.Object", "Elixir.Date",
    "Elixir.Time", "Elixir.NaiveDateTime", "Elixir.DateTime", "Elixir.MapSet", "Elixir.Decimal", "Elixir.Range",
    "Elixir.Typhon.Iter.Reference", "Elixir.Duration", "Elixir.Typhon.Struct", "Elixir.Calendar.ISO",
    "data", "shape", "dtype", "id", "type", "repr", "calendar", "year", "month", "day", "week", "hour", "minute", "second",
    "microsecond", "time_zone", "zone_abbr", "utc_offset", "std_offset", "map", "version", "sign", "coef", "exp",
    "first", "last", "step", "pull", "name", "fields",
    "timedelta", "fraction", "complex", "nan", "infinity", "neg_infinity", "NaN", "inf",
};

// clang-format on

}  // namespace typhon::python

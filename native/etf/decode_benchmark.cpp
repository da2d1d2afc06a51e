// The cost of the reader itself: decoders that do next to nothing, so that what is measured is reading the
// format.
#include <benchmark/benchmark.h>

#include <string>

#include "etf/decode.h"
#include "etf/skip.h"
#include "etf/writer.h"

namespace typhon::etf {
namespace {

// Sums what it sees: enough that the compiler cannot leave anything out.
struct Summer {
  using Value = std::uint64_t;
  struct Container {
    std::uint64_t sum = 0;
  };
  bool integer(std::int64_t i, Value& v) noexcept { return give(static_cast<std::uint64_t>(i), v); }
  bool big(bool, Bytes b, Value& v) noexcept { return give(b.size(), v); }
  bool floating(double d, Value& v) noexcept { return give(std::bit_cast<std::uint64_t>(d), v); }
  bool atom(std::string_view text, Value& v) noexcept { return give(text.size(), v); }
  bool find_atom(std::string_view text, Value& v) noexcept { return give(text.size(), v); }
  bool binary(Bytes b, Value& v) noexcept { return give(b.size(), v); }
  bool bits(Bytes b, unsigned, Value& v) noexcept { return give(b.size(), v); }
  bool nil(Value& v) noexcept { return give(1, v); }
  bool string(Bytes b, Value& v) noexcept { return give(b.size(), v); }
  bool pid(const PidView& p, Value& v) noexcept { return give(p.id, v); }
  bool port(const PortView& p, Value& v) noexcept { return give(p.id, v); }
  bool reference(const ReferenceView& r, Value& v) noexcept { return give(r.count(), v); }
  bool exported_fun(const ExportView& f, Value& v) noexcept { return give(f.arity, v); }
  bool fun(const FunView& f, Value& v) noexcept { return give(f.arity, v); }
  bool local(const LocalView& l, Value& v) noexcept { return give(l.payload.size(), v); }
  bool open_tuple(std::uint32_t, Container&) noexcept { return true; }
  bool open_list(std::uint32_t, Container&) noexcept { return true; }
  bool open_map(std::uint32_t, Container&) noexcept { return true; }
  bool extend_list(Container&, std::uint32_t) noexcept { return true; }
  bool element(Container& c, std::uint32_t, Value&& v) noexcept { return c.sum += v, true; }
  bool map_key(Container& c, std::uint32_t, Value&& v) noexcept { return c.sum ^= v, true; }
  bool map_value(Container& c, std::uint32_t, Value&& v) noexcept { return c.sum += v, true; }
  bool close(Container& c, Value& v) noexcept { return give(c.sum, v); }
  bool close_improper(Container& c, Value&& t, Value& v) noexcept { return give(c.sum + t, v); }
  void abandon(Container&) noexcept {}
  void drop(Value&) noexcept {}

 private:
  static bool give(std::uint64_t value, Value& v) noexcept {
    v = value;
    return true;
  }
};

constexpr int kCount = 100'000;

template <class Each>
std::string list_of(int count, Each each) {
  HeapSink sink;
  Writer writer(sink);
  writer.version();
  writer.list_header(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) each(writer, i);
  writer.nil();
  return {reinterpret_cast<const char*>(sink.data), sink.size};
}

std::string small_integers() {
  return list_of(kCount, [](Writer& w, int i) { w.integer(i % 256); });
}
std::string integers() {
  return list_of(kCount, [](Writer& w, int i) { w.integer(i * 7919); });
}
std::string wide_integers() {
  return list_of(kCount, [](Writer& w, int i) { w.integer(1'700'000'000'000'000 + i); });
}
std::string floats() {
  return list_of(kCount, [](Writer& w, int i) { w.floating(i * 0.5); });
}
std::string short_binaries() {
  return list_of(kCount,
                 [](Writer& w, int i) { w.binary(std::string(static_cast<std::size_t>(i % 20), 'x')); });
}
std::string atoms() {
  return list_of(kCount, [](Writer& w, int i) { w.known_atom(i % 2 != 0 ? "ok" : "error"); });
}
std::string pairs() {
  return list_of(kCount,
                 [](Writer& w, int i) { w.tuple_header(2) && w.known_atom("ok") && w.integer(i % 256); });
}
// %{"id" => i, "name" => "…", "tags" => ["a", "b"], "score" => f}
std::string records() {
  return list_of(10'000, [](Writer& w, int i) {
    w.map_header(4) && w.binary("id") && w.integer(i) && w.binary("name") && w.binary("somebody's name") &&
        w.binary("tags") && w.list_header(2) && w.binary("a") && w.binary("b") && w.nil() &&
        w.binary("score") && w.floating(i * 0.25);
  });
}

template <std::string (*make)()>
void decode_terms(benchmark::State& state) {
  const std::string bytes = make();
  const Bytes input(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  const auto count = load_big<std::uint32_t>(bytes.data() + 2);
  for (auto _ : state) {
    Summer decoder;
    Summer::Value value{};
    const Outcome outcome = decode(input, decoder, Limits{}, value);
    if (!outcome.ok()) state.SkipWithError(outcome.expected);
    benchmark::DoNotOptimize(value);
  }
  state.counters["per_element"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * count,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes.size()));
}

template <std::string (*make)()>
void skip_terms(benchmark::State& state) {
  const std::string bytes = make();
  const Bytes input(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  for (auto _ : state) benchmark::DoNotOptimize(skip(input, Limits{}).used);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes.size()));
}

template <std::string (*make)()>
void write_terms(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(make().size());
}

BENCHMARK(decode_terms<small_integers>);
BENCHMARK(decode_terms<integers>);
BENCHMARK(decode_terms<wide_integers>);
BENCHMARK(decode_terms<floats>);
BENCHMARK(decode_terms<short_binaries>);
BENCHMARK(decode_terms<atoms>);
BENCHMARK(decode_terms<pairs>);
BENCHMARK(decode_terms<records>);
BENCHMARK(skip_terms<small_integers>);
BENCHMARK(skip_terms<records>);
BENCHMARK(write_terms<small_integers>);
BENCHMARK(write_terms<floats>);
BENCHMARK(write_terms<records>);

}  // namespace
}  // namespace typhon::etf

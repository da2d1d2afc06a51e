// What the channel itself costs, without terms and without Python: round trips through the rings, and large
// bodies through an arena next to a plain memcpy of the same bytes (the floor).
#include <benchmark/benchmark.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "channel/arena.h"
#include "channel/doorbell.h"
#include "channel/region.h"
#include "channel/ring.h"
#include "os/thread.h"
#include "os/wait.h"

namespace typhon::channel {
namespace {

constexpr std::size_t kMiB = 1024 * 1024;

std::unique_ptr<Region> make_region(std::size_t arena_size) {
  RegionOptions options;
  options.arena_size = arena_size;
  auto created = Region::create(options);
  return created.ok() ? std::move(created).value() : nullptr;
}

bool push(RingProducer& ring, std::size_t body, Kind kind = Kind::kCall) {
  const std::size_t size = sizeof(FrameHeader) + body;
  std::uint8_t* place = ring.reserve(align8(size));
  if (!place) return false;
  FrameHeader header{};
  header.size = static_cast<std::uint32_t>(size);
  header.kind = kind;
  std::memcpy(place, &header, sizeof header);
  std::memset(place + sizeof header, 1, body);
  ring.commit(size);
  return true;
}

// False when the ring is empty.
bool pop(RingConsumer& ring, Kind& kind) {
  FrameHeader header{};
  std::span<const std::uint8_t> body;
  if (ring.peek(header, body) != RingConsumer::State::kFrame) return false;
  kind = header.kind;
  ring.pop();
  return true;
}

void ring_bell(std::atomic<std::uint32_t>& word) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (word.load(std::memory_order_relaxed) == kAsleep) wake_from(word, kAsleep);
}

// Spins for `spins` rounds, then sleeps. A spinner gives its core away now and then: the other side may need
// it.
void wait_for_frame(const RingConsumer& ring, std::atomic<std::uint32_t>& word, unsigned spins) {
  for (unsigned round = 1; round <= spins; ++round) {
    if (!ring.empty()) return;
    os::cpu_relax();
    if (round % 1024 == 0) std::this_thread::yield();
  }
  word.store(kAsleep, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (ring.empty()) {
    while (word.load(std::memory_order_acquire) == kAsleep) os::wait_word(word, kAsleep, -1);
  }
  word.store(kAwake, std::memory_order_relaxed);
}

constexpr unsigned kSpinForever = ~0U;

void round_trip(benchmark::State& state, unsigned spins) {
  const auto body = static_cast<std::size_t>(state.range(0));
  const auto region = make_region(kMiB);
  if (!region) return state.SkipWithError("no region");
  Header& header = region->header();
  std::thread worker([&] {
    RingConsumer requests(region->request_ring(), region->ring_size(), header.request_tail.value,
                          header.request_head.value);
    RingProducer replies(region->reply_ring(), region->ring_size(), header.reply_tail.value,
                         header.reply_head.value);
    for (Kind kind{};;) {
      if (!pop(requests, kind)) {
        wait_for_frame(requests, header.worker_word.value, spins);
        continue;
      }
      if (kind != Kind::kCall) return;
      push(replies, body);
      ring_bell(header.reader_word.value);
    }
  });
  RingProducer requests(region->request_ring(), region->ring_size(), header.request_tail.value,
                        header.request_head.value);
  RingConsumer replies(region->reply_ring(), region->ring_size(), header.reply_tail.value,
                       header.reply_head.value);
  header.reader_word.value.store(kAwake);
  Kind kind{};
  for (auto _ : state) {
    push(requests, body);
    ring_bell(header.worker_word.value);
    while (!pop(replies, kind)) wait_for_frame(replies, header.reader_word.value, spins);
  }
  push(requests, 0, Kind::kCast);  // the end
  ring_bell(header.worker_word.value);
  worker.join();
}

void RoundTripSpinning(benchmark::State& state) { round_trip(state, kSpinForever); }
void RoundTripSleeping(benchmark::State& state) { round_trip(state, 0); }
BENCHMARK(RoundTripSpinning)->Arg(16)->Arg(1024)->UseRealTime();
BENCHMARK(RoundTripSleeping)->Arg(16)->UseRealTime();

void set_rate(benchmark::State& state, std::size_t bytes) {
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes) * static_cast<std::int64_t>(state.iterations()));
}

// The floor of a large body: its bytes copied once between two warm buffers.
void CopyFloor(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  const std::vector<std::uint8_t> from(bytes, 1);
  std::vector<std::uint8_t> to(bytes, 2);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), bytes);
    benchmark::ClobberMemory();
  }
  set_rate(state, bytes);
}

// A sender's part: a segment, the copy into it, its release. `fresh`: its pages went back to the system
// before.
void copy_to_segment(benchmark::State& state, bool fresh) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  const auto region = make_region(2 * bytes);
  if (!region) return state.SkipWithError("no region");
  ArenaOwner owner(region->request_arena(), region->arena_size(), region->header().request_slots);
  const ArenaPeer peer(region->request_arena(), region->arena_size(), region->header().request_slots);
  const std::vector<std::uint8_t> from(bytes, 1);
  for (auto _ : state) {
    const auto segment = owner.allocate(bytes);
    if (!segment) return state.SkipWithError("no segment");
    std::memcpy(owner.data(*segment), from.data(), bytes);
    benchmark::ClobberMemory();
    peer.release(segment->slot);
    owner.reap();
    if (!fresh) continue;
    state.PauseTiming();
    owner.trim();
    state.ResumeTiming();
  }
  set_rate(state, bytes);
}

void CopyToWarmSegment(benchmark::State& state) { copy_to_segment(state, false); }
void CopyToFreshSegment(benchmark::State& state) { copy_to_segment(state, true); }
BENCHMARK(CopyFloor)->Arg(kMiB)->Arg(64 * kMiB)->UseRealTime();
BENCHMARK(CopyToWarmSegment)->Arg(kMiB)->Arg(64 * kMiB)->UseRealTime();
BENCHMARK(CopyToFreshSegment)->Arg(kMiB)->Arg(64 * kMiB)->UseRealTime();

// What returning pages costs: per step of `range` bytes.
void Trim(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  const auto region = make_region(2 * bytes);
  if (!region) return state.SkipWithError("no region");
  ArenaOwner owner(region->request_arena(), region->arena_size(), region->header().request_slots);
  for (auto _ : state) {
    state.PauseTiming();
    const auto segment = owner.allocate(bytes);
    if (!segment) return state.SkipWithError("no segment");
    std::memset(owner.data(*segment), 1, bytes);
    owner.discard(*segment);
    state.ResumeTiming();
    owner.trim(bytes);
  }
  set_rate(state, bytes);
}
BENCHMARK(Trim)->Arg(4 * kMiB);

// Many segments held at once: allocation looks for a stretch, reap() at each slot in use.
void AllocateAmongMany(benchmark::State& state) {
  const auto held = static_cast<std::size_t>(state.range(0));
  const auto region = make_region(64 * kMiB);
  if (!region) return state.SkipWithError("no region");
  ArenaOwner owner(region->request_arena(), region->arena_size(), region->header().request_slots);
  const ArenaPeer peer(region->request_arena(), region->arena_size(), region->header().request_slots);
  for (std::size_t i = 0; i < held; ++i) benchmark::DoNotOptimize(owner.allocate(os::page_size()));
  for (auto _ : state) {
    const auto segment = owner.allocate(os::page_size());
    if (!segment) return state.SkipWithError("no segment");
    peer.release(segment->slot);
    owner.reap();
  }
}
BENCHMARK(AllocateAmongMany)->Arg(0)->Arg(100)->Arg(2000);

}  // namespace
}  // namespace typhon::channel

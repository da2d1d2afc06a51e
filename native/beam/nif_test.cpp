// The NIF with real threads and a worker, without an emulator and without a Python: callers that look, wait,
// are asked, give up and are killed, while the channel works or is closed. The checks run it under
// ThreadSanitizer.
#include <gtest/gtest.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "beam/wire.h"
#include "channel/doorbell.h"
#include "os/wait.h"
#include "testing/channel.h"
#include "testing/emulator.h"
#include "testing/worker.h"
#include "worker/attach.h"
#include "worker/mailroom.h"
#include "worker/outlet.h"
#include "worker/reply_sink.h"

extern "C" ErlNifEntry* nif_init();

namespace typhon::beam {
namespace {

using channel::FrameHeader;
using channel::Kind;
using channel::testing::kStressDivisor;
using channel::testing::Random;
using testing::Emulator;
using testing::Process;
using testing::text_of;
using worker::testing::eventually;
using worker::testing::kLimit;

// A worker that answers each call with the call itself: {Module, Function, Args, Kwargs}. What else it does,
// the function says.
class Worker : private worker::Outlet {
 public:
  explicit Worker(int fd) : Worker(attached(fd)) {}
  ~Worker() override { join(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  // It is in the middle of something, and looks at nothing.
  void stand_still(bool stands) { stands_.store(stands); }
  // Nobody waits for that call any more; as the LifeWatch hears of it.
  void cancel(std::uint64_t id) {
    {
      const std::lock_guard lock(cancelled_mutex_);
      cancelled_.insert(id);
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);
    channel::wake_from(header_.worker_word.value, channel::kAsleep);
  }
  [[nodiscard]] std::uint64_t casts() const { return casts_.load(); }

 private:
  explicit Worker(std::unique_ptr<channel::Region> region)
      : Outlet(*region, stop_), owned_(std::move(region)), mailroom_(*owned_), thread_([this] { run(); }) {}

  static std::unique_ptr<channel::Region> attached(int fd) {
    auto region = worker::attach(0, os::duplicate(fd).release());
    return std::move(region).value();
  }

  void wait_for_room(std::atomic<std::uint32_t>& room, std::int64_t limit_ns) noexcept override {
    os::wait_word(room, 1, limit_ns);
  }

  [[nodiscard]] bool closing() const { return header_.closing.value.load() != 0; }

  void run() {
    while (!closing()) {
      if (stands_.load()) {
        ::sched_yield();
        continue;
      }
      FrameHeader header{};
      std::span<const std::uint8_t> body;
      if (mailroom_.peek(header, body) != worker::Mailroom::Peeked::kFrame) {
        sleep();
        continue;
      }
      serve(header, {body.begin(), body.end()});
    }
  }

  bool is_cancelled(std::uint64_t id) {
    const std::lock_guard lock(cancelled_mutex_);
    return cancelled_.contains(id);
  }

  void sleep() {
    ring_reader(false);
    auto& word = header_.worker_word.value;
    word.store(channel::kAsleep);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (mailroom_.ring_empty() && !closing()) os::wait_word(word, channel::kAsleep, worker::kLookAroundNs);
    word.store(channel::kAwake);
  }

  void serve(const FrameHeader& header, const std::vector<std::uint8_t>& body) {
    mailroom_.pop();
    if (header.kind == Kind::kCast) {
      casts_.fetch_add(1);
      header_.casts_done.value.fetch_add(1);
    }
    if (header.kind != Kind::kCall || !mailroom_.claim(header)) return;
    if ((header.flags & channel::kInSegment) != 0) return answer(header.id, taken_out(body));
    answer(header.id, body);
  }

  std::vector<std::uint8_t> taken_out(const std::vector<std::uint8_t>& body) {
    channel::SegmentRef ref{};
    std::memcpy(&ref, body.data(), sizeof ref);
    const auto view = segments_.view(ref);
    EXPECT_TRUE(view);
    std::vector<std::uint8_t> bytes(view->begin(), view->end());
    segments_.release(ref.slot);
    return bytes;
  }

  void answer(std::uint64_t id, const std::vector<std::uint8_t>& body) {
    const std::string_view text(reinterpret_cast<const char*>(body.data()), body.size());
    if (text.find("asks") != std::string_view::npos && !ask(id, body)) return;
    if (text.find("tells") != std::string_view::npos) send(frame_of(Kind::kAsk, id), body);
    std::vector<std::uint8_t> reply = body;
    if (text.find("large") != std::string_view::npos) reply = in_a_list(body, std::size_t{100} << 10);
    send(frame_of(Kind::kReply, id), reply);
  }

  static FrameHeader frame_of(Kind kind, std::uint64_t id) {
    FrameHeader header{};
    header.kind = kind;
    header.id = id;
    return header;
  }

  // [Body, Zeros]
  static std::vector<std::uint8_t> in_a_list(const std::vector<std::uint8_t>& body, std::size_t zeros) {
    std::vector<std::uint8_t> list = {131, 'l', 0, 0, 0, 2};
    list.insert(list.end(), body.begin() + 1, body.end());
    list.push_back('m');
    for (const unsigned shift : {24U, 16U, 8U, 0U}) list.push_back(static_cast<std::uint8_t>(zeros >> shift));
    list.insert(list.end(), zeros, 0);
    list.push_back('j');
    return list;
  }

  // True when there was an answer, or none is to come. Other frames that come before it are served then and
  // there.
  bool ask(std::uint64_t id, const std::vector<std::uint8_t>& body) {
    const std::uint64_t tag = ++tag_;
    FrameHeader question = frame_of(Kind::kAsk, id);
    question.times[0] = tag;
    send(question, body);
    while (!closing()) {
      if (answered_.erase(tag) != 0 || is_cancelled(id)) return true;
      FrameHeader header{};
      std::span<const std::uint8_t> frame;
      if (mailroom_.peek(header, frame) != worker::Mailroom::Peeked::kFrame) {
        sleep();
      } else if (header.kind == Kind::kAnswer) {
        answered_.insert(header.id);
        mailroom_.pop();
      } else {
        serve(header, {frame.begin(), frame.end()});
      }
    }
    return false;
  }

  void send(const FrameHeader& header, std::span<const std::uint8_t> body) {
    std::array<std::uint8_t, worker::ReplySink::kReserve> frame;  // uninitialised on purpose
    worker::ReplySink sink(frame.data(), *this);
    ASSERT_TRUE(body.size() <= sink.capacity || sink.grow(body.size()));
    std::memcpy(sink.data, body.data(), body.size());
    sink.size = body.size();
    sink.has_large_binary = sink.in_segment();  // else the emulator's own decoder has it
    publish(sink, header, false, nullptr);
  }

  std::atomic<bool> stop_{false};
  std::atomic<bool> stands_{false};
  std::atomic<std::uint64_t> casts_{0};
  std::unique_ptr<channel::Region> owned_;
  channel::ArenaPeer segments_{owned_->request_arena(), owned_->arena_size(), owned_->header().request_slots};
  worker::Mailroom mailroom_;
  std::uint64_t tag_ = 0;
  std::set<std::uint64_t> answered_;
  std::mutex cancelled_mutex_;
  std::set<std::uint64_t> cancelled_;
  std::thread thread_;
};

// Element `index` of a tuple that a NIF gave.
ERL_NIF_TERM element(ERL_NIF_TERM tuple, int index) {
  int arity = 0;
  const ERL_NIF_TERM* elements = nullptr;
  EXPECT_TRUE(enif_get_tuple(nullptr, tuple, &arity, &elements) && index < arity) << text_of(tuple);
  return elements[index];
}

std::string tag_of(ERL_NIF_TERM event) {
  int arity = 0;
  const ERL_NIF_TERM* elements = nullptr;
  return enif_get_tuple(nullptr, event, &arity, &elements) ? text_of(elements[0]) : text_of(event);
}

// A channel in a pool of one, its owner, and a worker at the other end.
class Channel {
 public:
  Channel() {
    pool_ = *looker_.call("pool_new", {looker_.number(1)});
    const ERL_NIF_TERM opened = *looker_.call(
        "channel_open",
        {owner_.term(), looker_.map({{"ring_size", looker_.number(channel::kMinRing)},
                                     {"arena_size", looker_.number(std::uint64_t{64} << 20)}})});
    EXPECT_EQ(tag_of(opened), "ok") << text_of(opened);
    channel_ = element(opened, 1);
    ERL_NIF_TERM fd = 0;
    int number = -1;
    EXPECT_TRUE(enif_get_map_value(nullptr, element(opened, 2), looker_.atom("fd"), &fd));
    EXPECT_TRUE(enif_get_int(nullptr, fd, &number));
    worker_ = std::make_unique<Worker>(number);
    owns_ = std::thread([this, channel = enif_make_copy(owner_.heap(), channel_)] { own(channel); });
    EXPECT_EQ(text_of(*looker_.call("pool_put", {pool_, looker_.number(0), channel_})), "ok");
  }
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel() {
    close();
    worker_->join();
    owner_.kill();
    owns_.join();
    EXPECT_EQ(text_of(*looker_.call("pool_put", {pool_, looker_.number(0), looker_.atom("nil")})), "ok");
  }

  // The pool as a term of that process.
  ERL_NIF_TERM pool(Process& process) { return enif_make_copy(process.heap(), pool_); }
  Worker& worker() { return *worker_; }
  void close() { looker_.call("channel_close", {channel_, looker_.atom("test")}); }
  std::string info(const char* key) {
    const ERL_NIF_TERM info = *looker_.call("channel_info", {channel_});
    ERL_NIF_TERM value = 0;
    EXPECT_TRUE(enif_get_map_value(nullptr, info, looker_.atom(key), &value)) << key;
    return text_of(value);
  }
  std::string info() { return text_of(*looker_.call("channel_info", {channel_})); }
  // Nobody is in it, nor has left anything in it.
  bool is_empty() {
    return info("in_flight") == "0" && info("polling") == "0" && info("waiting") == "0" &&
           info("running") == "0";
  }

 private:
  // As Typhon.Worker does: tells Python what nobody waits for, and that whom it asks is gone.
  void own(ERL_NIF_TERM channel) {
    const ERL_NIF_TERM ref = owner_.ref();
    while (const auto message = owner_.receive([](ERL_NIF_TERM) { return true; }, kLimit)) {
      const ERL_NIF_TERM event = element(*message, 2);
      int arity = 0;
      const ERL_NIF_TERM* parts = nullptr;
      if (!enif_get_tuple(nullptr, event, &arity, &parts) || arity != 2) continue;
      ErlNifUInt64 id = 0;
      if (text_of(parts[0]) == "overdue" && enif_get_uint64(nullptr, parts[1], &id)) worker_->cancel(id);
      if (tag_of(parts[1]) != "ask") continue;
      const ERL_NIF_TERM tag = element(parts[1], 1);
      const bool statement = text_of(tag) == "0";
      const Quota::Of of = statement ? Quota::Of::kStatement : Quota::Of::kRefusal;
      if (!statement) {
        const auto told = owner_.call("tell", {owner_.atom("nil"), channel, owner_.number(0), ref,
                                               owner_.number(wire::kFailure), tag, owner_.atom("nil")});
        EXPECT_TRUE(!told || tag_of(*told) == "ok" || tag_of(*told) == "down") << text_of(*told);
      }
      owner_.call("channel_heard",
                  {channel, owner_.number(static_cast<std::uint64_t>(of)), owner_.number(1)});
    }
  }

  Process owner_;  // its thread's
  Process looker_;
  ERL_NIF_TERM pool_ = 0;
  ERL_NIF_TERM channel_ = 0;
  std::unique_ptr<Worker> worker_;
  std::thread owns_;
};

std::string expected(std::string_view function, std::uint64_t number) {
  return "{\"test\",\"" + std::string(function) + "\",[" + std::to_string(number) + "|[]],#{}}";
}

// One call to its end, as Typhon.Request makes it: the text of what came, or nothing when the process was
// killed. `asked` counts what its caller was asked and told.
std::optional<std::string> call(Process& process, Channel& channel, const char* function,
                                std::uint64_t number, int* asked = nullptr) {
  const ERL_NIF_TERM pool = channel.pool(process);
  const ERL_NIF_TERM ref = process.ref();
  const auto is_for_me = [ref](ERL_NIF_TERM message) { return enif_compare(element(message, 0), ref) == 0; };
  const auto submit = [&] {
    return process.call("call", {pool, ref, process.number(wire::kCall), process.binary("test"),
                                 process.binary(function), process.list({process.number(number)}),
                                 process.map({}), process.atom("infinity"), process.number(0)});
  };
  ERL_NIF_TERM where = 0;
  ERL_NIF_TERM id = 0;
  const auto answered = [&](ERL_NIF_TERM ask) -> std::optional<ERL_NIF_TERM> {
    if (asked) ++*asked;
    const ERL_NIF_TERM tag = element(ask, 1);
    if (text_of(tag) == "0") return process.call("next", {pool, where, id, ref});
    return process.call("tell",
                        {pool, where, id, ref, process.number(wire::kAnswer), tag, process.number(7)});
  };
  std::optional<ERL_NIF_TERM> event = submit();
  while (event) {
    const std::string tag = tag_of(*event);
    if (tag == "wait") {
      where = element(*event, 1);
      id = element(*event, 2);
      const auto message = process.receive(is_for_me, kLimit);
      EXPECT_TRUE(message || !process.alive()) << "nothing came for call " << number;
      event = message ? std::optional(element(*message, 1)) : std::nullopt;
    } else if (tag == "ask") {
      // Of a NIF: {ask, Where, Id, Left, Ask}; of a message it is the Ask itself.
      int arity = 0;
      const ERL_NIF_TERM* elements = nullptr;
      enif_get_tuple(nullptr, *event, &arity, &elements);
      if (arity == 5) {
        where = elements[1];
        id = elements[2];
      }
      event = answered(arity == 5 ? elements[4] : *event);
    } else if (tag == "room") {
      if (!process.receive(is_for_me, kLimit)) return std::nullopt;
      event = submit();
    } else if (tag == "segment") {
      event = process.call("decode", {element(*event, 1)});
    } else {
      return text_of(*event);
    }
  }
  return std::nullopt;
}

class NifTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { emulator = std::make_unique<Emulator>(nif_init()); }
  static void TearDownTestSuite() { emulator.reset(); }
  // What was made is gone again: the reader of a closed channel lets go of it last.
  void TearDown() override {
    EXPECT_TRUE(eventually([] { return Emulator::resources() == 0; })) << Emulator::resources();
  }

  static inline std::unique_ptr<Emulator> emulator;
};

TEST_F(NifTest, AnswersACall) {
  Channel channel;
  Process process;
  for (std::uint64_t i = 0; i < 100; ++i)
    EXPECT_EQ(call(process, channel, "echo", i), "{ok," + expected("echo", i) + "}");
  EXPECT_TRUE(channel.is_empty());
  EXPECT_EQ(process.messages(), 0U);
}

TEST_F(NifTest, LetsTheCallerAnswerWhatItIsAsked) {
  Channel channel;
  Process process;
  for (std::uint64_t i = 0; i < 100; ++i) {
    int asked = 0;
    EXPECT_EQ(call(process, channel, "asks and tells", i, &asked),
              "{ok," + expected("asks and tells", i) + "}");
    EXPECT_EQ(asked, 2);
  }
  EXPECT_TRUE(channel.is_empty());
}

TEST_F(NifTest, HandsOverWhatComesInASegment) {
  Channel channel;
  Process process;
  for (std::uint64_t i = 0; i < 20; ++i) {
    const std::string result = call(process, channel, "large", i).value_or("killed");
    EXPECT_EQ(result.substr(0, 6 + expected("large", i).size()), "{ok,[" + expected("large", i) + "|");
    EXPECT_GT(result.size(), std::size_t{100} << 10);
    process.collect();
  }
  // A message is sent before the slot of its call is free.
  EXPECT_TRUE(eventually([&] { return channel.is_empty(); })) << channel.info();
}

TEST_F(NifTest, GivesEachOfManyItsOwnAnswer) {
  Channel channel;
  const std::array<const char*, 4> functions = {"echo", "asks", "tells", "large"};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 12; ++t) {
    threads.emplace_back([&, t] {
      Process process;
      for (std::uint64_t i = 0; i < 1'000 / kStressDivisor; ++i) {
        // Mostly small ones: only they come to look for each other's.
        const char* const function = functions[i % 10 < 7 ? 0 : (i + t) % functions.size()];
        const std::string result = call(process, channel, function, t << 32 | i).value_or("killed");
        ASSERT_NE(result.find(expected(function, t << 32 | i)), std::string::npos) << result.substr(0, 200);
        process.collect();
      }
      EXPECT_EQ(process.messages(), 0U);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(channel.is_empty());
}

TEST_F(NifTest, MakesThoseWaitForWhomThereIsNoRoom) {
  Channel channel;
  const std::string large(10'000, 'x');
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 16; ++t) {
    threads.emplace_back([&, t] {
      Process process;
      for (std::uint64_t i = 0; i < 200 / kStressDivisor; ++i) {
        if (t == 0) channel.worker().stand_still(i % 2 == 0);
        const std::string result = call(process, channel, (large + "echo").c_str(), i).value_or("killed");
        ASSERT_NE(result.find(",[" + std::to_string(i) + "|"), std::string::npos);
        process.collect();
        if (t == 0) channel.worker().stand_still(false);
      }
    });
  }
  // Whoever stands it still waits for it himself.
  std::atomic<bool> ended{false};
  std::thread goes_on([&] {
    while (!ended.load()) {
      channel.worker().stand_still(false);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  for (std::thread& thread : threads) thread.join();
  ended.store(true);
  goes_on.join();
  EXPECT_TRUE(channel.is_empty());
}

// A process at a time, which others may kill.
class Victim {
 public:
  std::shared_ptr<Process> next() {
    const auto process = std::make_shared<Process>();
    const std::lock_guard lock(mutex_);
    now_ = process;
    return process;
  }
  void kill() {
    std::shared_ptr<Process> process;
    {
      const std::lock_guard lock(mutex_);
      process = now_.lock();
    }
    if (process) process->kill();
  }

 private:
  std::mutex mutex_;
  std::weak_ptr<Process> now_;
};

// Too much for a turn: its NIF goes to a dirty scheduler, where a caller may be killed in the middle.
const std::string kDirty(std::size_t{300} << 10, 'd');

// Callers that are killed at any moment, each replaced by a new one. `end`: what happens when that has gone
// on for a while.
void kill_callers(Channel& channel, std::uint64_t seed, const std::function<void()>& end) {
  std::atomic<bool> stop{false};
  std::array<Victim, 12> victims;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < victims.size(); ++t) {
    threads.emplace_back([&, t] {
      Random random(seed * 100 + t);
      const std::array<const char*, 7> functions = {"echo",  "echo",  "echo",        "asks",
                                                    "tells", "large", kDirty.c_str()};
      while (!stop.load()) {
        const std::shared_ptr<Process> process = victims[t].next();
        while (process->alive() && !stop.load()) {
          const char* const function = functions[random.below(functions.size())];
          const std::uint64_t number = random.next() >> 8;
          const std::optional<std::string> result = call(*process, channel, function, number);
          if (!result) break;
          const bool is_mine = result->find(expected(function, number)) != std::string::npos;
          EXPECT_TRUE(is_mine || result->starts_with("{down,") || result->starts_with("{not_started,") ||
                      *result == "no_worker")
              << result->substr(0, 200);
          process->collect();
        }
      }
    });
  }
  Random random(seed);
  for (std::uint64_t i = 0; i < 2'000 / kStressDivisor; ++i) {
    victims[random.below(victims.size())].kill();
    if (random.below(4) == 0) std::this_thread::sleep_for(std::chrono::microseconds(random.below(300)));
  }
  end();
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
}

TEST_F(NifTest, ForgetsCallersThatAreKilled) {
  Channel channel;
  kill_callers(channel, 1, [] {});
  EXPECT_TRUE(eventually([&] { return channel.is_empty(); })) << channel.info();
  // What was released is found when the next segment is wanted: then there is that one alone, as in a new
  // channel.
  Channel fresh;
  Process process;
  for (Channel* const each : {&channel, &fresh}) EXPECT_TRUE(call(process, *each, kDirty.c_str(), 1));
  EXPECT_EQ(channel.info("request_arena"), fresh.info("request_arena"));
}

TEST_F(NifTest, TellsEverybodyWhenItIsClosed) {
  for (std::uint64_t round = 0; round < 40 / kStressDivisor; ++round) {
    Channel channel;
    kill_callers(channel, round + 2, [&] { channel.close(); });
    EXPECT_TRUE(eventually([&] { return channel.is_empty() && channel.info("settled") == "true"; }))
        << channel.info();
  }
}

// The reader thread is gone by the time at which they would have looked again.
TEST_F(NifTest, ForgetsThoseWhoWereKilledWhileItWasClosed) {
  for (std::uint64_t round = 0; round < 400 / kStressDivisor; ++round) {
    Channel channel;
    std::vector<std::unique_ptr<Process>> processes;
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) processes.push_back(std::make_unique<Process>());
    for (const auto& process : processes) {
      threads.emplace_back([&] {
        for (std::uint64_t i = 0; process->alive() && i < 1'000; ++i) {
          const auto result = call(*process, channel, "echo", i);
          if (!result || !result->starts_with("{ok,")) break;
          process->collect();
        }
      });
    }
    std::this_thread::sleep_for(std::chrono::microseconds(Random(round).below(3'000)));
    channel.close();
    for (const auto& process : processes) process->kill();
    for (std::thread& thread : threads) thread.join();
    EXPECT_TRUE(eventually([&] { return channel.is_empty(); })) << channel.info();
  }
}

// The answer comes, or it does not: never both, and never neither.
TEST_F(NifTest, GivesUpOrHasTheAnswer) {
  Channel channel;
  std::atomic<int> cancelled{0};
  std::atomic<int> delivered{0};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      Process process;
      for (std::uint64_t i = 0; i < 2'000 / kStressDivisor; ++i) {
        process.collect();
        const ERL_NIF_TERM pool = channel.pool(process);
        const ERL_NIF_TERM event =
            *process.call("call", {pool, process.ref(), process.number(wire::kCall), process.binary("test"),
                                   process.binary("echo"), process.list({process.number(t << 32 | i)}),
                                   process.map({}), process.number(60'000), process.number(0)});
        // What was given up still lies in the ring.
        ASSERT_TRUE(tag_of(event) != "room" || process.receive([](ERL_NIF_TERM) { return true; }, kLimit));
        if (tag_of(event) != "wait") continue;
        const std::string outcome =
            tag_of(*process.call("cancel", {pool, element(event, 1), element(event, 2)}));
        const bool given_up = outcome == "cancelled" || outcome == "not_started";
        (given_up ? cancelled : delivered).fetch_add(1);
        if (outcome == "delivered") {
          const auto late = process.receive([](ERL_NIF_TERM) { return true; }, kLimit);
          ASSERT_TRUE(late);
          EXPECT_NE(text_of(*late).find("{ok," + expected("echo", t << 32 | i)), std::string::npos)
              << text_of(*late);
        }
      }
      EXPECT_EQ(process.messages(), 0U);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(eventually([&] { return channel.is_empty(); })) << channel.info();
  RecordProperty("cancelled", cancelled.load());
  RecordProperty("delivered", delivered.load());
}

TEST_F(NifTest, TakesCastsWhileCallersCome) {
  Channel channel;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      Process process;
      const ERL_NIF_TERM ref = process.ref();
      for (std::uint64_t i = 0; i < 1'000 / kStressDivisor; ++i) {
        for (;;) {
          const ERL_NIF_TERM event = *process.call(
              "call", {channel.pool(process), ref, process.number(wire::kCast), process.binary("test"),
                       process.binary("cast"), process.list({process.number(i)}), process.map({}),
                       process.atom("infinity"), process.number(0)});
          if (tag_of(event) != "room") {
            ASSERT_EQ(text_of(event), "ok");
            break;
          }
          ASSERT_TRUE(process.receive([](ERL_NIF_TERM) { return true; }, kLimit));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(eventually([&] { return channel.worker().casts() == 4 * (1'000 / kStressDivisor); }));
  EXPECT_TRUE(eventually([&] { return channel.is_empty() && channel.info("busy") == "false"; }));
}

}  // namespace
}  // namespace typhon::beam

// Whole Pythons in this process, and what goes in and out of them: the messages of the socket, the channel's
// memory, the control pipe, the output (docs/internals.md, "An interpreter inside the BEAM"). This test is in
// the place of the BEAM.
//
// A process has few namespaces and gets none back: the interpreters are shared by the tests.
#include "embed/namespace.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "channel/doorbell.h"
#include "channel/region.h"
#include "channel/ring.h"
#include "etf/sink.h"
#include "etf/writer.h"
#include "os/clock.h"
#include "os/descriptor.h"
#include "os/thread.h"
#include "os/wait.h"

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace typhon::embed {
namespace {

// A reply that does not come is a failure, not a test that hangs; under valgrind Python is slow.
constexpr int kPatienceMs = 900'000;
constexpr int kSignal = 35;

// A build without sanitizers: see CMakeLists.txt.
std::string inside(const char* file) {
  const char* build = std::getenv("TYPHON_INSIDE");
  return std::string(build ? build : TYPHON_INSIDE) + file;
}

NamespaceSpec spec() {
  NamespaceSpec made;
  made.libpython = TYPHON_LIBPYTHON;
  made.bridge = inside("/native/embed/typhon_bridge.so");
  made.guard = inside("/native/embed/typhon_guard.so");
  made.program = TYPHON_PYTHON;
  made.package = inside("/python");
  for (char** variable = environ; *variable != nullptr; ++variable) made.environment.emplace_back(*variable);
  return made;
}

// scripts/valgrind gives each interpreter files of its own: valgrind knows the symbols of a file in one
// place.
NamespaceSpec spec_of_interpreter(int number) {
  NamespaceSpec made = spec();
  if (const char* copies = std::getenv("TYPHON_NAMESPACES")) {
    const std::string folder = std::string(copies) + "/" + std::to_string(number);
    made.libpython = folder + "/python.so";
    made.bridge = folder + "/typhon_bridge.so";
    made.package = folder + "/python";
  }
  return made;
}

std::string text_of(const etf::HeapSink& sink) {
  return {reinterpret_cast<const char*>(sink.data), sink.size};
}

// {"ended", Code, Clean}
std::string ended(std::int64_t code, bool clean) {
  etf::HeapSink sink;
  etf::Writer writer(sink);
  writer.version();
  writer.tuple_header(3);
  writer.binary("ended");
  writer.integer(code);
  writer.known_atom(clean ? "true" : "false");
  return text_of(sink);
}

std::string integer(std::int64_t value) {
  etf::HeapSink sink;
  etf::Writer writer(sink);
  writer.version();
  writer.integer(value);
  return text_of(sink);
}

bool readable(int fd) {
  pollfd wanted{fd, POLLIN, 0};
  return ::poll(&wanted, 1, kPatienceMs) == 1;
}

// One message of a socket, or what a pipe has; empty at its end, and after too long a time.
std::string read_from(int fd) {
  std::string bytes(64 * 1024, '\0');
  const ssize_t count = readable(fd) ? ::read(fd, bytes.data(), bytes.size()) : -1;
  bytes.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return bytes;
}

std::string read_to_the_end(int fd) {
  std::string all;
  for (std::string more = read_from(fd); !more.empty(); more = read_from(fd)) all += more;
  return all;
}

template <std::size_t N>
bool send_with(int socket, std::string message, const std::array<int, N>& fds) {
  iovec part{message.data(), message.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fds)] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof fds);
  std::memcpy(CMSG_DATA(rights), fds.data(), sizeof fds);
  const bool sent = ::sendmsg(socket, &header, MSG_NOSIGNAL) == static_cast<ssize_t>(message.size());
  EXPECT_TRUE(sent) << std::strerror(errno);
  return sent;
}

struct Pipe {
  os::UniqueFd reads;
  os::UniqueFd writes;
  Pipe() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(0, ::pipe2(ends, O_CLOEXEC));
    reads.reset(ends[0]);
    writes.reset(ends[1]);
  }
};

struct Frame {
  channel::Kind kind{};
  std::uint64_t id = 0;
  std::string body;
};

// A worker in an interpreter, from its job to its end: calls go by the channel, as the BEAM makes them.
class Job {
 public:
  // `memory` in place of the channel's own, to see what a worker makes of it
  explicit Job(int socket, int memory = -1, int signal = kSignal) : socket_(socket), region_(make_region()) {
    etf::HeapSink sink;
    etf::Writer writer(sink);
    writer.version();
    writer.map_header(4);
    writer.binary("environment");
    writer.map_header(1);
    writer.binary("TYPHON_JOB");
    writer.binary("yes");
    writer.binary("cd");
    writer.binary("/");
    writer.binary("python_path");
    writer.nil();
    writer.binary("settings");
    writer.map_header(1);
    writer.binary("signal");
    writer.integer(signal);
    sent_ = send_with(
        socket_, text_of(sink),
        std::array<int, 3>{memory >= 0 ? memory : region_->fd(), control_.reads.get(), output_.writes.get()});
    control_.reads.reset();
    output_.writes.reset();
  }

  // The next frame; a kind that there is not when none comes.
  Frame next() {
    channel::FrameHeader header{};
    std::span<const std::uint8_t> body;
    auto& word = region_->header().reader_word.value;
    const std::uint64_t until = os::monotonic_ns() + std::uint64_t{kPatienceMs} * 1'000'000;
    if (!sent_) return {};
    while (replies_.peek(header, body) != channel::RingConsumer::State::kFrame) {
      if (os::monotonic_ns() > until) return {};
      // As the reader thread sleeps: say so, look again, wait.
      word.store(channel::kAsleep);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      if (replies_.empty()) os::wait_word(word, channel::kAsleep, 1'000'000'000);
      word.store(channel::kAwake);
    }
    Frame frame{header.kind, header.id, {reinterpret_cast<const char*>(body.data()), body.size()}};
    replies_.pop();
    return frame;
  }

  // Publishes a call of `module`.`function`; `write_args` writes the list of its arguments. Its id.
  template <class WriteArgs>
  std::uint64_t start(const char* module, const char* function, WriteArgs write_args) {
    etf::HeapSink sink;
    etf::Writer writer(sink);
    writer.version();
    writer.tuple_header(4);
    writer.binary(module);
    writer.binary(function);
    write_args(writer);
    writer.map_header(0);

    channel::FrameHeader header{};
    header.size = static_cast<std::uint32_t>(sizeof header + sink.size);
    header.kind = channel::Kind::kCall;
    header.id = ++calls_;
    std::uint8_t* place = requests_.reserve(channel::align8(header.size));
    EXPECT_NE(nullptr, place);
    if (place == nullptr) return 0;
    std::memcpy(place, &header, sizeof header);
    std::memcpy(place + sizeof header, sink.data, sink.size);
    requests_.commit(header.size);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    channel::wake_from(region_->header().worker_word.value, channel::kAsleep);
    return calls_;
  }

  // A call with integers, and what answers it.
  Frame call(const char* module, const char* function, std::initializer_list<std::int64_t> args) {
    const std::uint64_t id = start(module, function, [&](etf::Writer& writer) {
      if (args.size() != 0) writer.list_header(args.size());
      for (const std::int64_t arg : args) writer.integer(arg);
      writer.nil();
    });
    Frame answer = next();
    EXPECT_EQ(id, answer.id);
    return answer;
  }

  // As the BEAM does at a call's deadline.
  void interrupt(std::uint64_t id) const {
    const std::string command = "C" + std::to_string(id) + "\n";
    EXPECT_EQ(static_cast<ssize_t>(command.size()),
              ::write(control_.writes.get(), command.data(), command.size()));
  }

  // As a worker is told to end: the last end of its control pipe goes.
  std::string end() {
    control_.writes.reset();
    if (!sent_) return {};
    printed_ = read_to_the_end(output_.reads.get());
    return read_from(socket_);
  }
  [[nodiscard]] const std::string& printed() const { return printed_; }

 private:
  static std::unique_ptr<channel::Region> make_region() {
    channel::RegionOptions options;
    options.ring_size = channel::kMinRing;
    options.arena_size = 1 << 20;
    auto made = channel::Region::create(options);
    EXPECT_TRUE(made.ok());
    return std::move(made).value();
  }

  int socket_;
  bool sent_ = false;
  Pipe control_;
  Pipe output_;
  std::unique_ptr<channel::Region> region_;
  channel::RingProducer requests_{region_->request_ring(), region_->ring_size(),
                                  region_->header().request_tail.value, region_->header().request_head.value};
  channel::RingConsumer replies_{region_->reply_ring(), region_->ring_size(),
                                 region_->header().reply_tail.value, region_->header().reply_head.value};
  std::uint64_t calls_ = 0;
  std::string printed_;
};

// An interpreter for the life of the process.
class Interpreter {
 public:
  explicit Interpreter(int number) {
    int ends[2] = {-1, -1};
    EXPECT_EQ(0, ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
    ours_.reset(ends[0]);
    const os::UniqueFd theirs(ends[1]);
    const Status started = start_namespace(spec_of_interpreter(number), theirs.get());
    EXPECT_TRUE(started.ok()) << (started.ok() ? "" : started.error().message);
    if (started.ok()) greeting_ = read_from(ours_.get());
  }
  [[nodiscard]] int socket() const { return ours_.get(); }
  [[nodiscard]] const std::string& greeting() const { return greeting_; }

 private:
  os::UniqueFd ours_;
  std::string greeting_;
};

// The process has a second thread of its own, as the BEAM has many. A libc that has started none takes the
// loader's lock without atomic operations and gives it back without a wake-up; but threads of the namespaces,
// which it does not know of, wait for that lock.
class SecondThread : public ::testing::Environment {
  void SetUp() override {
    ASSERT_EQ(0, os::start_thread(
                     [](void*) -> void* {
                       for (;;) ::pause();
                     },
                     nullptr, std::size_t{64} * 1024));
  }
};
const ::testing::Environment* const second_thread =
    ::testing::AddGlobalTestEnvironment(new SecondThread);  // NOLINT(bugprone-unhandled-exception-at-new)

class Namespace : public ::testing::Test {
 protected:
  static Interpreter& first() {
    static Interpreter interpreter(1);
    return interpreter;
  }
  static Interpreter& second() {
    static Interpreter interpreter(2);
    return interpreter;
  }
};

bool holds(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// Each libc counts its keys for itself, and all of them keep what they hold in the same place of a thread.
TEST_F(Namespace, LeavesAThreadsValuesAlone) {
  std::array<pthread_key_t, 64> keys{};
  std::array<int, keys.size()> values{};
  for (std::size_t i = 0; i < keys.size(); ++i) {
    ASSERT_EQ(0, ::pthread_key_create(&keys[i], nullptr));
    // Of some the thread has nothing, and is to have nothing.
    if (i % 2 == 0) {
      ASSERT_EQ(0, ::pthread_setspecific(keys[i], &values[i]));
    }
  }
  NamespaceSpec wrong = spec();
  wrong.bridge = "/nonexistent/bridge.so";
  EXPECT_FALSE(start_namespace(wrong, -1).ok());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(i % 2 == 0 ? &values[i] : nullptr, ::pthread_getspecific(keys[i])) << i;
    ::pthread_key_delete(keys[i]);
  }
}

TEST_F(Namespace, RefusesALibraryThatIsMissing) {
  NamespaceSpec wrong = spec();
  wrong.libpython = "/nonexistent/libpython3.99.so";
  const Status started = start_namespace(wrong, -1);
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(Code::kSystem, started.error().code);
  EXPECT_TRUE(holds(started.error().message, "a namespace for Python: ")) << started.error().message;
  EXPECT_TRUE(holds(started.error().message, "libpython3.99.so")) << started.error().message;
}

TEST_F(Namespace, RefusesABridgeThatIsMissing) {
  NamespaceSpec wrong = spec();
  wrong.bridge = "/nonexistent/typhon_bridge.so";
  const Status started = start_namespace(wrong, -1);
  ASSERT_FALSE(started.ok());
  EXPECT_TRUE(holds(started.error().message, "typhon_bridge: /nonexistent")) << started.error().message;
}

TEST_F(Namespace, RefusesABridgeWithoutItsSymbol) {
  NamespaceSpec wrong = spec();
  wrong.bridge = "libm.so.6";
  const Status started = start_namespace(wrong, -1);
  ASSERT_FALSE(started.ok());
  EXPECT_TRUE(holds(started.error().message, "typhon_bridge_start: ")) << started.error().message;
}

// Its thread cannot take a descriptor that there is not.
TEST_F(Namespace, RefusesASocketThatIsClosed) {
  const Status started = start_namespace(spec_of_interpreter(3), 1'000'000);
  ASSERT_FALSE(started.ok());
  EXPECT_TRUE(holds(started.error().message, std::strerror(EBADF))) << started.error().message;
}

// What was refused has its namespace no longer: there are 15.
TEST_F(Namespace, GivesTheNamespaceBackWhenItRefuses) {
  NamespaceSpec wrong = spec();
  wrong.bridge = "libm.so.6";
  for (int i = 0; i < 20; ++i) {
    const Status started = start_namespace(wrong, -1);
    ASSERT_FALSE(started.ok());
    ASSERT_TRUE(holds(started.error().message, "typhon_bridge_start: ")) << i << started.error().message;
  }
}

TEST_F(Namespace, GreetsWithItsVersion) {
  EXPECT_TRUE(holds(first().greeting(), "ready"));
  EXPECT_TRUE(holds(first().greeting(), TYPHON_PYTHON));
}

TEST_F(Namespace, ServesCalls) {
  Job job(first().socket());
  const Frame ready = job.next();
  EXPECT_EQ(channel::Kind::kReady, ready.kind);
  EXPECT_TRUE(holds(ready.body, "version"));
  EXPECT_EQ(integer(5), job.call("operator", "add", {2, 3}).body);
  EXPECT_EQ(integer(42), job.call("operator", "mul", {6, 7}).body);
  EXPECT_EQ(ended(0, true), job.end());
  EXPECT_EQ("", job.printed());
}

TEST_F(Namespace, ServesOneJobAfterTheOther) {
  for (int i = 0; i < 3; ++i) {
    Job job(first().socket());
    ASSERT_EQ(channel::Kind::kReady, job.next().kind);
    EXPECT_EQ(integer(i), job.call("operator", "add", {i, 0}).body);
    EXPECT_EQ(ended(0, true), job.end());
  }
}

TEST_F(Namespace, CarriesValuesOfEachKind) {
  // What comes back is in the form it was sent in.
  etf::HeapSink sink;
  etf::Writer term(sink);
  const std::string text(20'000, 'x');
  term.list_header(6);
  term.map_header(2);
  term.binary("key");
  term.floating(0.5);
  term.integer(-1);
  term.known_atom("nil");
  const std::array<std::uint8_t, 20> magnitude{1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                               11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
  term.big(true, magnitude);
  term.tuple_header(2);
  term.known_atom("an_atom");
  term.known_atom("true");
  term.nil();
  term.binary("gr\u00fc\u00df dich");
  term.integer(std::int64_t{1} << 40);
  term.nil();
  Job job(first().socket());
  EXPECT_EQ(channel::Kind::kReady, job.next().kind);
  for (int i = 0; i < 3; ++i) {
    job.start("copy", "deepcopy", [&](etf::Writer& writer) {
      writer.list_header(1);
      writer.raw(sink.bytes());
      writer.nil();
    });
    const Frame same = job.next();
    EXPECT_EQ(channel::Kind::kReply, same.kind);
    EXPECT_EQ("\x83" + text_of(sink), same.body);
  }
  // Larger than what goes into the ring: the body says where in the arena.
  job.start("builtins", "str", [&](etf::Writer& writer) {
    writer.list_header(1);
    writer.binary(text);
    writer.nil();
  });
  EXPECT_EQ(sizeof(channel::SegmentRef), job.next().body.size());
  EXPECT_EQ(ended(0, true), job.end());
}

TEST_F(Namespace, InterruptsACall) {
  Job job(first().socket());
  EXPECT_EQ(channel::Kind::kReady, job.next().kind);
  const std::uint64_t id = job.start("time", "sleep", [](etf::Writer& writer) {
    writer.list_header(1);
    writer.integer(kPatienceMs);
    writer.nil();
  });
  job.interrupt(id);
  const Frame interrupted = job.next();
  EXPECT_EQ(channel::Kind::kError, interrupted.kind);
  EXPECT_EQ(id, interrupted.id);
  // The second when Python had not begun with it.
  EXPECT_TRUE(holds(interrupted.body, "cancelled") || holds(interrupted.body, "expired")) << interrupted.body;
  EXPECT_EQ(integer(5), job.call("operator", "add", {2, 3}).body);
  EXPECT_EQ(ended(0, true), job.end());
}

// A descriptor of this process is none of its own, whatever it does to that number.
TEST_F(Namespace, CannotCloseADescriptorOfTheProcess) {
  const Pipe pipe;
  const int number = ::fcntl(pipe.reads.get(), F_DUPFD_CLOEXEC, 500);
  const os::UniqueFd ours(number);
  ASSERT_GE(number, 500);
  Job job(first().socket());
  EXPECT_EQ(channel::Kind::kReady, job.next().kind);
  const Frame refused = job.call("os", "close", {number});
  EXPECT_EQ(channel::Kind::kError, refused.kind);
  EXPECT_TRUE(holds(refused.body, "Bad file descriptor")) << refused.body;
  EXPECT_NE(-1, ::fcntl(number, F_GETFD));
  EXPECT_EQ(ended(0, true), job.end());
}

TEST_F(Namespace, TwoServeAtOnce) {
  Job one(first().socket());
  Job two(second().socket());
  EXPECT_EQ(channel::Kind::kReady, one.next().kind);
  EXPECT_EQ(channel::Kind::kReady, two.next().kind);
  // What one sets the other does not see.
  one.call("sys", "setrecursionlimit", {1234});
  EXPECT_EQ(integer(1234), one.call("sys", "getrecursionlimit", {}).body);
  EXPECT_NE(integer(1234), two.call("sys", "getrecursionlimit", {}).body);
  EXPECT_EQ(ended(0, true), two.end());
  EXPECT_EQ(integer(3), one.call("operator", "add", {1, 2}).body);
  EXPECT_EQ(ended(0, true), one.end());
}

// The next job is served, whatever the last one was.
TEST_F(Namespace, RefusesMemoryThatIsNoChannel) {
  const os::UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  Job wrong(first().socket(), null.get());
  EXPECT_EQ(ended(98, true), wrong.end());
  EXPECT_TRUE(holds(wrong.printed(), "typhon: ")) << wrong.printed();
  Job job(first().socket());
  EXPECT_EQ(channel::Kind::kReady, job.next().kind);
  EXPECT_EQ(integer(5), job.call("operator", "add", {2, 3}).body);
  EXPECT_EQ(ended(0, true), job.end());
}

// --- a host of sub-interpreters ---

bool has_subinterpreters() {
  const std::string_view library = TYPHON_LIBPYTHON;
  return !holds(library, "libpython3.11");
}

// What comes by the socket of a sub-interpreter that the host is told to start.
os::UniqueFd spawn(int host) {
  int ends[2] = {-1, -1};
  EXPECT_EQ(0, ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
  const os::UniqueFd theirs(ends[1]);
  send_with(host, std::string(1, '\0'), std::array<int, 1>{theirs.get()});
  return os::UniqueFd(ends[0]);
}

class Host : public ::testing::Test {
 protected:
  static int socket() {
    static const os::UniqueFd ours = [] {
      int ends[2] = {-1, -1};
      EXPECT_EQ(0, ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
      const os::UniqueFd theirs(ends[1]);
      NamespaceSpec made = spec_of_interpreter(4);
      made.host = true;
      const Status started = start_namespace(made, theirs.get());
      EXPECT_TRUE(started.ok()) << (started.ok() ? "" : started.error().message);
      return os::UniqueFd(ends[0]);
    }();
    return ours.get();
  }
};

TEST_F(Host, SaysThatAnOldPythonHasNoInterpreters) {
  if (has_subinterpreters()) return;
  EXPECT_TRUE(holds(read_from(socket()), "older than 3.12"));
  EXPECT_EQ("", read_from(socket()));
}

TEST_F(Host, RunsJobsInSeveralAtOnce) {
  if (!has_subinterpreters()) return;
  const os::UniqueFd first = spawn(socket());
  const os::UniqueFd second = spawn(socket());
  EXPECT_TRUE(holds(read_from(first.get()), "ready"));
  EXPECT_TRUE(holds(read_from(second.get()), "ready"));
  for (int i = 0; i < 2; ++i) {
    Job here(first.get(), -1, 0);
    Job there(second.get(), -1, 0);
    ASSERT_EQ(channel::Kind::kReady, here.next().kind);
    ASSERT_EQ(channel::Kind::kReady, there.next().kind);
    EXPECT_EQ(integer(5), here.call("operator", "add", {2, 3}).body);
    EXPECT_EQ(integer(7), there.call("operator", "add", {3, 4}).body);
    EXPECT_EQ(ended(0, true), here.end());
    EXPECT_EQ(ended(0, true), there.end());
  }
}

TEST_F(Host, InterruptsACallWithoutASignal) {
  if (!has_subinterpreters()) return;
  const os::UniqueFd interpreter = spawn(socket());
  EXPECT_TRUE(holds(read_from(interpreter.get()), "ready"));
  Job job(interpreter.get(), -1, 0);
  ASSERT_EQ(channel::Kind::kReady, job.next().kind);
  const std::uint64_t id = job.start("time", "sleep", [](etf::Writer& writer) {
    writer.list_header(1);
    writer.integer(600);
    writer.nil();
  });
  job.interrupt(id);
  const Frame answer = job.next();
  EXPECT_EQ(channel::Kind::kError, answer.kind);
  EXPECT_EQ(id, answer.id);
  EXPECT_EQ(integer(5), job.call("operator", "add", {2, 3}).body);
  EXPECT_EQ(ended(0, true), job.end());
}

TEST_F(Host, IgnoresMessagesThatBringNothing) {
  if (!has_subinterpreters()) return;
  EXPECT_EQ(3, ::send(socket(), "abc", 3, MSG_NOSIGNAL));
  const os::UniqueFd interpreter = spawn(socket());
  EXPECT_TRUE(holds(read_from(interpreter.get()), "ready"));
}

}  // namespace
}  // namespace typhon::embed

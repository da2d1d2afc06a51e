// Arbitrary bytes through the Ruby codec: the first says in which dialect, the others follow the version
// byte.
//
// What decodes can be encoded, or is refused with Typhon's EncodeError; what was encoded is a term, which
// decodes again (or is refused: bytes that are no text come back as a binary) and is then as long as before.
// Nothing but Typhon's errors comes of any bytes. Marshal stays closed in the dialect of ErlPort: it would
// make what they say. Now and then the collector runs at each allocation, in a short term.
#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <string>

#include "etf/skip.h"
#include "etf/tags.h"
#include "fuzz/check.h"
#include "ruby/codec.h"

// Ruby looks for objects on the whole stack, which is what the sanitizer is to leave where it is.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "detect_leaks=0:detect_stack_use_after_return=0"; }
extern "C" void* __libc_stack_end;
extern "C" void Init_typhon_native();

namespace {

using namespace typhon;
using namespace typhon::ruby;

void refused(VALUE error, int state, VALUE type) {
  CHECK(state == 0);
  if (!RTEST(rb_obj_is_kind_of(error, type))) {
    rb_set_errinfo(error);
    ruby_cleanup(1);  // says what it was
    CHECK(false);
  }
  rb_set_errinfo(Qnil);
}

bool read(std::span<const std::uint8_t> bytes, const Options& options, VALUE& value) {
  const Decoded decoded = decode(bytes, options);
  value = decoded.value;
  if (value == Qundef) refused(decoded.error, decoded.state, names().decode_error);
  return value != Qundef;
}

bool write(VALUE value, etf::HeapSink& sink, const Options& options) {
  const Encoded encoded = encode(value, sink, options);
  if (!encoded.ok) {
    CHECK(sink.size == 0);
    refused(encoded.error, encoded.state, names().encode_error);
    return false;
  }
  const etf::Outcome outcome = etf::skip(sink.bytes(), {});
  CHECK(outcome.ok() && outcome.used == sink.size);
  return true;
}

void run(const char* code) {
  int state = 0;
  rb_eval_string_protect(code, &state);
  if (state == 0) return;
  ruby_cleanup(state);
  CHECK(false);
}

void stress(bool on) { run(on ? "GC.stress = true" : "GC.stress = false"); }

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  ::setenv("TYPHON_ERLPORT_UNPICKLE", "0", 1);
  // Ruby takes the signals that the fuzzer and the sanitizer listen to.
  constexpr int kSignals[] = {SIGALRM, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGINT, SIGTERM};
  struct sigaction before[std::size(kSignals)];
  for (std::size_t i = 0; i < std::size(kSignals); ++i) ::sigaction(kSignals[i], nullptr, &before[i]);
  ruby_sysinit(argc, argv);
  ruby_init_stack(static_cast<VALUE*>(__libc_stack_end));
  ruby_init();
  // Loads what of Ruby is written in Ruby.
  char arguments[3][5] = {"ruby", "-e", ""};
  char* list[] = {arguments[0], arguments[1], arguments[2], nullptr};
  int status = 0;
  CHECK(ruby_executable_node(ruby_options(3, list), &status) != 0);
  run("$LOAD_PATH.unshift('" TYPHON_SOURCE_DIR "/ruby', '" TYPHON_SOURCE_DIR
      "/compat/erlport/priv/ruby'); require 'rbconfig'; require 'bigdecimal'; require 'date'; require 'set'");
  // The extension is in this program, and not where the Ruby side looks for it.
  run("begin; require 'typhon'; rescue LoadError; $LOADED_FEATURES << '" TYPHON_SOURCE_DIR
      "/ruby/typhon.rb'; end");
  Init_typhon_native();
  run("require 'erlport/erlterms'");
  for (std::size_t i = 0; i < std::size(kSignals); ++i) ::sigaction(kSignals[i], &before[i], nullptr);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kShort = 64;
  if (size == 0) return 0;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  bytes[0] = static_cast<char>(etf::kVersion);
  Options options;
  if ((data[0] & 1) != 0) options.dialect = Dialect::kErlport;
  const bool collects = data[0] >= 0xe0 && size < kShort;
  if (collects) stress(true);
  VALUE value = Qundef;
  VALUE again = Qundef;
  etf::HeapSink first;
  etf::HeapSink second;
  if (read({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, options, value) &&
      write(value, first, options) && read(first.bytes(), options, again)) {
    CHECK(write(again, second, options));
    CHECK(second.size == first.size);
  }
  RB_GC_GUARD(value);
  RB_GC_GUARD(again);
  if (collects) stress(false);
  return 0;
}

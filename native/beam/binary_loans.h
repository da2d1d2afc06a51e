// BinaryLoans: large binaries of the BEAM that a Python in this VM reads in place; and the resource by which
// the BEAM reads memory of such a Python.
//
// Each loan has an environment of its own that holds the binary (a copy of the term: another reference to the
// same bytes). When Python has given a loan back, a thread of its own frees it: neither a scheduler,
// which could be long about giving back 64 MiB to the system, nor a thread of Python's, which must not run
// the BEAM's code. One for the VM: loans outlive calls, channels and pools.
//
// Threads: lend() and discard() from any; the rest says so.
#pragma once

#include "beam/nif.h"
#include "channel/loan.h"

namespace typhon::beam {

class WorkerChannel;

struct BinaryLoan : channel::Loan {
  ErlNifEnv* env;
  WorkerChannel* channel;  // kept: it counts what is out
};

// Memory of Python's that a binary of the BEAM lies in; a resource.
struct Borrowed {
  channel::Loan* loan;     // held
  WorkerChannel* channel;  // kept, for the same reason
};

class BinaryLoans {
 public:
  BinaryLoans() noexcept = default;
  BinaryLoans(const BinaryLoans&) = delete;
  BinaryLoans& operator=(const BinaryLoans&) = delete;
  ~BinaryLoans() = default;

  // nullptr: no memory. The loan has one holder, the frame that it is for.
  BinaryLoan* lend(ERL_NIF_TERM binary, WorkerChannel& channel) noexcept;
  // A chain that was never sent.
  void discard(channel::Loan* first) noexcept;

  // Starts the thread if it does not run. Under the emulator's own lock: load, upgrade, or with `opening_`.
  bool ensure_thread() noexcept;
  // False: it did not run.
  bool stop_thread() noexcept;

  [[nodiscard]] const channel::LoanBox& box() const noexcept { return box_; }

 private:
  static void* thread_main(void* self) noexcept;
  void free(BinaryLoan* loan) noexcept;
  void collect() noexcept;

  channel::LoanBox box_;
  Mutex opening_{"typhon.binary_loans"};
  bool runs_ TYPHON_GUARDED_BY(opening_) = false;
  ErlNifTid thread_ TYPHON_GUARDED_BY(opening_){};
};

}  // namespace typhon::beam

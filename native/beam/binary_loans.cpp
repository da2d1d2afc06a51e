#include "beam/binary_loans.h"

#include <new>

#include "beam/worker_channel.h"

namespace typhon::beam {

BinaryLoan* BinaryLoans::lend(ERL_NIF_TERM binary, WorkerChannel& channel) noexcept {
  auto* loan = new (std::nothrow) BinaryLoan{};
  ErlNifEnv* env = loan ? enif_alloc_env() : nullptr;
  if (!env) {
    delete loan;
    return nullptr;
  }
  // Looked at in its own environment: one that is still being appended to is fixed by the copy.
  ErlNifBinary bytes;
  if (!enif_inspect_binary(env, enif_make_copy(env, binary), &bytes)) {
    enif_free_env(env);
    delete loan;
    return nullptr;
  }
  loan->holders.store(1, std::memory_order_relaxed);
  loan->home = &box_;
  loan->data = bytes.data;
  loan->size = bytes.size;
  loan->env = env;
  loan->channel = &channel;
  enif_keep_resource(&channel);
  box_.out.add(loan->size);
  channel.lent().add(loan->size);
  return loan;
}

void BinaryLoans::free(BinaryLoan* loan) noexcept {
  box_.out.remove(loan->size);
  loan->channel->lent().remove(loan->size);
  enif_free_env(loan->env);
  enif_release_resource(loan->channel);
  delete loan;
}

void BinaryLoans::discard(channel::Loan* first) noexcept {
  while (first) free(static_cast<BinaryLoan*>(std::exchange(first, first->next)));
}

void BinaryLoans::collect() noexcept { discard(box_.collect()); }

bool BinaryLoans::ensure_thread() noexcept {
  const Lock lock(opening_);
  if (runs_) return true;
  box_.start();
  char name[] = "typhon_lender";
  runs_ = enif_thread_create(name, &thread_, &BinaryLoans::thread_main, this, nullptr) == 0;
  return runs_;
}

bool BinaryLoans::stop_thread() noexcept {
  const Lock lock(opening_);
  if (!runs_) return false;
  box_.stop();
  enif_thread_join(thread_, nullptr);
  runs_ = false;
  return true;
}

void* BinaryLoans::thread_main(void* self) noexcept {
  auto* loans = static_cast<BinaryLoans*>(self);
  while (loans->box_.wait()) loans->collect();
  loans->collect();
  return nullptr;
}

}  // namespace typhon::beam

// Work in pieces over XLA's own threads. The pieces do not depend on how many threads there are, nor on
// which thread takes which: so neither do the bits of what they compute.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "xla/ffi/api/ffi.h"

namespace fnn {

// Calls work(0), ..., work(count - 1); the caller takes pieces as well. Returns the first error, or "".
// A task may start after this has returned: all that it touches then is `shared`.
inline std::string in_pieces(xla::ffi::ThreadPool& pool, int64_t count,
                             const std::function<void(int64_t)>& work) {
  struct Shared {
    std::atomic<int64_t> next{0}, done{0};
    std::atomic<bool> failed{false};
    std::string error;
  };
  auto shared = std::make_shared<Shared>();
  auto take = [shared, count](const std::function<void(int64_t)>& work) {
    for (int64_t i; (i = shared->next.fetch_add(1)) < count;) {
      try {
        work(i);
      } catch (const std::exception& error) {
        if (!shared->failed.exchange(true)) shared->error = error.what();
      }
      if (shared->done.fetch_add(1) + 1 == count) shared->done.notify_all();
    }
  };
  const int64_t helpers = std::min(count - 1, pool.num_threads());
  for (int64_t i = 0; i < helpers; ++i)
    pool.Schedule([take, count, shared, &work] {
      if (shared->next.load() < count) take(work);
    });
  take(work);
  for (int spin = 0; spin < 4000 && shared->done.load() < count; ++spin) __builtin_ia32_pause();
  for (int64_t done; (done = shared->done.load()) < count;) shared->done.wait(done);
  return shared->error;
}

}  // namespace fnn

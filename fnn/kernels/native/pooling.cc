// Max pooling as XLA FFI handlers: what a window's first largest cell of x points at, and back.

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>

#include "bfloat16.h"
#include "buffers.h"
#include "clones.h"
#include "guarded.h"
#include "parallel.h"

namespace ffi = xla::ffi;

namespace fnn {
namespace {

using Numbers = ffi::Span<const int64_t>;
using Three = std::array<int64_t, 3>;

constexpr int64_t kBlock = 64;  // channels at a time: what the registers hold

struct Pool {
  int64_t batch, channels;
  Three space, out, window, stride, before;
};

// Calls visit(offset in cells) for each cell of a window that lies inside the input, in row order.
template <typename Visit>
__attribute__((always_inline)) inline void cells(const Pool& p, const Three& o, Visit visit) {
  Three low, high;
  for (int i = 0; i < 3; ++i) {
    const int64_t first = o[i] * p.stride[i] - p.before[i];
    low[i] = std::max<int64_t>(first, 0);
    high[i] = std::min(first + p.window[i], p.space[i]);
  }
  for (int64_t a = low[0]; a < high[0]; ++a)
    for (int64_t b = low[1]; b < high[1]; ++b)
      for (int64_t c = low[2]; c < high[2]; ++c) visit((a * p.space[1] + b) * p.space[2] + c);
}

// Calls visit(position, first channel, how many) for all windows of one example.
template <typename Visit>
__attribute__((always_inline)) inline void windows(const Pool& p, Visit visit) {
  for (int64_t a = 0, at = 0; a < p.out[0]; ++a)
    for (int64_t b = 0; b < p.out[1]; ++b)
      for (int64_t c = 0; c < p.out[2]; ++c, ++at)
        for (int64_t first = 0; first < p.channels; first += kBlock)
          visit(Three{a, b, c}, at, first, std::min(kBlock, p.channels - first));
}

// y = t where x is largest, the first of equals; the last NaN, if there is one.
template <typename T, bool same>
__attribute__((always_inline)) inline void pick(const Pool& p, const T* x, const T* t, T* y) {
  windows(p, [&](const Three& o, int64_t at, int64_t first, int64_t n) {
    float best[kBlock], value[kBlock];
    bool begun = false;
    cells(p, o, [&](int64_t cell) {
      const T* xs = x + cell * p.channels + first;
      const T* ts = t + cell * p.channels + first;
      if (!begun) {
        for (int64_t j = 0; j < n; ++j) best[j] = wide(xs[j]);
        if (!same)
          for (int64_t j = 0; j < n; ++j) value[j] = wide(ts[j]);
        begun = true;
        return;
      }
      for (int64_t j = 0; j < n; ++j) {
        const float next = wide(xs[j]);
        const bool wins = next > best[j] || next != next;
        best[j] = wins ? next : best[j];
        if (!same) value[j] = wins ? wide(ts[j]) : value[j];
      }
    });
    T* to = y + at * p.channels + first;
    for (int64_t j = 0; j < n; ++j) narrow(same ? best[j] : value[j], to + j);
  });
}

// The transpose of `pick` in t: each window's value is added to the cell that it was picked from. Where windows
// do not overlap (`apart`) a cell is written once, and what no window sees was cleared before.
template <typename T, typename Total, bool apart>
__attribute__((always_inline)) inline void place(const Pool& p, const T* x, const T* y, Total* total) {
  windows(p, [&](const Three& o, int64_t at, int64_t first, int64_t n) {
    float best[kBlock];
    int32_t where[kBlock];
    int32_t index = 0;
    cells(p, o, [&](int64_t cell) {
      const T* xs = x + cell * p.channels + first;
      if (index == 0) {
        for (int64_t j = 0; j < n; ++j) best[j] = wide(xs[j]), where[j] = 0;
      } else {
        for (int64_t j = 0; j < n; ++j) {
          const float next = wide(xs[j]);
          const bool wins = next > best[j] || next != next;
          best[j] = wins ? next : best[j];
          where[j] = wins ? index : where[j];
        }
      }
      ++index;
    });
    index = 0;
    cells(p, o, [&](int64_t cell) {
      Total* to = total + cell * p.channels + first;
      const T* ys = y + at * p.channels + first;
      for (int64_t j = 0; j < n; ++j) {
        const float value = where[j] == index ? wide(ys[j]) : 0.0f;
        narrow(apart ? value : wide(to[j]) + value, to + j);
      }
      ++index;
    });
  });
}

bool apart(const Pool& p) {
  return p.stride[0] >= p.window[0] && p.stride[1] >= p.window[1] && p.stride[2] >= p.window[2];
}

// Whether windows that do not overlap see every cell.
bool whole(const Pool& p) {
  bool all = true;
  for (int i = 0; i < 3; ++i)
    all = all && p.stride[i] == p.window[i] && p.out[i] * p.stride[i] - p.before[i] >= p.space[i];
  return all;
}

int64_t numbers(const Pool& p) { return p.space[0] * p.space[1] * p.space[2] * p.channels; }

// One example, for each processor as it is best; the loops over channels become vectors.
FNN_CLONES void pick_one(const Pool& p, const float* x, const float* t, float* y) {
  x == t ? pick<float, true>(p, x, t, y) : pick<float, false>(p, x, t, y);
}
FNN_CLONES void pick_one(const Pool& p, const BFloat16* x, const BFloat16* t, BFloat16* y) {
  x == t ? pick<BFloat16, true>(p, x, t, y) : pick<BFloat16, false>(p, x, t, y);
}
FNN_CLONES void place_one(const Pool& p, const float* x, const float* y, float* to) {
  if (!whole(p)) std::fill(to, to + numbers(p), 0.0f);
  apart(p) ? place<float, float, true>(p, x, y, to) : place<float, float, false>(p, x, y, to);
}
FNN_CLONES void place_one(const Pool& p, const BFloat16* x, const BFloat16* y, BFloat16* to) {
  if (apart(p)) {
    if (!whole(p)) std::fill(to, to + numbers(p), BFloat16{0});
    return place<BFloat16, BFloat16, true>(p, x, y, to);
  }
  const Buffer buffer(static_cast<size_t>(numbers(p)) * sizeof(float));
  float* total = reinterpret_cast<float*>(buffer.data());
  std::fill(total, total + numbers(p), 0.0f);
  place<BFloat16, float, false>(p, x, y, total);
  for (int64_t i = 0; i < numbers(p); ++i) narrow(total[i], to + i);
}

Three three(Numbers numbers, int64_t fill) {
  Three all{fill, fill, fill};
  std::copy(numbers.begin(), numbers.end(), all.end() - static_cast<std::ptrdiff_t>(numbers.size()));
  return all;
}

Pool pool_of(const ffi::AnyBuffer& x, const ffi::AnyBuffer& y, Numbers window, Numbers stride, Numbers before) {
  const auto xs = x.dimensions(), ys = y.dimensions();
  const size_t axes = window.size();
  if (axes < 1 || axes > 3 || xs.size() != axes + 2 || ys.size() != axes + 2 || stride.size() != axes ||
      before.size() != axes || (x.element_type() != ffi::F32 && x.element_type() != ffi::BF16) ||
      y.element_type() != x.element_type())
    throw std::invalid_argument("expected float32 or bfloat16 with 1, 2 or 3 spatial axes");
  Pool p{xs[0], xs[axes + 1], three({xs.begin() + 1, axes}, 1), three({ys.begin() + 1, axes}, 1), three(window, 1),
         three(stride, 1), three(before, 0)};
  bool fits = ys[0] == p.batch && ys[axes + 1] == p.channels;
  for (size_t i = 0; i < 3; ++i) {
    const int64_t last = (p.out[i] - 1) * p.stride[i] - p.before[i];
    fits = fits && p.stride[i] > 0 && p.before[i] >= 0 && p.before[i] < p.window[i] && last < p.space[i];
  }
  if (!fits) throw std::invalid_argument("the shapes are not those of a pooling, or a window is empty");
  return p;
}

template <typename T>
void run(const Pool& p, ffi::ThreadPool& pool, bool picks, const void* x, const void* other, void* result) {
  const int64_t x_size = numbers(p);
  const int64_t y_size = p.out[0] * p.out[1] * p.out[2] * p.channels;
  const int64_t count = std::min(p.batch, std::max<int64_t>(1, p.batch * x_size / 32768));
  const auto error = in_pieces(pool, count, [&](int64_t piece) {
    for (int64_t n = p.batch * piece / count; n < p.batch * (piece + 1) / count; ++n) {
      const T* xs = static_cast<const T*>(x) + n * x_size;
      if (picks)
        pick_one(p, xs, static_cast<const T*>(other) + n * x_size, static_cast<T*>(result) + n * y_size);
      else
        place_one(p, xs, static_cast<const T*>(other) + n * y_size, static_cast<T*>(result) + n * x_size);
    }
  });
  if (!error.empty()) throw std::runtime_error(error);
}

template <bool picks>
ffi::Error pooling(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer other,
                   ffi::Result<ffi::AnyBuffer> result, Numbers window, Numbers stride, Numbers before) {
  return guarded([&] {
    const ffi::AnyBuffer& like_x = picks ? other : *result;
    const auto xs = x.dimensions(), ls = like_x.dimensions();
    if (!std::equal(xs.begin(), xs.end(), ls.begin(), ls.end()))
      throw std::invalid_argument("expected two arrays of one shape");
    const Pool p = pool_of(x, picks ? *result : other, window, stride, before);
    const auto run_typed = x.element_type() == ffi::F32 ? run<float> : run<BFloat16>;
    run_typed(p, pool, picks, x.untyped_data(), other.untyped_data(), result->untyped_data());
  });
}

auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<ffi::AnyBuffer>()
      .Arg<ffi::AnyBuffer>()
      .Ret<ffi::AnyBuffer>()
      .Attr<Numbers>("window")
      .Attr<Numbers>("stride")
      .Attr<Numbers>("before");
}

}  // namespace
}  // namespace fnn

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(fnn_pool_pick_v1, fnn::pooling<true>, fnn::binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(fnn_pool_place_v1, fnn::pooling<false>, fnn::binding());

#pragma GCC visibility pop

// Sums over all but the last axis, as XLA FFI handlers, each in one pass over memory.
//
// Floats are summed within a block of rows that stays in the cache, blocks in double precision, and parts of
// the rows one after the other: the bits depend on the shape alone.

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

#include "bfloat16.h"
#include "clones.h"
#include "guarded.h"
#include "parallel.h"

namespace ffi = xla::ffi;

namespace fnn {
namespace {

constexpr int64_t kBlock = 16384;      // numbers of a block: 64 KB in float32
constexpr int64_t kPart = 16 * kBlock;  // numbers of a part, which is one thread's

// Sums of u and of u * (v - mean) over some rows, added to double precision.
template <typename T>
__attribute__((always_inline)) inline void block_sums(const T* u, const T* v, const float* mean, int64_t rows,
                                                      int64_t channels, float* first, float* second) {
  std::fill(first, first + channels, 0.0f);
  std::fill(second, second + channels, 0.0f);
  for (int64_t r = 0; r < rows; ++r) {
    const T* us = u + r * channels;
    const T* vs = v + r * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const float value = wide(us[c]);
      first[c] += value;
      second[c] += value * (wide(vs[c]) - mean[c]);
    }
  }
}

template <typename T>
__attribute__((always_inline)) inline void block_total(const T* x, int64_t rows, int64_t channels, float* total) {
  std::fill(total, total + channels, 0.0f);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < channels; ++c) total[c] += wide(x[r * channels + c]);
}

// Mean and sum of squared differences from it, over some rows.
template <typename T>
__attribute__((always_inline)) inline void block_moments(const T* x, int64_t rows, int64_t channels, float* mean,
                                                         float* squares) {
  std::fill(squares, squares + channels, 0.0f);
  block_total(x, rows, channels, mean);
  const float share = 1.0f / static_cast<float>(rows);
  for (int64_t c = 0; c < channels; ++c) mean[c] *= share;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < channels; ++c) {
      const float difference = wide(x[r * channels + c]) - mean[c];
      squares[c] += difference * difference;
    }
}

FNN_CLONES void sums_of(const float* u, const float* v, const float* mean, int64_t rows, int64_t channels,
                        float* first, float* second) {
  block_sums(u, v, mean, rows, channels, first, second);
}
FNN_CLONES void sums_of(const BFloat16* u, const BFloat16* v, const float* mean, int64_t rows, int64_t channels,
                        float* first, float* second) {
  block_sums(u, v, mean, rows, channels, first, second);
}
FNN_CLONES void moments_of(const float* x, int64_t rows, int64_t channels, float* mean, float* squares) {
  block_moments(x, rows, channels, mean, squares);
}
FNN_CLONES void moments_of(const BFloat16* x, int64_t rows, int64_t channels, float* mean, float* squares) {
  block_moments(x, rows, channels, mean, squares);
}

FNN_CLONES void total_of(const float* x, int64_t rows, int64_t channels, float* total) {
  block_total(x, rows, channels, total);
}
FNN_CLONES void total_of(const BFloat16* x, int64_t rows, int64_t channels, float* total) {
  block_total(x, rows, channels, total);
}

// Two sets of numbers about some rows; for moments the mean and the sum of squared differences from it.
struct Part {
  double count = 0;
  std::vector<double> first, second;
};

// Chan, Golub & LeVeque 1983: the moments of two sets of rows together.
template <typename Numbers>
void join_moments(Part& all, double count, const Numbers& mean, const Numbers& squares) {
  const double total = all.count + count, weight = count / total;
  for (size_t c = 0; c < all.first.size(); ++c) {
    const double difference = mean[c] - all.first[c];
    all.first[c] += difference * weight;
    all.second[c] += squares[c] + difference * difference * all.count * weight;
  }
  all.count = total;
}

template <typename Numbers>
void join_sums(Part& all, double count, const Numbers& first, const Numbers& second) {
  for (size_t c = 0; c < all.first.size(); ++c) all.first[c] += first[c], all.second[c] += second[c];
  all.count += count;
}

// Calls block(first row, rows, first, second) for all blocks, and joins what it finds: blocks in parts, parts.
template <typename Block, typename Join, typename JoinParts>
Part reduce(ffi::ThreadPool& pool, int64_t rows, int64_t channels, Block block, Join join, JoinParts join_parts) {
  const int64_t step = std::max<int64_t>(8, kBlock / channels);
  const int64_t count = std::max<int64_t>(1, std::min(rows / step, rows * channels / kPart));
  const std::vector<double> nothing(static_cast<size_t>(channels), 0.0);
  std::vector<Part> parts(static_cast<size_t>(count), Part{0, nothing, nothing});
  const auto error = in_pieces(pool, count, [&](int64_t i) {
    std::vector<float> first(static_cast<size_t>(channels)), second(first);
    const int64_t end = rows * (i + 1) / count;
    for (int64_t row = rows * i / count; row < end; row += step) {
      const int64_t n = std::min(step, end - row);
      block(row, n, first.data(), second.data());
      join(parts[static_cast<size_t>(i)], static_cast<double>(n), first, second);
    }
  });
  if (!error.empty()) throw std::runtime_error(error);
  for (size_t i = 1; i < parts.size(); ++i) join_parts(parts[0], parts[i].count, parts[i].first, parts[i].second);
  return std::move(parts[0]);
}

int64_t channels_of(const ffi::AnyBuffer& x, ffi::Result<ffi::AnyBuffer>& result, int64_t rows) {
  const auto shape = x.dimensions(), out = result->dimensions();
  const bool typed = x.element_type() == ffi::F32 || x.element_type() == ffi::BF16;
  if (!typed || result->element_type() != ffi::F32 || shape.size() == 0 || x.element_count() == 0 ||
      out.size() == 0 || out.back() != shape.back() ||
      static_cast<int64_t>(result->element_count()) != rows * shape.back())
    throw std::invalid_argument("expected float32 or bfloat16 and float32 rows of channels");
  return shape.back();
}

template <typename T>
Part sums(ffi::ThreadPool& pool, const void* u, const void* v, const float* mean, int64_t rows, int64_t channels) {
  const auto block = [&](int64_t row, int64_t n, float* first, float* second) {
    sums_of(static_cast<const T*>(u) + row * channels, static_cast<const T*>(v) + row * channels, mean, n,
            channels, first, second);
  };
  return reduce(pool, rows, channels, block, join_sums<std::vector<float>>, join_sums<std::vector<double>>);
}

template <typename T>
Part moments(ffi::ThreadPool& pool, const void* x, int64_t rows, int64_t channels) {
  const auto block = [&](int64_t row, int64_t n, float* mean, float* squares) {
    moments_of(static_cast<const T*>(x) + row * channels, n, channels, mean, squares);
  };
  Part all = reduce(pool, rows, channels, block, join_moments<std::vector<float>>, join_moments<std::vector<double>>);
  for (auto& value : all.second) value /= static_cast<double>(rows);
  return all;
}

template <typename T>
Part total(ffi::ThreadPool& pool, const void* x, int64_t rows, int64_t channels) {
  const auto block = [&](int64_t row, int64_t n, float* first, float*) {
    total_of(static_cast<const T*>(x) + row * channels, n, channels, first);
  };
  return reduce(pool, rows, channels, block, join_sums<std::vector<float>>, join_sums<std::vector<double>>);
}

void write(const Part& part, ffi::Result<ffi::AnyBuffer>& result) {
  float* to = static_cast<float*>(result->untyped_data());
  std::copy(part.second.begin(), part.second.end(), std::copy(part.first.begin(), part.first.end(), to));
}

ffi::Error channel_sums(ffi::ThreadPool pool, ffi::AnyBuffer u, ffi::AnyBuffer v, ffi::AnyBuffer mean,
                        ffi::Result<ffi::AnyBuffer> result) {
  return guarded([&] {
    const int64_t channels = channels_of(u, result, 2);
    const auto us = u.dimensions(), vs = v.dimensions();
    if (!std::equal(us.begin(), us.end(), vs.begin(), vs.end()) || u.element_type() != v.element_type() ||
        mean.element_type() != ffi::F32 || static_cast<int64_t>(mean.element_count()) != channels)
      throw std::invalid_argument("expected two arrays of one shape and type, and a mean of each channel");
    const auto typed = u.element_type() == ffi::F32 ? sums<float> : sums<BFloat16>;
    const int64_t rows = static_cast<int64_t>(u.element_count()) / channels;
    write(typed(pool, u.untyped_data(), v.untyped_data(), static_cast<const float*>(mean.untyped_data()), rows,
                channels),
          result);
  });
}

ffi::Error channel_moments(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> result) {
  return guarded([&] {
    const int64_t channels = channels_of(x, result, 2);
    const auto typed = x.element_type() == ffi::F32 ? moments<float> : moments<BFloat16>;
    write(typed(pool, x.untyped_data(), static_cast<int64_t>(x.element_count()) / channels, channels), result);
  });
}

ffi::Error channel_total(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> result) {
  return guarded([&] {
    const int64_t channels = channels_of(x, result, 1);
    const auto typed = x.element_type() == ffi::F32 ? total<float> : total<BFloat16>;
    const Part part = typed(pool, x.untyped_data(), static_cast<int64_t>(x.element_count()) / channels, channels);
    std::copy(part.first.begin(), part.first.end(), static_cast<float*>(result->untyped_data()));
  });
}

}  // namespace
}  // namespace fnn

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(fnn_channel_sums_v1, fnn::channel_sums,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Ret<xla::ffi::AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    fnn_channel_moments_v1, fnn::channel_moments,
    xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>().Arg<xla::ffi::AnyBuffer>().Ret<xla::ffi::AnyBuffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    fnn_channel_total_v1, fnn::channel_total,
    xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>().Arg<xla::ffi::AnyBuffer>().Ret<xla::ffi::AnyBuffer>());

#pragma GCC visibility pop

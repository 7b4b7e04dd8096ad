// Threefry-2x32 with 20 rounds (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011), the
// generator of JAX, as an XLA FFI handler: blocks of two words for consecutive counters.

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "clones.h"
#include "guarded.h"
#include "parallel.h"

namespace ffi = xla::ffi;

namespace fnn {
namespace {

constexpr int64_t kPiece = 1 << 16;  // blocks, some 0.1 ms

template <int... kRotations>
__attribute__((always_inline)) inline void rounds(uint32_t& a, uint32_t& b) {
  ((a += b, b = (b << kRotations) | (b >> (32 - kRotations)), b ^= a), ...);
}

template <typename Write>
__attribute__((always_inline)) inline void blocks(const uint32_t* key, uint32_t first, int64_t begin, int64_t end,
                                                  const Write& write) {
  const uint32_t k0 = key[0], k1 = key[1], k2 = k0 ^ k1 ^ 0x1BD11BDAu;
  for (int64_t i = begin; i < end; ++i) {
    uint32_t a = k0, b = first + static_cast<uint32_t>(i) + k1;
    rounds<13, 15, 26, 6>(a, b), a += k1, b += k2 + 1;
    rounds<17, 29, 16, 24>(a, b), a += k2, b += k0 + 2;
    rounds<13, 15, 26, 6>(a, b), a += k0, b += k1 + 3;
    rounds<17, 29, 16, 24>(a, b), a += k1, b += k2 + 4;
    rounds<13, 15, 26, 6>(a, b), a += k2, b += k0 + 5;
    write(i, a, b);
  }
}

FNN_CLONES void bits_of(const uint32_t* key, uint32_t first, int64_t begin, int64_t end, uint32_t* to) {
  blocks(key, first, begin, end, [to](int64_t i, uint32_t a, uint32_t b) { to[i] = a ^ b; });
}
FNN_CLONES void words_of(const uint32_t* key, uint32_t first, int64_t begin, int64_t end, uint32_t* to) {
  blocks(key, first, begin, end, [to](int64_t i, uint32_t a, uint32_t b) { to[2 * i] = a, to[2 * i + 1] = b; });
}

// For every key (..., 2) and its first counter (...) n blocks: both words (..., n, 2), or one of their bits
// xor-ed (..., n).
ffi::Error threefry(ffi::ThreadPool pool, ffi::AnyBuffer keys, ffi::AnyBuffer first,
                    ffi::Result<ffi::AnyBuffer> result, int64_t words) {
  return guarded([&] {
    const int64_t rows = static_cast<int64_t>(first.element_count());
    const int64_t total = static_cast<int64_t>(result->element_count());
    if (keys.element_type() != ffi::U32 || first.element_type() != ffi::U32 || result->element_type() != ffi::U32 ||
        static_cast<int64_t>(keys.element_count()) != 2 * rows || rows == 0 || (words != 1 && words != 2) ||
        total % (rows * words) != 0)
      throw std::invalid_argument("expected keys of two uint32 numbers, a first counter and uint32 words of each");
    const auto* key = static_cast<const uint32_t*>(keys.untyped_data());
    const auto* counter = static_cast<const uint32_t*>(first.untyped_data());
    auto* to = static_cast<uint32_t*>(result->untyped_data());
    const int64_t n = total / rows / words, pieces = (n + kPiece - 1) / kPiece;
    const auto make = words == 1 ? bits_of : words_of;
    const auto error = in_pieces(pool, rows * pieces, [&](int64_t i) {
      const int64_t row = i / pieces, begin = i % pieces * kPiece;
      make(key + 2 * row, counter[row], begin, std::min(begin + kPiece, n), to + row * n * words);
    });
    if (!error.empty()) throw std::runtime_error(error);
  });
}

}  // namespace
}  // namespace fnn

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(fnn_threefry_v1, fnn::threefry,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Attr<int64_t>("words"));

#pragma GCC visibility pop

// Numbers of one type to compute with, whatever the type they are stored in.
#pragma once

#include <cstdint>
#include <cstring>

namespace fnn {

struct BFloat16 {
  uint16_t bits;
};

inline float wide(float value) { return value; }
inline float wide(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

inline void narrow(float value, float* to) { *to = value; }
inline void narrow(float value, BFloat16* to) {  // to nearest, ties to even; NaN stays NaN
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  to->bits = value != value ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace fnn

// Exceptions become XLA's errors, and so Python's.
#pragma once

#include <stdexcept>
#include <string>

#include "xla/ffi/api/ffi.h"

namespace fnn {

template <typename F>
xla::ffi::Error guarded(F&& body) {
  try {
    body();
    return xla::ffi::Error::Success();
  } catch (const std::invalid_argument& error) {
    return xla::ffi::Error::InvalidArgument(std::string("fnn.kernels: ") + error.what());
  } catch (const std::exception& error) {
    return xla::ffi::Error::Internal(std::string("fnn.kernels: ") + error.what());
  }
}

}  // namespace fnn

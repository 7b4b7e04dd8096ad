// What a call of a convolution needs: oneDNN's primitives for its pieces, made once for each geometry.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"

namespace fnn {

enum class Role : int64_t { forward, input, kernel };

// x (batch, *space, inputs), kernel (*window, inputs / groups, outputs), y (batch, *out, outputs).
struct Geometry {
  Role role;
  bool bfloat16;   // of x and y; the kernel and its gradient are float32 outside
  int64_t pieces;  // into how many the work may be cut
  int64_t batch, inputs, outputs, groups;
  std::vector<int64_t> space, out, window, stride, before, after, dilation;

  std::vector<int64_t> key() const;
};

// One piece: rows of the batch, or rows of the first spatial axis of one example.
struct Piece {
  int64_t x_offset, y_offset;  // in elements
  size_t program;              // which of the plan's primitives
};

struct Program {
  dnnl::primitive primitive;
  dnnl::memory::desc x, weights, y, scratchpad;
};

// The reordering of some output channels of the kernel.
struct Pack {
  dnnl::reorder reorder;
  dnnl::memory::desc from, to;
};

struct Plan {
  std::vector<Program> programs;
  std::vector<Piece> pieces;
  dnnl::memory::desc plain;   // float32 kernel as JAX has it
  dnnl::memory::desc packed;  // as the primitives want it
  std::vector<Pack> packs;    // between the two, in the direction of the role; none where they are the same
  size_t scratch = 0;         // bytes of scratchpad a piece needs
  std::string implementation;
};

// The plan for a geometry, from a cache; throws std::exception with a reason where there is none.
std::shared_ptr<const Plan> plan_for(const Geometry& geometry);

const dnnl::engine& engine();

// oneDNN cuts its own work into OpenMP threads; here each piece is one thread's.
class OneThread {
 public:
  OneThread();
  ~OneThread();

 private:
  int before_;
};

}  // namespace fnn

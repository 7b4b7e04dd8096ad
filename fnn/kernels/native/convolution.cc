// The three convolutions of fnn.kernels as XLA FFI handlers: x, kernel -> y; y, kernel -> x; x, y -> kernel.

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "buffers.h"
#include "guarded.h"
#include "parallel.h"
#include "plan.h"

namespace ffi = xla::ffi;

namespace fnn {
namespace {

using Numbers = ffi::Span<const int64_t>;

const dnnl::stream& stream() {
  static thread_local const dnnl::stream own(engine());
  return own;
}

std::vector<int64_t> middle(ffi::AnyBuffer::Dimensions d) { return {d.begin() + 1, d.end() - 1}; }

// Everything is checked here: oneDNN reads what it is told to.
Geometry geometry_of(Role role, const ffi::AnyBuffer& x, const ffi::AnyBuffer& kernel, const ffi::AnyBuffer& y,
                     Numbers stride, Numbers before, Numbers after, Numbers dilation, int64_t groups,
                     int64_t pieces) {
  const auto type = x.element_type();
  if ((type != ffi::F32 && type != ffi::BF16) || y.element_type() != type ||
      kernel.element_type() != ffi::F32)
    throw std::invalid_argument("expected x and y in float32 or bfloat16 and a kernel in float32");
  const auto xs = x.dimensions(), ks = kernel.dimensions(), ys = y.dimensions();
  const size_t axes = stride.size(), rank = axes + 2;
  if (axes < 1 || axes > 3 || xs.size() != rank || ks.size() != rank || ys.size() != rank ||
      before.size() != axes || after.size() != axes || dilation.size() != axes)
    throw std::invalid_argument("expected 1, 2 or 3 spatial axes, and as many numbers of each kind");
  auto vector = [](Numbers n) { return std::vector<int64_t>(n.begin(), n.end()); };
  Geometry g{role, type == ffi::BF16, pieces, xs[0], xs[axes + 1], ys[axes + 1], groups,
             middle(xs), middle(ys), {ks.begin(), ks.begin() + static_cast<std::ptrdiff_t>(axes)},
             vector(stride), vector(before), vector(after), vector(dilation)};
  bool fits = pieces > 0 && groups > 0 && ys[0] == g.batch && g.inputs % groups == 0 &&
              g.outputs % groups == 0 && ks[axes] * groups == g.inputs && ks[axes + 1] == g.outputs &&
              x.element_count() > 0 && y.element_count() > 0 && kernel.element_count() > 0;
  for (size_t i = 0; fits && i < axes; ++i) {
    fits = g.stride[i] > 0 && g.dilation[i] > 0 && g.before[i] >= 0 && g.after[i] >= 0;
    const int64_t room = g.space[i] + g.before[i] + g.after[i] - (g.window[i] - 1) * g.dilation[i] - 1;
    fits = fits && room >= 0 && g.out[i] == room / g.stride[i] + 1;
  }
  if (!fits) throw std::invalid_argument("the shapes are not those of a convolution");
  return g;
}

void run(const Program& program, const Geometry& g, void* x, void* weights, void* y, void* scratch) {
  const OneThread one;
  const bool data = g.role == Role::input, kernel = g.role == Role::kernel;
  const auto memory = [](const dnnl::memory::desc& desc, void* at) { return dnnl::memory(desc, engine(), at); };
  program.primitive.execute(
      stream(), {{data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, memory(program.x, x)},
                 {kernel ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, memory(program.weights, weights)},
                 {g.role == Role::forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, memory(program.y, y)},
                 {DNNL_ARG_SCRATCHPAD, memory(program.scratchpad, scratch)}});
}

void reorder_one(const Pack& pack, void* from, void* to) {
  const OneThread one;
  dnnl::memory source(pack.from, engine(), from), target(pack.to, engine(), to);
  pack.reorder.execute(stream(), source, target);
}

void reorder(const Plan& plan, ffi::ThreadPool& pool, void* from, void* to) {
  const auto error = in_pieces(pool, static_cast<int64_t>(plan.packs.size()),
                               [&](int64_t i) { reorder_one(plan.packs[static_cast<size_t>(i)], from, to); });
  if (!error.empty()) throw std::runtime_error(error);
}

// Partial sums of the pieces' gradients, one range of the kernel after the other.
void sum_up(ffi::ThreadPool& pool, char* partial, size_t pitch, int64_t count, void* into, int64_t ranges) {
  const int64_t n = static_cast<int64_t>(pitch / sizeof(float));
  in_pieces(pool, ranges, [&](int64_t range) {
    float* total = static_cast<float*>(into);
    const int64_t begin = n * range / ranges, end = n * (range + 1) / ranges;
    for (int64_t i = 0; i < count; ++i) {
      const float* part = reinterpret_cast<const float*>(partial + static_cast<size_t>(i) * pitch);
      if (i == 0 && part == total) continue;
      if (i == 0)
        std::copy(part + begin, part + end, total + begin);
      else
        for (int64_t j = begin; j < end; ++j) total[j] += part[j];
    }
  });
}

// The pieces, with one packed kernel for all, or with a gradient for each.
void run_pieces(const Plan& plan, const Geometry& g, ffi::ThreadPool& pool, void* x, char* weights, size_t step,
                void* y) {
  const size_t width = g.bfloat16 ? 2 : 4;
  const size_t pitch = (plan.scratch + 63) / 64 * 64;
  const Buffer scratch(pitch * plan.pieces.size());
  const auto error = in_pieces(pool, static_cast<int64_t>(plan.pieces.size()), [&](int64_t i) {
    const Piece& piece = plan.pieces[static_cast<size_t>(i)];
    run(plan.programs[piece.program], g, static_cast<char*>(x) + static_cast<size_t>(piece.x_offset) * width,
        weights + static_cast<size_t>(i) * step,
        static_cast<char*>(y) + static_cast<size_t>(piece.y_offset) * width,
        scratch.data() + static_cast<size_t>(i) * pitch);
  });
  if (!error.empty()) throw std::runtime_error(error);
}

void execute(const Geometry& g, ffi::ThreadPool& pool, void* x, void* kernel, void* y) {
  const auto plan = plan_for(g);
  const int64_t count = static_cast<int64_t>(plan->pieces.size());
  const bool gradient = g.role == Role::kernel, packs = !plan->packs.empty();
  const size_t packed = plan->packed.get_size();
  const Buffer buffer(gradient ? packed * static_cast<size_t>(count) : packs ? packed : 0);
  char* weights = gradient || packs ? buffer.data() : static_cast<char*>(kernel);
  if (!gradient && packs) reorder(*plan, pool, kernel, weights);
  run_pieces(*plan, g, pool, x, weights, gradient ? packed : 0, y);
  if (!gradient) return;
  sum_up(pool, weights, packed, count, packs ? weights : kernel, count);
  if (packs) reorder(*plan, pool, weights, kernel);
}

template <Role role>
ffi::Error convolution(ffi::ThreadPool pool, ffi::AnyBuffer left, ffi::AnyBuffer right,
                       ffi::Result<ffi::AnyBuffer> result, Numbers stride, Numbers before, Numbers after,
                       Numbers dilation, int64_t groups, int64_t pieces) {
  return guarded([&] {
    const ffi::AnyBuffer& x = role == Role::input ? *result : left;
    const ffi::AnyBuffer& kernel = role == Role::kernel ? *result : right;
    const ffi::AnyBuffer& y = role == Role::forward ? *result : role == Role::input ? left : right;
    const Geometry g =
        geometry_of(role, x, kernel, y, stride, before, after, dilation, groups, pieces);
    execute(g, pool, x.untyped_data(), kernel.untyped_data(), y.untyped_data());
  });
}

auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<ffi::AnyBuffer>()
      .Arg<ffi::AnyBuffer>()
      .Ret<ffi::AnyBuffer>()
      .Attr<Numbers>("stride")
      .Attr<Numbers>("before")
      .Attr<Numbers>("after")
      .Attr<Numbers>("dilation")
      .Attr<int64_t>("groups")
      .Attr<int64_t>("pieces");
}

// The forward convolution with a kernel that `fnn_conv_pack` has packed; `like` has the shape of the kernel.
ffi::Error packed_convolution(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer kernel, ffi::AnyBuffer packed,
                              ffi::Result<ffi::AnyBuffer> y, Numbers stride, Numbers before, Numbers after,
                              Numbers dilation, int64_t groups, int64_t pieces) {
  return guarded([&] {
    const Geometry g =
        geometry_of(Role::forward, x, kernel, *y, stride, before, after, dilation, groups, pieces);
    const auto plan = plan_for(g);
    if (packed.size_bytes() != plan->packed.get_size())
      throw std::invalid_argument("the packed kernel is of another convolution");
    run_pieces(*plan, g, pool, x.untyped_data(), static_cast<char*>(packed.untyped_data()), 0, y->untyped_data());
  });
}

// A geometry from plain numbers, as Python passes them.
Geometry geometry_from(const int64_t* numbers, int64_t axes) {
  Geometry g{static_cast<Role>(numbers[0]), numbers[1] != 0, numbers[2], numbers[3], numbers[4],
             numbers[5], numbers[6], {}, {}, {}, {}, {}, {}, {}};
  numbers += 7;
  for (auto* member : {&g.space, &g.out, &g.window, &g.stride, &g.before, &g.after, &g.dilation}) {
    member->assign(numbers, numbers + axes);
    numbers += axes;
  }
  return g;
}

}  // namespace
}  // namespace fnn

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(fnn_conv_forward_v1, fnn::convolution<fnn::Role::forward>, fnn::binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(fnn_conv_input_v1, fnn::convolution<fnn::Role::input>, fnn::binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(fnn_conv_kernel_v1, fnn::convolution<fnn::Role::kernel>, fnn::binding());

XLA_FFI_DEFINE_HANDLER_SYMBOL(fnn_conv_packed_v1, fnn::packed_convolution,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<fnn::Numbers>("stride")
                                  .Attr<fnn::Numbers>("before")
                                  .Attr<fnn::Numbers>("after")
                                  .Attr<fnn::Numbers>("dilation")
                                  .Attr<int64_t>("groups")
                                  .Attr<int64_t>("pieces"));

// The version of oneDNN that is loaded: 1000 * major + minor.
extern "C" int64_t fnn_onednn_version() {
  const auto* version = dnnl_version();
  return 1000 * version->major + version->minor;
}

// Whether this processor computes in bfloat16: by AVX512-BF16 or AMX.
extern "C" int64_t fnn_bfloat16() {
  const int wanted = dnnl_cpu_isa_avx512_core_bf16;
  return (dnnl_get_effective_cpu_isa() & wanted) == wanted;
}

// Whether oneDNN has a fast primitive for a geometry: its name in `text`, or the reason why not and 1.
extern "C" int64_t fnn_conv_plan(const int64_t* numbers, int64_t axes, char* text, int64_t size) {
  std::string found;
  int64_t failed = 0;
  try {
    const auto g = fnn::geometry_from(numbers, axes);
    found = fnn::plan_for(g)->implementation;
    if (found.find("ref") != std::string::npos) {
      failed = 1;
      found = "oneDNN has but its reference implementation (" + found + ")";
    }
  } catch (const std::exception& error) {
    failed = 1;
    found = std::string("oneDNN: ") + error.what();
  }
  std::strncpy(text, found.c_str(), static_cast<size_t>(size - 1));
  text[size - 1] = '\0';
  return failed;
}

// Packs a float32 kernel for a convolution: to `packed`, if it is not null; returns its bytes, 0 on failure.
extern "C" int64_t fnn_conv_pack(const int64_t* numbers, int64_t axes, const void* kernel, void* packed) {
  try {
    const auto plan = fnn::plan_for(fnn::geometry_from(numbers, axes));
    const size_t size = plan->packed.get_size();
    if (packed == nullptr) return static_cast<int64_t>(size);
    if (plan->packs.empty()) std::memcpy(packed, kernel, size);
    for (const auto& pack : plan->packs) fnn::reorder_one(pack, const_cast<void*>(kernel), packed);
    return static_cast<int64_t>(size);
  } catch (const std::exception&) {
    return 0;
  }
}

#pragma GCC visibility pop

#include "plan.h"

#include <omp.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <stdexcept>

namespace fnn {
namespace {

using dnnl::memory;
using Dims = memory::dims;

constexpr size_t kMostPlans = 4096;         // a bound on memory; beyond it the cache starts anew
constexpr int64_t kLeastPiece = 200 * 1000;  // multiply-adds: below, a second thread costs more than it gives

constexpr int64_t kLeastPack = 16 * 1024;     // numbers: likewise, for the reordering of a kernel
constexpr int64_t kLargeKernel = 1 << 20;     // numbers: 4 MB
constexpr int64_t kChannelBlock = 64;         // a multiple of the blocks of channels in all of oneDNN's formats

memory::data_type activation(const Geometry& g) {
  return g.bfloat16 ? memory::data_type::bf16 : memory::data_type::f32;
}

Dims dims(std::initializer_list<int64_t> head, const std::vector<int64_t>& tail) {
  Dims all(head);
  all.insert(all.end(), tail.begin(), tail.end());
  return all;
}

memory::format_tag channels_last(size_t axes) {
  using tag = memory::format_tag;
  return axes == 1 ? tag::nwc : axes == 2 ? tag::nhwc : tag::ndhwc;
}

// oneDNN orders dimensions (groups, out, in, *window); JAX's memory is (*window, in, groups * out).
memory::desc plain_weights(const Geometry& g) {
  using tag = memory::format_tag;
  const size_t axes = g.window.size();
  const int64_t out = g.outputs / g.groups, in = g.inputs / g.groups;
  if (g.groups == 1)
    return {dims({out, in}, g.window), memory::data_type::f32,
            axes == 1 ? tag::wio : axes == 2 ? tag::hwio : tag::dhwio};
  return {dims({g.groups, out, in}, g.window), memory::data_type::f32,
          axes == 1 ? tag::wigo : axes == 2 ? tag::hwigo : tag::dhwigo};
}

int64_t product(const std::vector<int64_t>& numbers) {
  int64_t all = 1;
  for (int64_t n : numbers) all *= n;
  return all;
}

// Implementations that are faster than oneDNN's first choice; "" where that is the best.
// - Depthwise: the gradient of the input in bfloat16 with a stride takes 33 ms of the first choice, 1 ms of these.
// - Kernels larger than a core's cache, in float32: the first choice reads them anew for each example.
const char* wish(const Geometry& g) {
  if (g.groups > 1 && g.inputs == g.groups) return "dw";
  const int64_t kernel = product(g.window) * g.inputs / g.groups * g.outputs;
  return !g.bfloat16 && kernel > kLargeKernel ? "jit:avx512_core" : "";
}

// The first implementation whose name has the wish in it, or oneDNN's first choice.
template <typename Make>
auto chosen(const std::string& wish, Make make) {
  auto desc = make();
  for (bool more = !wish.empty(); more; more = desc.next_impl())
    if (std::string(desc.impl_info_str()).find(wish) != std::string::npos) return desc;
  return wish.empty() ? desc : make();
}

Program make_program(const Geometry& g, const memory::desc& weights, std::string* implementation) {
  const size_t axes = g.space.size();
  const memory::desc x(dims({g.batch, g.inputs}, g.space), activation(g), channels_last(axes));
  const memory::desc y(dims({g.batch, g.outputs}, g.out), activation(g), channels_last(axes));
  Dims dilation(g.dilation);
  for (auto& d : dilation) d -= 1;
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const auto direct = dnnl::algorithm::convolution_direct;
  // the gradients' hint: its weights need not be in their format
  const memory::desc any(weights.get_dims(), activation(g), memory::format_tag::any);
  const bool forward_role = g.role == Role::forward;
  const auto forward = chosen(forward_role ? wish(g) : "", [&] {
    const auto kind = forward_role ? dnnl::prop_kind::forward_inference : dnnl::prop_kind::forward_training;
    return dnnl::convolution_forward::primitive_desc(engine(), kind, direct, x, forward_role ? weights : any, y,
                                                     g.stride, dilation, g.before, g.after, attributes);
  });
  if (forward_role) {
    *implementation = forward.impl_info_str();
    return {dnnl::convolution_forward(forward), x, forward.weights_desc(), y, forward.scratchpad_desc()};
  }
  if (g.role == Role::input) {
    const auto backward = chosen(wish(g), [&] {
      return dnnl::convolution_backward_data::primitive_desc(
          engine(), direct, x, weights, y, g.stride, dilation, g.before, g.after, forward, attributes);
    });
    *implementation = backward.impl_info_str();
    return {dnnl::convolution_backward_data(backward), x, backward.weights_desc(), y,
            backward.scratchpad_desc()};
  }
  const dnnl::convolution_backward_weights::primitive_desc backward(
      engine(), direct, x, weights, y, g.stride, dilation, g.before, g.after, forward, attributes);
  *implementation = backward.impl_info_str();
  return {dnnl::convolution_backward_weights(backward), x, backward.diff_weights_desc(), y,
          backward.scratchpad_desc()};
}

// The geometries of the pieces, each with its place in x and y.
struct Part {
  Geometry geometry;
  int64_t x_offset, y_offset;
};

std::vector<Part> batch_parts(const Geometry& g, int64_t count) {
  std::vector<Part> parts;
  const int64_t x_row = product(g.space) * g.inputs, y_row = product(g.out) * g.outputs;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = g.batch * i / count, end = g.batch * (i + 1) / count;
    Part part{g, begin * x_row, begin * y_row};
    part.geometry.batch = end - begin;
    parts.push_back(part);
  }
  return parts;
}

// Rows of the output, each part with those rows of the input that its windows see; empty if one sees none.
std::vector<Part> row_parts(const Geometry& g, int64_t count) {
  std::vector<Part> parts;
  const int64_t x_row = product(g.space) / g.space[0] * g.inputs;
  const int64_t y_row = product(g.out) / g.out[0] * g.outputs;
  const int64_t reach = (g.window[0] - 1) * g.dilation[0] + 1;
  for (int64_t n = 0; n < g.batch; ++n) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t begin = g.out[0] * i / count, end = g.out[0] * (i + 1) / count;
      const int64_t first = begin * g.stride[0] - g.before[0];
      const int64_t last = (end - 1) * g.stride[0] - g.before[0] + reach;
      const int64_t low = std::max<int64_t>(first, 0), high = std::min(last, g.space[0]);
      if (low >= high) return {};
      Part part{g, (n * g.space[0] + low) * x_row, (n * g.out[0] + begin) * y_row};
      part.geometry.batch = 1;
      part.geometry.space[0] = high - low;
      part.geometry.out[0] = end - begin;
      part.geometry.before[0] = low - first;
      part.geometry.after[0] = last - high;
      parts.push_back(part);
    }
  }
  return parts;
}

std::vector<Part> parts_of(const Geometry& g) {
  const int64_t work =
      g.batch * product(g.out) * g.outputs * product(g.window) * (g.inputs / g.groups);
  const int64_t most = std::max<int64_t>(1, std::min(g.pieces, work / kLeastPiece));
  if (g.batch >= most) return batch_parts(g, most);
  if (g.role == Role::forward && g.out[0] >= most) {
    auto rows = row_parts(g, (most + g.batch - 1) / g.batch);
    if (!rows.empty()) return rows;
  }
  return batch_parts(g, g.batch);
}

Pack make_pack(const Geometry& g, const memory::desc& plain, const memory::desc& packed) {
  const bool out = g.role == Role::kernel;
  const memory::desc& from = out ? packed : plain;
  const memory::desc& to = out ? plain : packed;
  return {dnnl::reorder(dnnl::reorder::primitive_desc(engine(), from, engine(), to)), from, to};
}

// Large kernels are packed in parts, each of some whole blocks of output channels.
std::vector<Pack> make_packs(const Geometry& g, const memory::desc& plain, const memory::desc& packed) {
  const Dims all = plain.get_dims();
  const int64_t blocks = g.groups == 1 ? all[0] / kChannelBlock : 0;
  const int64_t count = std::min({g.pieces, blocks, product(all) / kLeastPack});
  if (count < 2 || all[0] % kChannelBlock != 0) return {make_pack(g, plain, packed)};
  std::vector<Pack> packs;
  try {
    for (int64_t i = 0; i < count; ++i) {
      Dims size(all), offset(all.size(), 0);
      offset[0] = blocks * i / count * kChannelBlock;
      size[0] = blocks * (i + 1) / count * kChannelBlock - offset[0];
      packs.push_back(make_pack(g, plain.submemory_desc(size, offset), packed.submemory_desc(size, offset)));
    }
  } catch (const dnnl::error&) {  // a format that cannot be cut so
    return {make_pack(g, plain, packed)};
  }
  return packs;
}

std::shared_ptr<const Plan> make_plan(const Geometry& g) {
  const OneThread one;
  auto plan = std::make_shared<Plan>();
  plan->plain = plain_weights(g);
  const auto stored = g.role == Role::kernel ? memory::data_type::f32 : activation(g);
  memory::desc weights(plan->plain.get_dims(), stored, memory::format_tag::any);
  std::vector<Geometry> made;
  for (const Part& part : parts_of(g)) {
    size_t i = 0;
    while (i < made.size() && made[i].key() != part.geometry.key()) ++i;
    if (i == made.size()) {
      plan->programs.push_back(make_program(part.geometry, weights, &plan->implementation));
      made.push_back(part.geometry);
      weights = plan->programs[0].weights;  // one packed kernel serves all pieces
    }
    plan->scratch = std::max(plan->scratch, plan->programs[i].scratchpad.get_size());
    plan->pieces.push_back({part.x_offset, part.y_offset, i});
  }
  plan->packed = weights;
  if (plan->packed != plan->plain) plan->packs = make_packs(g, plan->plain, plan->packed);
  return plan;
}

}  // namespace

std::vector<int64_t> Geometry::key() const {
  std::vector<int64_t> all{static_cast<int64_t>(role), bfloat16, pieces, batch, inputs, outputs, groups,
                           static_cast<int64_t>(space.size())};
  for (const auto* numbers : {&space, &out, &window, &stride, &before, &after, &dilation})
    all.insert(all.end(), numbers->begin(), numbers->end());
  return all;
}

const dnnl::engine& engine() {
  static const dnnl::engine only(dnnl::engine::kind::cpu, 0);
  return only;
}

OneThread::OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
OneThread::~OneThread() { omp_set_num_threads(before_); }

std::shared_ptr<const Plan> plan_for(const Geometry& geometry) {
  static std::mutex mutex;
  static auto& plans = *new std::map<std::vector<int64_t>, std::shared_ptr<const Plan>>;
  const auto key = geometry.key();
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (const auto found = plans.find(key); found != plans.end()) return found->second;
  }
  auto plan = make_plan(geometry);
  const std::lock_guard<std::mutex> lock(mutex);
  if (plans.size() >= kMostPlans) plans.clear();
  return plans[key] = plan;
}

}  // namespace fnn

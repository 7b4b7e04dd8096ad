// Buffers that are kept for the next call: fresh memory of the system costs a page fault each 4 KB.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace fnn {

class Buffer {
 public:
  explicit Buffer(size_t size) : size_(size) {
    if (size == 0) return;
    {
      const std::lock_guard<std::mutex> lock(mutex());
      auto& kept = free_list();
      size_t best = kept.size();
      for (size_t i = 0; i < kept.size(); ++i)
        if (kept[i].size >= size && kept[i].size <= 4 * size + 65536 &&
            (best == kept.size() || kept[i].size < kept[best].size))
          best = i;
      if (best < kept.size()) {
        data_ = kept[best].data;
        size_ = kept[best].size;
        kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(best));
        return;
      }
    }
    data_ = std::aligned_alloc(64, (size + 63) / 64 * 64);
    if (data_ == nullptr) throw std::bad_alloc();
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (data_ == nullptr) return;
    const std::lock_guard<std::mutex> lock(mutex());
    auto& kept = free_list();
    if (kept.size() >= kMost) {
      std::free(kept.front().data);
      kept.erase(kept.begin());
    }
    kept.push_back({data_, size_});
  }
  char* data() const { return static_cast<char*>(data_); }

 private:
  struct Kept {
    void* data;
    size_t size;
  };
  static constexpr size_t kMost = 32;
  static std::mutex& mutex() {
    static auto& only = *new std::mutex;
    return only;
  }
  static std::vector<Kept>& free_list() {
    static auto& only = *new std::vector<Kept>;
    return only;
  }
  void* data_ = nullptr;
  size_t size_;
};

}  // namespace fnn

// Threads that wait for the next product: briefly awake, then asleep.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include <immintrin.h>
#include <unistd.h>

namespace {

class Pool {
   public:
    // Run work(start, end, context) over 0..total in blocks of `step`, on `threads` threads with the caller as one.
    // Throws std::bad_alloc, when no thread is at work any more, if a block could not have its memory.
    using Work = void (*)(int64_t, int64_t, void*);

    void run(int threads, int64_t total, int64_t step, Work work, void* context) {
        std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
        // Another Python thread is in here, or the threads stayed behind in the parent of a fork: do it alone.
        if (threads <= 1 || total <= step || !owner.owns_lock() || !same_process()) {
            work(0, total, context);
            return;
        }
        const int helpers = threads_up_to(threads - 1);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            work_ = work, context_ = context, total_ = total, step_ = step;
            wanted_ = helpers;
            next_.store(0, std::memory_order_relaxed);
            running_.store(wanted_, std::memory_order_relaxed);
            round_.fetch_add(1, std::memory_order_release);
        }
        start_.notify_all();
        take_blocks();
        for (int spin = 0; running_.load(std::memory_order_acquire) != 0; ++spin)
            if (spin > 2000) std::this_thread::yield();
        if (is_short_.exchange(false)) throw std::bad_alloc();
    }

    // Threads are never joined: the interpreter may be gone when static objects go.
    static Pool& shared() {
        static Pool* pool = new Pool;
        return *pool;
    }

   private:
    bool same_process() {
        int now = static_cast<int>(getpid());
        if (process_ == 0) process_ = now;
        return process_ == now;
    }

    // How many of `count` threads there are; a container may allow no more.
    int threads_up_to(int count) {
        try {
            while (static_cast<int>(workers_.size()) < count) {
                int index = static_cast<int>(workers_.size());
                workers_.emplace_back([this, index] { wait_for_work(index); });
            }
        } catch (const std::exception&) {  // no more threads, or no memory for them
            return static_cast<int>(workers_.size());
        }
        return count;
    }

    void take_blocks() {
        try {
            for (;;) {
                int64_t start = next_.fetch_add(step_, std::memory_order_relaxed);
                if (start >= total_) return;
                work_(start, start + step_ < total_ ? start + step_ : total_, context_);
            }
        } catch (const std::bad_alloc&) {
            is_short_ = true;
        }
    }

    void wait_for_work(int index) {
        uint64_t seen = 0;
        for (;;) {
            for (int spin = 0; spin < 4000 && round_.load(std::memory_order_acquire) == seen; ++spin) _mm_pause();
            bool mine;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                start_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
                seen = round_.load(std::memory_order_relaxed);
                mine = index < wanted_;
            }
            if (!mine) continue;
            take_blocks();
            running_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::mutex owner_, mutex_;
    std::condition_variable start_;
    std::vector<std::thread> workers_;
    std::atomic<uint64_t> round_{0};
    std::atomic<int64_t> next_{0};
    std::atomic<int> running_{0};
    std::atomic<bool> is_short_{false};  // of memory
    Work work_ = nullptr;
    void* context_ = nullptr;
    int64_t total_ = 0, step_ = 1;
    int wanted_ = 0, process_ = 0;
};

}  // namespace

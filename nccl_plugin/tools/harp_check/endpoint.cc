#include "nccl_plugin/tools/harp_check/endpoint.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>

namespace taco {
namespace harp {
namespace {

constexpr size_t kCanaryBytes = 64;
constexpr unsigned char kCanary = 0x5c;
constexpr int kUntouched = -77;  // in an array of sizes
constexpr size_t kMostSizes = 16;

// The bytes of a message: other ones for each seed, message and place.
void Fill(uint64_t seed, size_t message, unsigned char* out, size_t size) {
  uint64_t state = seed * 0x9e3779b97f4a7c15 + (message + 1) * 0xd1b54a32d192ed03;
  for (size_t at = 0; at < size; at += 8) {
    state += 0x9e3779b97f4a7c15;
    uint64_t word = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
    word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
    word ^= word >> 31;
    std::memcpy(out + at, &word, std::min<size_t>(8, size - at));
  }
}

// The first byte that differs from what was sent, or `size`.
size_t FirstDifference(uint64_t seed, size_t message, const unsigned char* bytes, size_t size) {
  std::vector<unsigned char> expected(size);
  Fill(seed, message, expected.data(), size);
  if (size == 0 || std::memcmp(bytes, expected.data(), size) == 0) return size;
  return static_cast<size_t>(std::mismatch(expected.begin(), expected.end(), bytes).first -
                             expected.begin());
}

}  // namespace

Link Connect(Net* sender, Net* receiver, int dev, int to) {
  alignas(16) unsigned char handle[NCCL_NET_HANDLE_MAXSIZE] = {};
  void* listen = nullptr;
  Expect(receiver->Listen(to, handle, &listen), "listen");
  if (listen == nullptr) Fail("listen gave NULL");
  Link link;
  Side* side = NewSide("connecting", 0);
  std::thread connecting([&] {
    Enter(side);
    alignas(16) unsigned char copy[NCCL_NET_HANDLE_MAXSIZE];
    std::memcpy(copy, handle, sizeof(copy));
    while (link.send == nullptr) {
      Expect(sender->Connect(dev, copy, &link.send), "connect");
      if (link.send == nullptr) sched_yield();
    }
    Enter(nullptr);
  });
  while (link.recv == nullptr) {
    Expect(receiver->Accept(listen, &link.recv), "accept");
    if (link.recv == nullptr) sched_yield();
  }
  connecting.join();
  Expect(receiver->CloseListen(listen), "closeListen");
  return link;
}

void Close(Net* sender, Net* receiver, const Link& link) {
  Expect(sender->CloseSend(link.send), "closeSend");
  Expect(receiver->CloseRecv(link.recv), "closeRecv");
}

Plan OfSizes(const std::vector<size_t>& sizes) {
  Plan plan;
  for (size_t size : sizes) plan.messages.push_back({size, size});
  return plan;
}

Endpoint::Endpoint(Net* net, void* comm, const Plan& plan, const std::string& label, int after_ms)
    : net_(net),
      comm_(comm),
      plan_(plan),
      side_(NewSide(label, static_cast<int>(plan.messages.size()))),
      begin_us_(NowUs() + int64_t{after_ms} * 1000),
      random_(static_cast<uint32_t>(plan.seed)) {
  size_t end = 0;
  for (const Message& message : plan_.messages) {
    offsets_.push_back(end + kCanaryBytes + plan_.skew);
    end = (offsets_.back() + message.room + 2 * kCanaryBytes) / kCanaryBytes * kCanaryBytes;
  }
  block_.assign(end + kCanaryBytes, kCanary);
}

void Endpoint::Register() {
  const auto add = [this](unsigned char* data, size_t size) {
    void* handle = nullptr;
    Expect(net_->RegMr(comm_, data, size, &handle), "regMr");
    handles_.push_back(handle);
  };
  if (!plan_.register_each) return add(block_.data(), block_.size());
  for (size_t i = 0; i < plan_.messages.size(); ++i) {
    add(Buffer(i), std::max<size_t>(1, plan_.messages[i].room));
  }
}

bool Endpoint::Step() {
  const size_t total = plan_.messages.size();
  if (done_ == total && under_way_.empty()) return true;
  if (NowUs() < begin_us_) return false;
  Enter(side_);
  while (posted_ < total && under_way_.size() < plan_.depth) {
    Request request = {nullptr, posted_};
    if (!Post(&request)) break;
    under_way_.push_back(request);
    posted_ += PerRequest();
    side_->posted = static_cast<int>(posted_);
  }
  std::vector<Request> order = under_way_;
  if (plan_.polling == Polling::kLastFirst) std::reverse(order.begin(), order.end());
  if (plan_.polling == Polling::kRandom) std::shuffle(order.begin(), order.end(), random_);
  for (const Request& request : order) {
    int done = 0;
    std::array<int, kMostSizes> sizes;
    sizes.fill(kUntouched);
    Expect(net_->Test(request.request, &done, plan_.null_sizes ? nullptr : sizes.data()), "test");
    if (done == 0) continue;
    under_way_.erase(std::find_if(under_way_.begin(), under_way_.end(), [&](const Request& each) {
      return each.request == request.request && each.first == request.first;
    }));
    if (request.is_flush) continue;
    for (size_t i = std::max<size_t>(1, PerRequest()); i < kMostSizes; ++i) {
      if (sizes[i] != kUntouched) Fail("test wrote sizes[%zu], beyond the receive's n", i);
    }
    done_ += PerRequest();
    side_->done = static_cast<int>(done_);
    Done(request, plan_.null_sizes ? nullptr : sizes.data());
  }
  Enter(nullptr);
  return done_ == total && under_way_.empty();
}

void Endpoint::Finish() {
  Enter(side_);
  for (void* handle : handles_) Expect(net_->DeregMr(comm_, handle), "deregMr");
  handles_.clear();
  for (size_t i = 0; i < plan_.messages.size(); ++i) CheckCanaries(i);
  Enter(nullptr);
}

void Endpoint::CheckCanaries(size_t message) {
  const unsigned char* begin = Buffer(message);
  const unsigned char* end = begin + plan_.messages[message].room;
  for (size_t i = 0; i < kCanaryBytes; ++i) {
    if (begin[-1 - static_cast<ptrdiff_t>(i)] != kCanary) {
      Fail("message %zu: a byte %zu before its buffer was written", message, i + 1);
    }
    if (end[i] != kCanary) Fail("message %zu: a byte %zu after its buffer was written", message, i);
  }
}

Sender::Sender(Net* net, void* comm, const Plan& plan, const std::string& label)
    : Endpoint(net, comm, plan, label, plan.send_after_ms) {
  for (size_t i = 0; i < plan.messages.size(); ++i) {
    Fill(plan.seed, i, Buffer(i), plan.messages[i].size);
  }
  Register();
}

bool Sender::Post(Request* request) {
  const size_t i = plan_.send_order.empty() ? posted_ : plan_.send_order[posted_];
  request->first = i;
  const Message& message = plan_.messages[i];
  Expect(net_->Isend(comm_, Buffer(i), message.size, message.tag, Handle(i), &request->request),
         "isend");
  return request->request != nullptr;
}

void Sender::Done(const Request& request, const int*) {
  const size_t size = plan_.messages[request.first].size;
  const size_t at = FirstDifference(plan_.seed, request.first, Buffer(request.first), size);
  if (at != size) Fail("message %zu: byte %zu of the sender's buffer changed", request.first, at);
}

Receiver::Receiver(Net* net, void* comm, const Plan& plan, const std::string& label)
    : Endpoint(net, comm, plan, label, plan.receive_after_ms) {
  // No byte is right before it has come.
  for (size_t i = 0; i < plan.messages.size(); ++i) {
    unsigned char* bytes = Buffer(i);
    Fill(plan.seed, i, bytes, plan.messages[i].size);
    for (size_t at = 0; at < plan.messages[i].size; ++at) bytes[at] = ~bytes[at];
  }
  Register();
}

bool Receiver::Post(Request* request) {
  std::array<void*, 8> data, handles;
  std::array<size_t, 8> sizes;
  std::array<int, 8> tags;
  for (size_t i = 0; i < plan_.group; ++i) {
    data[i] = Buffer(posted_ + i);
    handles[i] = Handle(posted_ + i);
    sizes[i] = plan_.messages[posted_ + i].room;
    tags[i] = plan_.messages[posted_ + i].tag;
  }
  void* const optional = reinterpret_cast<void*>(intptr_t{NCCL_NET_OPTIONAL_RECV_COMPLETION});
  if (plan_.optional) request->request = optional;
  Expect(net_->Irecv(comm_, static_cast<int>(plan_.group), data.data(), sizes.data(), tags.data(),
                     handles.data(), &request->request),
         "irecv");
  if (request->request == optional) {
    Fail("irecv with optional completion left (void*)1 in place of a request");
  }
  return request->request != nullptr;
}

void Receiver::Done(const Request& request, const int* sizes) {
  for (size_t i = 0; i < plan_.group; ++i) {
    Check(request.first + i, sizes == nullptr || plan_.optional ? nullptr : &sizes[i]);
  }
  if (plan_.flush) Flush(request.first, plan_.group);
}

void Receiver::Check(size_t message, const int* size) {
  const Message& expected = plan_.messages[message];
  if (size != nullptr && *size != static_cast<int>(expected.size)) {
    Fail("message %zu: test gave size %d, %zu bytes were sent into a buffer of %zu", message, *size,
         expected.size, expected.room);
  }
  size_t at;
  // With optional completion the bytes may come after the request's end.
  while ((at = FirstDifference(plan_.seed, message, Buffer(message), expected.size)) !=
             expected.size &&
         plan_.optional) {
    sched_yield();
  }
  if (at != expected.size) {
    Fail("message %zu of %zu bytes: test gave done, and byte %zu is not what was sent", message,
         expected.size, at);
  }
  CheckCanaries(message);
}

void Receiver::Flush(size_t first, size_t n) {
  std::array<void*, 8> data, handles;
  std::array<int, 8> sizes;
  for (size_t i = 0; i < n; ++i) {
    data[i] = Buffer(first + i);
    handles[i] = Handle(first + i);
    sizes[i] = static_cast<int>(plan_.messages[first + i].size);
  }
  // NCCL has nothing to flush then.
  if (std::all_of(sizes.begin(), sizes.begin() + n, [](int size) { return size == 0; })) return;
  Request flush = {nullptr, first, true};
  Expect(net_->Iflush(comm_, static_cast<int>(n), data.data(), sizes.data(), handles.data(),
                      &flush.request),
         "iflush");
  if (flush.request != nullptr) under_way_.push_back(flush);
}

void RunThreads(const std::vector<std::vector<Endpoint*>>& threads) {
  std::vector<std::thread> running;
  for (const std::vector<Endpoint*>& endpoints : threads) {
    running.emplace_back([&endpoints] {
      for (bool all = false; !all; sched_yield()) {
        all = true;
        for (Endpoint* endpoint : endpoints) all &= endpoint->Step();
      }
      for (Endpoint* endpoint : endpoints) endpoint->Finish();
    });
  }
  for (std::thread& thread : running) thread.join();
}

void Transfer(Net* sender, Net* receiver, const Link& link, const Plan& plan) {
  Sender sends(sender, link.send, plan, "sender");
  Receiver receives(receiver, link.recv, plan, "receiver");
  RunThreads({{&sends}, {&receives}});
}

}  // namespace harp
}  // namespace taco

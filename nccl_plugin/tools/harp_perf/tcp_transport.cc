#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <vector>

#include "nccl_plugin/tools/harp_perf/transport.h"

namespace taco {
namespace harp {
namespace {

constexpr size_t kLeastChunk = 65536;  // of a message on a socket, as NCCL's own transport has it

struct Task {
  uint8_t* bytes = nullptr;
  size_t size = 0;
  bool used = false;
  // The size goes ahead on the control socket, in 4 bytes.
  uint32_t header = 0;
  size_t header_done = 0;
  bool cut = false;       // into parts, one a socket
  size_t parts_open = 0;  // not wholly moved
};

struct Part {
  Task* task;
  uint8_t* bytes;
  size_t size;
  size_t done;
};

class TcpLine : public Line {
 public:
  TcpLine(std::vector<int> sockets, bool sends)
      : sends_(sends), sockets_(std::move(sockets)), parts_(sockets_.size()) {
    for (const int socket : sockets_) {
      fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
      const int on = 1;
      setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
  }
  ~TcpLine() override {
    for (const int socket : sockets_) close(socket);
  }

  void* Send(const void* bytes, size_t size) override {
    return Begin(static_cast<uint8_t*>(const_cast<void*>(bytes)), size);
  }
  void* Receive(void* bytes, size_t size) override {
    return Begin(static_cast<uint8_t*>(bytes), size);
  }

  void Prepare(const void*, size_t) override {}
  void Forget() override {}

  // What a socket takes and gives the kernel copies, once.
  std::optional<Costs> costs() const override { return costs_; }

  bool Done(void* request) override {
    Progress();
    Task* task = static_cast<Task*>(request);
    if (!task->cut || task->parts_open != 0) return false;
    task->used = false;
    return true;
  }

 private:
  static constexpr int kTasks = 64;

  Task* Begin(uint8_t* bytes, size_t size) {
    for (Task& task : tasks_) {
      if (task.used) continue;
      task = Task();
      task.used = true;
      task.bytes = bytes;
      task.size = size;
      task.header = static_cast<uint32_t>(size);
      waiting_.push_back(&task);
      Progress();
      return &task;
    }
    return nullptr;
  }

  // Bytes moved; 0: none now.
  size_t Transfer(int socket, void* bytes, size_t size) {
    const ssize_t moved = sends_ ? send(socket, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT)
                                 : recv(socket, bytes, size, MSG_DONTWAIT);
    ++costs_.system_calls;
    if (moved > 0) {
      costs_.kernel_copied_bytes += static_cast<uint64_t>(moved);
      return static_cast<size_t>(moved);
    }
    if (moved < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    Die(moved == 0 ? "TCP: the peer has closed" : std::string("TCP: ") + std::strerror(errno));
  }

  void Progress() {
    while (!waiting_.empty()) {
      Task* task = waiting_.front();
      auto* header = reinterpret_cast<uint8_t*>(&task->header);
      const size_t left = sizeof(task->header) - task->header_done;
      const size_t moved = Transfer(sockets_[0], header + task->header_done, left);
      task->header_done += moved;
      if (moved < left) break;
      task->size = task->header;
      Cut(task);
      waiting_.pop_front();
    }
    for (size_t index = 1; index < sockets_.size(); ++index) {
      std::deque<Part>& parts = parts_[index];
      while (!parts.empty()) {
        Part& part = parts.front();
        part.done += Transfer(sockets_[index], part.bytes + part.done, part.size - part.done);
        if (part.done < part.size) break;
        --part.task->parts_open;
        parts.pop_front();
      }
    }
  }

  void Cut(Task* task) {
    const size_t lanes = sockets_.size() - 1;
    const size_t chunk = std::max(kLeastChunk, (task->size + lanes - 1) / lanes);
    task->cut = true;
    for (size_t offset = 0; offset < task->size; offset += chunk) {
      const size_t size = std::min(chunk, task->size - offset);
      parts_[1 + lane_].push_back({task, task->bytes + offset, size, 0});
      lane_ = (lane_ + 1) % lanes;
      ++task->parts_open;
    }
  }

  const bool sends_;
  std::vector<int> sockets_;  // control, then data
  std::vector<std::deque<Part>> parts_;
  std::deque<Task*> waiting_;  // whose sizes were not exchanged
  Task tasks_[kTasks];
  size_t lane_ = 0;
  Costs costs_;
};

class TcpTransport : public Transport {
 public:
  TcpTransport(int sockets, const std::string& address) : sockets_(sockets) {
    address_.sin_family = AF_INET;
    if (inet_pton(AF_INET, address.c_str(), &address_.sin_addr) != 1) {
      Die(address + " is no numeric IPv4 address");
    }
  }

  std::string Listen() override {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in bound = address_;
    socklen_t size = sizeof(bound);
    if (bind(listener_, reinterpret_cast<sockaddr*>(&bound), size) != 0 ||
        listen(listener_, 64) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
      Die(std::string("TCP cannot listen: ") + std::strerror(errno));
    }
    std::string handle(128, 0);
    std::memcpy(handle.data(), &bound, sizeof(bound));
    return handle;
  }

  std::unique_ptr<Line> Accept() override {
    std::vector<int> sockets(sockets_ + 1);
    for (size_t count = 0; count < sockets.size(); ++count) {
      const int made = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      uint8_t index;
      if (made < 0 || recv(made, &index, 1, MSG_WAITALL) != 1 || index >= sockets.size()) {
        Die("TCP cannot accept");
      }
      sockets[index] = made;
    }
    close(listener_);
    return std::make_unique<TcpLine>(sockets, false);
  }

  std::unique_ptr<Line> Connect(const std::string& handle) override {
    sockaddr_in peer;
    std::memcpy(&peer, handle.data(), sizeof(peer));
    std::vector<int> sockets;
    for (int index = 0; index <= sockets_; ++index) {
      sockets.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const auto byte = static_cast<uint8_t>(index);
      if (connect(sockets.back(), reinterpret_cast<sockaddr*>(&peer), sizeof(peer)) != 0 ||
          send(sockets.back(), &byte, 1, MSG_NOSIGNAL) != 1) {
        Die(std::string("TCP cannot connect: ") + std::strerror(errno));
      }
    }
    return std::make_unique<TcpLine>(sockets, true);
  }

 private:
  const int sockets_;
  sockaddr_in address_ = {};
  int listener_ = -1;
};

}  // namespace

std::unique_ptr<Transport> OpenTcp(int sockets, const std::string& address) {
  return std::make_unique<TcpTransport>(sockets, address);
}

}  // namespace harp
}  // namespace taco

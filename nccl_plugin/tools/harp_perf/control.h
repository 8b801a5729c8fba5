// The TCP connection of the two programs: what is measured, and what the other side saw.
#ifndef NCCL_PLUGIN_TOOLS_HARP_PERF_CONTROL_H_
#define NCCL_PLUGIN_TOOLS_HARP_PERF_CONTROL_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "nccl_plugin/tools/harp_perf/transport.h"

namespace taco {
namespace harp {

// Lines of text, and blocks of known size.
class Control {
 public:
  explicit Control(int socket) : socket_(socket) {
    const int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }

  void Put(const std::string& bytes) const {
    if (send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(bytes.size())) {
      Die("the other side is gone");
    }
  }
  std::string Get(size_t size) const {
    std::string bytes(size, 0);
    if (recv(socket_, bytes.data(), size, MSG_WAITALL) != static_cast<ssize_t>(size)) {
      Die("the other side is gone");
    }
    return bytes;
  }
  void PutNumbers(const std::vector<double>& numbers) const {
    std::string line;
    for (const double number : numbers) line += (line.empty() ? "" : " ") + std::to_string(number);
    PutLine(line);
  }
  std::vector<double> GetNumbers() const {
    std::istringstream line(GetLine());
    std::vector<double> numbers;
    for (double number; line >> number;) numbers.push_back(number);
    return numbers;
  }
  // As many on both sides: each gets the other's.
  std::vector<int64_t> Swap(const std::vector<int64_t>& mine) const {
    const size_t bytes = mine.size() * sizeof(int64_t);
    Put({reinterpret_cast<const char*>(mine.data()), bytes});
    std::vector<int64_t> theirs(mine.size());
    std::memcpy(theirs.data(), Get(bytes).data(), bytes);
    return theirs;
  }
  void PutLine(const std::string& line) const { Put(line + "\n"); }
  std::string GetLine() const {
    std::string line;
    for (;;) {
      const std::string next = Get(1);
      if (next == "\n") return line;
      line += next;
    }
  }
  void Meet() const {
    PutLine("here");
    GetLine();
  }
  std::string Local() const {
    sockaddr_in address;
    socklen_t size = sizeof(address);
    getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    char text[INET_ADDRSTRLEN];
    return inet_ntop(AF_INET, &address.sin_addr, text, sizeof(text));
  }

 private:
  int socket_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_PERF_CONTROL_H_

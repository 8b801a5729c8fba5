// An AF_XDP socket: one queue of an interface, and the memory that its frames are in.
//
//   memory (UMEM)   | frames to receive | frames to send |      each a page
//   rings           fill --> kernel --> receive                 of places in the memory
//                   send --> kernel --> done
//
// The rings are the kernel's, shared by mmap; each has a side that writes and one that reads.
// Straight system calls (linux/if_xdp.h).
#ifndef NCCL_PLUGIN_IO_XDP_SOCKET_H_
#define NCCL_PLUGIN_IO_XDP_SOCKET_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nccl_plugin/io/frame_device.h"

namespace taco {
namespace harp {

class XdpSocket {
 public:
  static constexpr size_t kFrameBytes = 4096;
  static constexpr size_t kHeadroom = 256;  // that XDP keeps in front of what is received
  static constexpr size_t kMaxFrame = kFrameBytes - kHeadroom;

  struct Options {
    int interface = 0;  // its index
    std::string name;
    uint32_t queue = 0;
    uint32_t receive_frames = 8192;  // powers of two
    uint32_t send_frames = 2048;
    bool copies = false;  // the driver's zero-copy is not to be asked for
  };

  // What needs privileges: a socket with memory, and the queue. Its owner closes the descriptors.
  struct Made {
    int socket = -1;
    int memory = -1;  // of a memfd; -1: it is this process's own
    bool zero_copy = false;
    bool busy_poll = false;
  };

  // Null: `error` names the cause and the remedy.
  static std::unique_ptr<XdpSocket> Open(const Options& options, std::string* error);
  // The same in two halves, by two processes: what the first one makes, the second one uses. Make
  // gives nothing where it fails; Use takes the descriptors, however it ends.
  static bool Make(const Options& options, Made* made, std::string* error);
  static std::unique_ptr<XdpSocket> Use(const Options& options, const Made& made,
                                        std::string* error);
  ~XdpSocket();
  XdpSocket(const XdpSocket&) = delete;
  XdpSocket& operator=(const XdpSocket&) = delete;

  int descriptor() const { return socket_; }
  bool zero_copy() const { return zero_copy_; }
  bool busy_poll() const { return busy_poll_; }

  // As FrameDevice's. A handle is a place in the memory.
  size_t Receive(FrameDevice::Frame* frames, size_t most, PacketIo::Stats* stats);
  void GiveBack(const uint64_t* handles, size_t count);
  size_t Send(const FrameDevice::Pieces* frames, size_t count, PacketIo::Stats* stats);

 private:
  // One of the four, of places (fill, done) or of descriptions of frames (receive, send).
  struct Ring {
    uint32_t* producer = nullptr;
    uint32_t* consumer = nullptr;
    uint32_t* flags = nullptr;
    uint8_t* entries = nullptr;
    uint32_t mask = 0;
    void* map = nullptr;
    size_t map_bytes = 0;
  };

  explicit XdpSocket(const Options& options) : options_(options) {}
  size_t memory_bytes() const {
    return (options_.receive_frames + options_.send_frames) * kFrameBytes;
  }
  // By privilege.
  bool Begin(int memory, std::string* error);
  bool MapMemory(int memory, std::string* error);
  bool RegisterMemory(std::string* error);
  bool SizeRings(std::string* error);
  // By whoever uses it.
  bool MapRings(std::string* error);
  void FillRings();
  bool Map(const void* offsets, uint64_t at, size_t entry_bytes, uint32_t entries, Ring* ring);
  bool Bind(std::string* error);
  void AskForBusyPoll();
  void TakeDone();
  void Wake(PacketIo::Stats* stats);

  const Options options_;
  int socket_ = -1;
  uint8_t* memory_ = nullptr;
  Ring fill_, done_, receive_, send_;
  std::vector<uint64_t> free_;  // places to send from
  bool zero_copy_ = false;
  bool busy_poll_ = false;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_XDP_SOCKET_H_

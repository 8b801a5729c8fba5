// A kind of PacketIo around another: all goes through, but for what a subclass does otherwise.
#ifndef NCCL_PLUGIN_IO_PACKET_IO_AROUND_H_
#define NCCL_PLUGIN_IO_PACKET_IO_AROUND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "nccl_plugin/io/packet_io.h"

namespace taco {
namespace harp {

class PacketIoAround : public PacketIo {
 public:
  explicit PacketIoAround(std::unique_ptr<PacketIo> io) : io_(std::move(io)) {}

  size_t Send(const Outgoing* packets, size_t count) override { return io_->Send(packets, count); }
  std::unique_ptr<Memory> Register(const void* bytes, size_t size) override {
    return io_->Register(bytes, size);
  }
  size_t Receive(Incoming* packets, size_t most) override { return io_->Receive(packets, most); }
  size_t max_packet() const override { return io_->max_packet(); }
  uint16_t paths() const override { return io_->paths(); }
  Endpoint local(uint16_t path) const override { return io_->local(path); }
  int descriptor() const override { return io_->descriptor(); }
  const Stats& stats() const override { return io_->stats(); }
  const std::string& notes() const override { return io_->notes(); }

 protected:
  const std::unique_ptr<PacketIo> io_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_PACKET_IO_AROUND_H_

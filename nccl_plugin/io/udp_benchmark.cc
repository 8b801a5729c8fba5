// Packets a second over loopback, one thread that sends and receives in turn.
#include <benchmark/benchmark.h>
#include <poll.h>

#include <memory>
#include <string>
#include <vector>

#include "nccl_plugin/io/udp.h"

namespace taco {
namespace harp {
namespace {

constexpr size_t kBatch = 64;

std::unique_ptr<PacketIo> Open(bool segmentation, benchmark::State* state) {
  UdpOptions options;
  options.address = "127.0.0.1";
  options.paths = 1;
  options.send_segmentation = segmentation;
  options.receive_segmentation = segmentation;
  std::string error;
  std::unique_ptr<PacketIo> io = OpenUdp(options, &error);
  if (io == nullptr) state->SkipWithError(error.c_str());
  return io;
}

// size of a packet, whether with GSO and GRO
void BM_Loopback(benchmark::State& state) {
  const auto size = static_cast<uint32_t>(state.range(0));
  const auto sender = Open(state.range(1) != 0, &state);
  const auto receiver = Open(state.range(1) != 0, &state);
  if (sender == nullptr || receiver == nullptr) return;
  const std::vector<uint8_t> bytes(size, 7);
  PacketIo::Outgoing packet;
  packet.head = bytes.data();
  packet.head_bytes = size < 40 ? size : 40;
  packet.body = bytes.data() + packet.head_bytes;
  packet.body_bytes = size - packet.head_bytes;
  packet.to = receiver->local(0);
  const std::vector<PacketIo::Outgoing> packets(kBatch, packet);
  std::vector<PacketIo::Incoming> came(kBatch);
  for (auto _ : state) {
    const size_t sent = sender->Send(packets.data(), packets.size());
    size_t received = 0;
    while (received < sent) {
      const size_t got = receiver->Receive(came.data(), came.size());
      received += got;
      pollfd waiting = {receiver->descriptor(), POLLIN, 0};
      if (got == 0 && poll(&waiting, 1, 10) == 0) break;  // lost
    }
  }
  const auto& out = sender->stats();
  const auto& in = receiver->stats();
  const auto packets_in = static_cast<double>(in.packets_received);
  state.SetItemsProcessed(static_cast<int64_t>(in.packets_received));
  state.SetBytesProcessed(static_cast<int64_t>(in.bytes_received));
  state.counters["calls_per_packet"] =
      static_cast<double>(out.send_calls + in.receive_calls) / packets_in;
  state.counters["lost"] = static_cast<double>(out.packets_sent - in.packets_received);
}

BENCHMARK(BM_Loopback)->ArgNames({"bytes", "gso"})->ArgsProduct({{1472, 8}, {0, 1}});

}  // namespace
}  // namespace harp
}  // namespace taco

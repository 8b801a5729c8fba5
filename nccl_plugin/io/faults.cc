#include "nccl_plugin/io/faults.h"

#include <algorithm>
#include <cstdlib>
#include <random>
#include <sstream>
#include <utility>
#include <vector>

#include "nccl_plugin/io/packet_io_around.h"

namespace taco {
namespace harp {
namespace {

class FaultyIo final : public PacketIoAround {
 public:
  FaultyIo(std::unique_ptr<PacketIo> io, const Faults& faults)
      : PacketIoAround(std::move(io)), faults_(faults), random_(faults.seed) {
    Draw();
  }

  size_t Send(const Outgoing* packets, size_t count) override {
    size_t done = 0;
    while (done < count) {
      // Those before the next fault go as they are, all at once.
      const size_t clean = std::min<uint64_t>(count - done, until_fault_);
      if (clean != 0) {
        const size_t sent = io_->Send(packets + done, clean);
        done += sent;
        until_fault_ -= sent;
        if (sent < clean) return done;
        continue;
      }
      if (!SendFaulty(packets[done])) return done;
      ++done;
      Draw();
    }
    return done;
  }

 private:
  // How many packets come before the next fault.
  void Draw() {
    const double part = faults_.loss + faults_.duplicate + faults_.corrupt;
    until_fault_ = std::geometric_distribution<uint64_t>(std::min(part, 1.0 - 1e-9))(random_);
  }

  // False: the queue is full.
  bool SendFaulty(const Outgoing& packet) {
    const double part = faults_.loss + faults_.duplicate + faults_.corrupt;
    const double which = std::uniform_real_distribution<>(0, part)(random_);
    if (which < faults_.loss) return true;
    if (which < faults_.loss + faults_.duplicate) {
      if (io_->Send(&packet, 1) == 0) return false;
      io_->Send(&packet, 1);
      return true;
    }
    changed_.assign(packet.head, packet.head + packet.head_bytes);
    changed_.insert(changed_.end(), packet.body, packet.body + packet.body_bytes);
    const uint64_t bit = random_() % (8 * changed_.size());
    changed_[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    Outgoing other = packet;
    other.head = changed_.data();
    other.head_bytes = static_cast<uint32_t>(changed_.size());
    other.body = nullptr;
    other.body_bytes = 0;
    return io_->Send(&other, 1) == 1;
  }

  const Faults faults_;
  std::mt19937_64 random_;
  uint64_t until_fault_ = 0;
  std::vector<uint8_t> changed_;
};

}  // namespace

bool ParseFaults(const std::string& text, Faults* faults, std::string* error) {
  *faults = Faults();
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    const size_t equals = part.find('=');
    const std::string name = part.substr(0, equals);
    char* end = nullptr;
    const char* number = equals == std::string::npos ? "" : part.c_str() + equals + 1;
    const double value = std::strtod(number, &end);
    const bool read = *number != 0 && *end == 0 && value >= 0;
    if (read && name == "seed") {
      faults->seed = static_cast<uint64_t>(value);
    } else if (read && value <= 1 && name == "loss") {
      faults->loss = value;
    } else if (read && value <= 1 && name == "duplicate") {
      faults->duplicate = value;
    } else if (read && value <= 1 && name == "corrupt") {
      faults->corrupt = value;
    } else {
      *error = part + " is none of loss=, duplicate=, corrupt= (parts of 1) and seed=";
      return false;
    }
  }
  if (faults->loss + faults->duplicate + faults->corrupt > 1) {
    *error = text + " is more than all packets";
    return false;
  }
  return true;
}

std::unique_ptr<PacketIo> WithFaults(std::unique_ptr<PacketIo> io, const Faults& faults) {
  if (!faults.any()) return io;
  return std::make_unique<FaultyIo>(std::move(io), faults);
}

}  // namespace harp
}  // namespace taco

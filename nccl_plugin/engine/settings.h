// What users may set, all in one place: environment variables, read once.
#ifndef NCCL_PLUGIN_ENGINE_SETTINGS_H_
#define NCCL_PLUGIN_ENGINE_SETTINGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nccl_plugin/io/aead.h"

namespace taco {
namespace harp {

struct Settings {
  std::string io = "auto";                       // HARP_IO: auto (which is udp), udp, afxdp or dpdk
  std::string helper = "/run/harp-helper.sock";  // HARP_HELPER: of a process that opens AF_XDP
  std::string dpdk_args;                         // HARP_DPDK_ARGS: of DPDK's EAL, by spaces
  std::string dpdk_address;          // HARP_DPDK_ADDRESS: 10.9.0.1/24 or 10.9.0.1/24,GATEWAY of
                                     // each port of DPDK, by semicolons
  int dpdk_mtu = 0;                  // HARP_DPDK_MTU: of these ports; 0: their own
  bool dpdk_zero_copy = false;       // HARP_DPDK_ZERO_COPY: 1: messages are sent from where they
                                     // lie, if the port can
  std::string interfaces;            // HARP_IFACE: names or beginnings, by commas; "=name" exactly;
                                     // "^..." all but these. Empty: NCCL_SOCKET_IFNAME, or all
  int paths = 4;                     // HARP_PATHS: 1 to 64, of a connection
  int engines = 0;                   // HARP_ENGINES: threads that poll; 0: who asks does the work
  double dead_seconds = 30;          // HARP_DEAD_SECONDS: silence after which a peer is given up
  double connect_seconds = 10;       // HARP_CONNECT_SECONDS: without an answer from a listener
  bool checksum = true;              // HARP_CHECKSUM: 0 leaves the CRC32C to UDP's own, and to
                                     // the tag of encrypted packets, for which 0 is the default
  std::optional<AeadKey> key;        // HARP_KEY, or HARP_KEY_FILE: packets are encrypted
  std::string key_problem;           // why there is none although it was asked for: no connection
  bool segmentation = true;          // HARP_SEGMENTATION: 0: a packet at a time (no GSO, no GRO)
  std::string congestion = "swift";  // HARP_CONGESTION: swift or cubic
  int64_t credit_bytes = 0;          // HARP_CREDIT_BYTES: on their way to all receivers of an
                                     // interface where they are many; 0: by the interface's speed
  int queue_us = 100;                // HARP_QUEUE_US: what queues may add to a round trip
  std::string faults;                // HARP_FAULTS: for tests, as ParseFaults reads it
  std::string stats;                 // HARP_STATS: a file for statistics; %p, %h: process, host
  double stats_seconds = 5;          // HARP_STATS_SECONDS: between two lines of a connection
  uint32_t socket_bytes = 4u << 20;  // HARP_SOCKET_BYTES: of a socket's queue in the kernel

  // What could not be read, with its remedy: a sentence each. The default is used there.
  std::vector<std::string> problems;

  // "HARP_PATHS=8 HARP_IO=auto ...", for a log.
  std::string ToText() const;
};

// `get` is as getenv.
Settings ReadSettings(const char* (*get)(const char* name));

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_SETTINGS_H_

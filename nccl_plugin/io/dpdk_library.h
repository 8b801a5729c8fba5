// What libharp-dpdk.so gives to the plugin: all that needs DPDK's headers and libraries, so that
// the plugin itself needs neither. It stands beside the plugin, which opens it when dpdk is asked
// for.
//
// A table of C functions: the two are linked on their own, each with its C++ library inside.
// `error` has room for `error_bytes`, and gets a sentence with cause and remedy where a function
// fails. Threads as FrameDevice says.
#ifndef NCCL_PLUGIN_IO_DPDK_LIBRARY_H_
#define NCCL_PLUGIN_IO_DPDK_LIBRARY_H_

#include <cstddef>
#include <cstdint>

#include "nccl_plugin/io/frame_device.h"

namespace taco {
namespace harp {

inline constexpr uint32_t kDpdkLibraryVersion = 4;

// How often a driver of DPDK copies each byte, and the kernel below it.
struct DpdkCopies {
  uint8_t user;
  uint8_t kernel;
};

// Of a port of DPDK (an ethdev).
struct DpdkFacts {
  char name[64];
  char driver[64];
  uint8_t mac[6];
  uint16_t mtu;
  uint32_t speed_mbps;  // 0: not known
  uint32_t queues;      // each way
  uint32_t frames;      // of a queue: that may be with receivers
  DpdkCopies sent;
  DpdkCopies received;
};

struct DpdkLibrary {
  uint32_t version;
  // Starts DPDK (its EAL), once a process, with arguments separated by spaces; returns how many
  // ports there are, or -1.
  int (*begin)(const char* arguments, char* error, size_t error_bytes);
  // What is known of a port before it is opened.
  bool (*look)(int index, DpdkFacts* facts);
  // Makes a port ready; null if that fails. `mtu`: 0 for the port's own. `queues`: so many at most,
  // if the driver leaves the choice.
  void* (*open)(int index, uint16_t mtu, uint16_t queues, DpdkFacts* facts, char* error,
                size_t error_bytes);
  void (*close)(void* port);
  size_t (*receive)(void* port, size_t queue, FrameDevice::Frame* frames, size_t most);
  void (*give_back)(void* port, const uint64_t* handles, size_t count);
  uint8_t* (*borrow)(void* port, size_t queue, size_t size, uint64_t* handle);
  // As FrameDevice's.
  void* (*add_memory)(void* port, const void* bytes, size_t size);
  bool (*remove_memory)(void* port, void* memory);
  // `copied`: so many bytes of the packets it has copied itself are added.
  size_t (*send)(void* port, size_t queue, const FrameDevice::Pieces* frames, size_t count,
                 uint64_t* copied);
};

}  // namespace harp
}  // namespace taco

// The one symbol that the library exports. Null: it was built where there was no DPDK.
extern "C" const taco::harp::DpdkLibrary* taco_harp_dpdk();

#endif  // NCCL_PLUGIN_IO_DPDK_LIBRARY_H_

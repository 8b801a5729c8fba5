// Start here. NCCL's net plugin interface, versions 6 to 12: the tables of functions through which
// NCCL speaks to a network, in our own words. Read net_v6.h, then what each version changes.
//
// A plugin exports one table for each version, a constant named ncclNetPlugin_v6 to _v12 with C
// linkage; NCCL takes the newest one that it knows. What a version leaves as it was is an alias of
// the older version's type, so one function may serve the tables of both.
//
// Offsets and sizes are those of x86-64 Linux. net_layout_test compares them with NCCL's.
#ifndef NCCL_PLUGIN_ABI_NET_H_
#define NCCL_PLUGIN_ABI_NET_H_

#include "nccl_plugin/abi/nccl_types.h"
#include "nccl_plugin/abi/net_v10.h"
#include "nccl_plugin/abi/net_v11.h"
#include "nccl_plugin/abi/net_v12.h"
#include "nccl_plugin/abi/net_v6.h"
#include "nccl_plugin/abi/net_v7.h"
#include "nccl_plugin/abi/net_v8.h"
#include "nccl_plugin/abi/net_v9.h"

namespace taco {
namespace harp {

// The newest version's, without its number.
using ncclNet_t = ncclNet_v12_t;
using ncclNetProperties_t = ncclNetProperties_v12_t;
using ncclNetVDeviceProps_t = ncclNetVDeviceProps_v12_t;
using ncclNetCommConfig_t = ncclNetCommConfig_v12_t;
using ncclNetDeviceHandle_t = ncclNetDeviceHandle_v12_t;

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ABI_NET_H_

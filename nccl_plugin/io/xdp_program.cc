#include "nccl_plugin/io/xdp_program.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <vector>

#include "nccl_plugin/io/frame.h"

namespace taco {
namespace harp {
namespace {

constexpr uint32_t kMaxQueues = 256;
constexpr uint32_t kMaxClaims = 65536;

// What is known of a UDP port, by its number in host order: the family, and the address's words.
struct Claimed {
  uint32_t family;
  std::array<uint32_t, 4> address;
};

int Bpf(int command, bpf_attr* attributes) {
  return static_cast<int>(syscall(SYS_bpf, command, attributes, sizeof(*attributes)));
}

int MakeMap(uint32_t type, uint32_t value_bytes, uint32_t entries, uint32_t flags,
            const char* name) {
  bpf_attr attributes = {};
  attributes.map_type = type;
  attributes.key_size = sizeof(uint32_t);
  attributes.value_size = value_bytes;
  attributes.max_entries = entries;
  attributes.map_flags = flags;
  std::strncpy(attributes.map_name, name, sizeof(attributes.map_name) - 1);
  return Bpf(BPF_MAP_CREATE, &attributes);
}

bool Update(int map, uint32_t key, const void* value) {
  bpf_attr attributes = {};
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = reinterpret_cast<uint64_t>(&key);
  attributes.value = reinterpret_cast<uint64_t>(value);
  return Bpf(BPF_MAP_UPDATE_ELEM, &attributes) == 0;
}

// A program under construction. Jumps forward name labels, which are resolved at the end.
class Assembler {
 public:
  enum Label { kPass, kIpv6, kFound, kIpv6Address, kRedirect, kLabels };

  void Load(uint8_t bytes, uint8_t to, uint8_t from, int16_t offset) {  // to = *(from + offset)
    const uint8_t size = bytes == 1 ? BPF_B : bytes == 2 ? BPF_H : BPF_W;
    Add(BPF_LDX | BPF_MEM | size, to, from, offset, 0);
  }
  void Store(uint8_t to, int16_t offset, uint8_t from) {  // a word
    Add(BPF_STX | BPF_MEM | BPF_W, to, from, offset, 0);
  }
  void Move(uint8_t to, uint8_t from) { Add(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0); }
  void MoveValue(uint8_t to, int32_t value) { Add(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value); }
  void AddValue(uint8_t to, int32_t value) { Add(BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, value); }
  void AndValue(uint8_t to, int32_t value) { Add(BPF_ALU64 | BPF_AND | BPF_K, to, 0, 0, value); }
  void ToHostOrder16(uint8_t to) { Add(BPF_ALU | BPF_END | BPF_TO_BE, to, 0, 0, 16); }
  void LoadMap(uint8_t to, int map) {
    Add(BPF_LD | BPF_DW | BPF_IMM, to, BPF_PSEUDO_MAP_FD, 0, map);
    Add(0, 0, 0, 0, 0);
  }
  void Call(int32_t function) { Add(BPF_JMP | BPF_CALL, 0, 0, 0, function); }
  void Exit() { Add(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }
  void JumpIf(uint8_t condition, uint8_t left, int32_t value, Label to) {
    jumps_.push_back({code_.size(), to});
    Add(static_cast<uint8_t>(BPF_JMP | condition | BPF_K), left, 0, 0, value);
  }
  void JumpIfRegisters(uint8_t condition, uint8_t left, uint8_t right, Label to) {
    jumps_.push_back({code_.size(), to});
    Add(static_cast<uint8_t>(BPF_JMP | condition | BPF_X), left, right, 0, 0);
  }
  void Jump(Label to) { JumpIf(BPF_JA, 0, 0, to); }
  void Here(Label label) { labels_[label] = code_.size(); }

  const std::vector<bpf_insn>& Finish() {
    for (const auto& [at, label] : jumps_) {
      code_[at].off = static_cast<int16_t>(labels_[label] - at - 1);
    }
    jumps_.clear();
    return code_;
  }

 private:
  void Add(uint8_t code, uint8_t to, uint8_t from, int16_t offset, int32_t value) {
    bpf_insn instruction = {};
    instruction.code = code;
    instruction.dst_reg = to & 15;
    instruction.src_reg = from & 15;
    instruction.off = offset;
    instruction.imm = value;
    code_.push_back(instruction);
  }

  struct JumpTo {
    size_t at;
    Label label;
  };
  std::vector<bpf_insn> code_;
  std::vector<JumpTo> jumps_;
  std::array<size_t, kLabels> labels_ = {};
};

// Registers: r6 the context, r7 the frame, r8 its end, r9 the family.
std::vector<bpf_insn> Instructions(int ports, int sockets) {
  using A = Assembler;
  constexpr int16_t kIp = kEthernetBytes;
  A a;
  const auto need = [&](int32_t bytes) {  // that many are in the frame
    a.Move(2, 7);
    a.AddValue(2, bytes);
    a.JumpIfRegisters(BPF_JGT, 2, 8, A::kPass);
  };
  a.Move(6, 1);
  a.Load(4, 7, 6, offsetof(xdp_md, data));
  a.Load(4, 8, 6, offsetof(xdp_md, data_end));
  need(kIp + 20 + kUdpBytes);
  a.Load(2, 3, 7, 12);
  a.ToHostOrder16(3);
  a.JumpIf(BPF_JEQ, 3, kEtherIpv6, A::kIpv6);
  a.JumpIf(BPF_JNE, 3, kEtherIpv4, A::kPass);
  // IPv4 without options, UDP, and no fragment.
  a.Load(1, 3, 7, kIp);
  a.JumpIf(BPF_JNE, 3, 0x45, A::kPass);
  a.Load(1, 3, 7, kIp + 9);
  a.JumpIf(BPF_JNE, 3, 17, A::kPass);
  a.Load(2, 3, 7, kIp + 6);
  a.ToHostOrder16(3);
  a.AndValue(3, 0x3fff);
  a.JumpIf(BPF_JNE, 3, 0, A::kPass);
  a.Load(2, 3, 7, kIp + 20 + 2);
  a.MoveValue(9, 4);
  a.Jump(A::kFound);
  a.Here(A::kIpv6);
  need(kIp + 40 + kUdpBytes);
  a.Load(1, 3, 7, kIp + 6);
  a.JumpIf(BPF_JNE, 3, 17, A::kPass);
  a.Load(2, 3, 7, kIp + 40 + 2);
  a.MoveValue(9, 6);
  a.Here(A::kFound);  // r3: the UDP port it goes to
  a.ToHostOrder16(3);
  a.Store(10, -4, 3);
  a.LoadMap(1, ports);
  a.Move(2, 10);
  a.AddValue(2, -4);
  a.Call(BPF_FUNC_map_lookup_elem);
  a.JumpIf(BPF_JEQ, 0, 0, A::kPass);
  a.Load(4, 3, 0, offsetof(Claimed, family));
  a.JumpIfRegisters(BPF_JNE, 3, 9, A::kPass);
  a.JumpIf(BPF_JEQ, 9, 6, A::kIpv6Address);
  a.Load(4, 3, 0, offsetof(Claimed, address));
  a.Load(4, 4, 7, kIp + 16);
  a.JumpIfRegisters(BPF_JNE, 3, 4, A::kPass);
  a.Jump(A::kRedirect);
  a.Here(A::kIpv6Address);
  need(kIp + 40 + kUdpBytes);  // once more, as the ways from IPv4 and IPv6 have met
  for (int16_t word = 0; word < 16; word = static_cast<int16_t>(word + 4)) {
    a.Load(4, 3, 0, static_cast<int16_t>(offsetof(Claimed, address) + word));
    a.Load(4, 4, 7, static_cast<int16_t>(kIp + 24 + word));
    a.JumpIfRegisters(BPF_JNE, 3, 4, A::kPass);
  }
  a.Here(A::kRedirect);
  a.LoadMap(1, sockets);
  a.Load(4, 2, 6, offsetof(xdp_md, rx_queue_index));
  a.MoveValue(3, XDP_PASS);  // where the queue has no socket
  a.Call(BPF_FUNC_redirect_map);
  a.Exit();
  a.Here(A::kPass);
  a.MoveValue(0, XDP_PASS);
  a.Exit();
  return a.Finish();
}

// Descriptor of the program; -1 and a reason if that fails. `frags`: whether it may be attached
// where frames come in several buffers, as interfaces with a large MTU demand.
int LoadProgram(const std::vector<bpf_insn>& code, bool frags) {
  static const char license[] = "Apache-2.0";
  bpf_attr attributes = {};
  attributes.prog_type = BPF_PROG_TYPE_XDP;
  attributes.insn_cnt = static_cast<uint32_t>(code.size());
  attributes.insns = reinterpret_cast<uint64_t>(code.data());
  attributes.license = reinterpret_cast<uint64_t>(license);
  attributes.expected_attach_type = BPF_XDP;
  if (frags) attributes.prog_flags = BPF_F_XDP_HAS_FRAGS;
  std::strncpy(attributes.prog_name, "taco_harp", sizeof(attributes.prog_name) - 1);
  return Bpf(BPF_PROG_LOAD, &attributes);
}

int Link(int program, int interface, uint32_t flags) {
  bpf_attr attributes = {};
  attributes.link_create.prog_fd = static_cast<uint32_t>(program);
  attributes.link_create.target_ifindex = static_cast<uint32_t>(interface);
  attributes.link_create.attach_type = BPF_XDP;
  attributes.link_create.flags = flags;
  return Bpf(BPF_LINK_CREATE, &attributes);
}

std::string Because(const std::string& what, int number) {
  std::string remedy;
  switch (number) {
    case EPERM:
    case EACCES:
      remedy = "; it needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF, or root";
      break;
    case EBUSY:
    case EEXIST:
      remedy =
          "; another XDP program, or another process with HARP_IO=afxdp, has the interface (`ip "
          "link` shows it): one process an interface can use it";
      break;
    case ENOSYS:
    case EINVAL:
    case EOPNOTSUPP:
      remedy = "; Linux 5.9 or newer with XDP sockets is needed";
      break;
    case ENOMEM:
      remedy = "; raise `ulimit -l`";
      break;
  }
  return what + ": " + std::strerror(number) + remedy;
}

}  // namespace

std::unique_ptr<XdpProgram> XdpProgram::Attach(int interface, const std::string& name,
                                               std::string* error) {
  std::unique_ptr<XdpProgram> made(new XdpProgram);
  made->sockets_ = MakeMap(BPF_MAP_TYPE_XSKMAP, sizeof(int), kMaxQueues, 0, "harp_sockets");
  if (made->sockets_ >= 0) {
    made->ports_ =
        MakeMap(BPF_MAP_TYPE_HASH, sizeof(Claimed), kMaxClaims, BPF_F_NO_PREALLOC, "harp_ports");
  }
  if (made->ports_ < 0) {
    *error = Because("cannot make the tables of an XDP program", errno);
    return nullptr;
  }
  const std::vector<bpf_insn> code = Instructions(made->ports_, made->sockets_);
  made->program_ = LoadProgram(code, true);
  if (made->program_ < 0 && errno == EINVAL) made->program_ = LoadProgram(code, false);
  if (made->program_ < 0) {
    *error = Because("cannot load an XDP program", errno);
    return nullptr;
  }
  made->link_ = Link(made->program_, interface, XDP_FLAGS_DRV_MODE);
  if (made->link_ < 0 && errno != EPERM && errno != EBUSY && errno != EEXIST) {
    made->link_ = Link(made->program_, interface, XDP_FLAGS_SKB_MODE);
    made->generic_ = true;
  }
  if (made->link_ < 0) {
    *error = Because("cannot attach an XDP program to " + name, errno);
    return nullptr;
  }
  return made;
}

XdpProgram::~XdpProgram() {
  for (const int descriptor : {link_, program_, ports_, sockets_}) {
    if (descriptor >= 0) close(descriptor);
  }
}

bool XdpProgram::SetSocket(uint32_t queue, int socket, std::string* error) {
  if (queue < kMaxQueues && Update(sockets_, queue, &socket)) return true;
  *error = Because("cannot lead queue " + std::to_string(queue) + " to its XDP socket",
                   queue < kMaxQueues ? errno : E2BIG);
  return false;
}

bool XdpProgram::Claim(const Endpoint& endpoint, std::string* error) {
  Claimed claimed = {static_cast<uint32_t>(endpoint.family), {}};
  std::memcpy(claimed.address.data(), endpoint.address.data(), sizeof(claimed.address));
  if (Update(ports_, endpoint.port, &claimed)) return true;
  *error = Because("cannot have frames to UDP port " + std::to_string(endpoint.port), errno);
  return false;
}

void XdpProgram::Drop(uint16_t port) {
  const uint32_t key = port;
  bpf_attr attributes = {};
  attributes.map_fd = static_cast<uint32_t>(ports_);
  attributes.key = reinterpret_cast<uint64_t>(&key);
  Bpf(BPF_MAP_DELETE_ELEM, &attributes);
}

}  // namespace harp
}  // namespace taco

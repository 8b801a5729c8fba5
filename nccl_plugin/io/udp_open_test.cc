// What opening promises: sentences that help, and an object that says what it got.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>

#include "nccl_plugin/io/udp.h"

namespace taco {
namespace harp {
namespace {

std::string ErrorOf(const UdpOptions& options) {
  std::string error;
  EXPECT_EQ(OpenUdp(options, &error), nullptr);
  return error;
}

UdpOptions Loopback() {
  UdpOptions options;
  options.address = "127.0.0.1";
  options.paths = 1;
  return options;
}

void ExpectSentence(const UdpOptions& options, const std::string& cause,
                    const std::string& remedy) {
  const std::string error = ErrorOf(options);
  EXPECT_NE(error.find(cause), std::string::npos) << error;
  EXPECT_NE(error.find(remedy), std::string::npos) << error;
}

TEST(UdpOpen, SaysWhatIsWrongWithAnAddress) {
  for (const char* address :
       {"", "localhost", "127.0.0.1:1", "0.0.0.0", "::", "1.2.3", "fe80::1%no-such-interface"}) {
    UdpOptions options = Loopback();
    options.address = address;
    ExpectSentence(options, std::string("'") + address + "' is no address", "such as 10.0.0.1");
  }
}

TEST(UdpOpen, SaysThatTheAddressIsAnotherMachines) {
  UdpOptions options = Loopback();
  options.address = "203.0.113.77";  // for documents (RFC 5737)
  ExpectSentence(options, "no interface has the address 203.0.113.77", "`ip address`");
  options.interface = "lo";
  ExpectSentence(options, "cannot use 203.0.113.77", "`ip address`");
}

TEST(UdpOpen, PathsTakeTurnsOverTheInterfaces) {
  UdpOptions options = Loopback();
  options.others = {{"127.0.0.2", "lo"}, {"::1", ""}};
  options.paths = 7;
  std::string error;
  const auto io = OpenUdp(options, &error);
  ASSERT_NE(io, nullptr) << error;
  for (uint16_t path = 0; path < 7; ++path) {
    const std::string text = ToText(io->local(path));
    const char* const begins[] = {"127.0.0.1:", "127.0.0.2:", "[::1]:"};
    EXPECT_EQ(text.find(begins[path % 3]), 0u) << text;
  }
  options.others = {{"127.0.0.300", "lo"}};
  ExpectSentence(options, "'127.0.0.300' is no address", "such as 10.0.0.1");
}

TEST(UdpOpen, SaysThatAnInterfaceIsAbsent) {
  for (const char* name : {"absent0", "a-name-that-is-longer-than-names-are"}) {
    UdpOptions options = Loopback();
    options.interface = name;
    ExpectSentence(options, std::string("there is no interface ") + name, "`ip link`");
  }
}

TEST(UdpOpen, SaysHowManyPathsArePossible) {
  for (const uint16_t paths : {0, 65, 65535}) {
    UdpOptions options = Loopback();
    options.paths = paths;
    ExpectSentence(options, std::to_string(paths) + " paths", "use 1 to 64");
  }
}

TEST(UdpOpen, SaysThatAPortIsTakenOrTooHigh) {
  std::string error;
  const auto io = OpenUdp(Loopback(), &error);
  ASSERT_NE(io, nullptr) << error;
  UdpOptions options = Loopback();
  options.port = io->local(0).port;
  ExpectSentence(options, "cannot use " + ToText(io->local(0)), "another port, or 0");
  options.port = 65535;
  options.paths = 2;
  ExpectSentence(options, "2 paths do not fit above port 65535", "lower port");
}

TEST(UdpOpen, PortsFollowTheBase) {
  // Free ports in a row are found by trying: others use ports, too.
  std::mt19937 random(std::random_device{}());
  std::unique_ptr<PacketIo> io;
  UdpOptions options = Loopback();
  options.paths = 4;
  std::string error;
  for (int i = 0; i < 100 && io == nullptr; ++i) {
    options.port = static_cast<uint16_t>(20000 + random() % 10000);
    io = OpenUdp(options, &error);
  }
  ASSERT_NE(io, nullptr) << error;
  for (uint16_t path = 0; path < 4; ++path) EXPECT_EQ(io->local(path).port, options.port + path);
}

TEST(UdpOpen, NotesThatAQueueIsSmallerThanAsked) {
  UdpOptions options = Loopback();
  options.paths = 3;
  options.receive_bytes = 1 << 30;
  options.send_bytes = 4096;
  std::string error;
  const auto io = OpenUdp(options, &error);
  ASSERT_NE(io, nullptr) << error;
  const std::string& notes = io->notes();
  EXPECT_EQ(notes.find("wmem_max"), std::string::npos) << notes;
  const size_t first = notes.find("of 1073741824 bytes");
  if (first == std::string::npos) GTEST_SKIP() << "this kernel gives 1 GiB: " << notes;
  EXPECT_NE(notes.find("raise net.core.rmem_max"), std::string::npos) << notes;
  EXPECT_EQ(notes.find("of 1073741824 bytes", first + 1), std::string::npos) << "once is enough";
}

TEST(UdpOpen, TheLargestPacketIsTheInterfacesMtuLessHeaders) {
  std::string error;
  UdpOptions options = Loopback();
  const auto io = OpenUdp(options, &error);
  ASSERT_NE(io, nullptr) << error;
  options.interface = "lo";
  const auto named = OpenUdp(options, &error);
  ASSERT_NE(named, nullptr) << error;
  EXPECT_EQ(named->max_packet(), io->max_packet());
  EXPECT_LE(io->max_packet(), 65507u);
  options.address = "::1";
  const auto ipv6 = OpenUdp(options, &error);
  if (ipv6 == nullptr) GTEST_SKIP() << "no IPv6 here: " << error;
  // A loopback interface with 65,536 gives IPv4 the largest datagram that there is.
  EXPECT_GE(ipv6->max_packet() + 20, io->max_packet());
  EXPECT_LE(ipv6->max_packet() + 19, io->max_packet());
}

}  // namespace
}  // namespace harp
}  // namespace taco

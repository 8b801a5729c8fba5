#include "nccl_plugin/io/endpoint.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <algorithm>

namespace taco {
namespace harp {
namespace {

// Reads decimal digits, all of the text, up to `most`.
std::optional<uint32_t> ParseNumber(const std::string& text, uint32_t most) {
  if (text.empty() || text.size() > 10) return std::nullopt;
  uint64_t number = 0;
  for (const char digit : text) {
    if (digit < '0' || digit > '9') return std::nullopt;
    number = number * 10 + static_cast<uint64_t>(digit - '0');
  }
  if (number > most) return std::nullopt;
  return static_cast<uint32_t>(number);
}

bool ParseIpv4(const std::string& text, Endpoint* endpoint) {
  endpoint->family = Family::kIpv4;
  return inet_pton(AF_INET, text.c_str(), endpoint->address.data()) == 1;
}

bool ParseIpv6(const std::string& text, Endpoint* endpoint) {
  endpoint->family = Family::kIpv6;
  const size_t percent = text.find('%');
  if (percent != std::string::npos) {
    const std::string scope = text.substr(percent + 1);
    const std::optional<uint32_t> index = ParseNumber(scope, UINT32_MAX);
    endpoint->scope = index ? *index : if_nametoindex(scope.c_str());
    if (endpoint->scope == 0) return false;
  }
  return inet_pton(AF_INET6, text.substr(0, percent).c_str(), endpoint->address.data()) == 1;
}

}  // namespace

std::string ToText(const Endpoint& endpoint) {
  if (endpoint.family == Family::kNone) return "nowhere";
  const bool ipv6 = endpoint.family == Family::kIpv6;
  char address[INET6_ADDRSTRLEN] = "";
  inet_ntop(ipv6 ? AF_INET6 : AF_INET, endpoint.address.data(), address, sizeof(address));
  std::string text = address;
  if (endpoint.scope != 0) text += "%" + std::to_string(endpoint.scope);
  if (ipv6) text = "[" + text + "]";
  return text + ":" + std::to_string(endpoint.port);
}

std::optional<Endpoint> ParseEndpoint(const std::string& text) {
  if (text.find('\0') != std::string::npos) return std::nullopt;
  Endpoint endpoint;
  std::string address = text;
  std::string port = "0";
  bool ipv6 = std::count(text.begin(), text.end(), ':') > 1;
  if (!text.empty() && text[0] == '[') {
    ipv6 = true;
    const size_t end = text.find(']');
    if (end == std::string::npos) return std::nullopt;
    address = text.substr(1, end - 1);
    if (end + 1 < text.size()) {
      if (text[end + 1] != ':') return std::nullopt;
      port = text.substr(end + 2);
    }
  } else if (!ipv6) {
    const size_t colon = text.find(':');
    address = text.substr(0, colon);
    if (colon != std::string::npos) port = text.substr(colon + 1);
  }
  const std::optional<uint32_t> number = ParseNumber(port, UINT16_MAX);
  if (!number) return std::nullopt;
  endpoint.port = static_cast<uint16_t>(*number);
  const bool read = ipv6 ? ParseIpv6(address, &endpoint) : ParseIpv4(address, &endpoint);
  if (!read) return std::nullopt;
  return endpoint;
}

}  // namespace harp
}  // namespace taco

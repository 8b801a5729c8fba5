#include "torch_ext/cma/card.h"

#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "torch_ext/cma/segment.h"

namespace taco {
namespace cma {
namespace {

// The kernel gives itself a random name whenever it starts.
bool ReadBoot(uint64_t boot[2]) {
  std::FILE* file = std::fopen("/proc/sys/kernel/random/boot_id", "re");
  if (file == nullptr) return false;
  unsigned int a, b, c, d;
  unsigned long long e;
  const int found = std::fscanf(file, "%8x-%4x-%4x-%4x-%12llx", &a, &b, &c, &d, &e);
  std::fclose(file);
  boot[0] = static_cast<uint64_t>(a) << 32 | static_cast<uint64_t>(b) << 16 | c;
  boot[1] = static_cast<uint64_t>(d) << 48 | e;
  return found == 5;
}

bool ReadNamespace(const char* path, uint64_t* number) {
  struct stat found;
  if (stat(path, &found) != 0) return false;
  *number = found.st_ino;
  return true;
}

}  // namespace

base::Status OwnCard(Card* card) {
  card->version = kVersion;
  card->process = static_cast<uint64_t>(getpid());
  if (getrandom(card->token, sizeof(card->token), 0) != sizeof(card->token)) {
    return base::ResourceExhausted("the system gives no random numbers");
  }
  if (!ReadBoot(card->boot) || !ReadNamespace("/proc/self/ns/pid", &card->processes_seen) ||
      !ReadNamespace("/proc/self/ns/net", &card->network)) {
    return base::ResourceExhausted("/proc does not say which machine this is");
  }
  return base::OkStatus();
}

base::Status SameMachine(const Card& own, const Card& other) {
  if (own.version != other.version) return base::InvalidArgument("it is of another version");
  if (std::memcmp(own.boot, other.boot, sizeof(own.boot)) != 0) {
    return base::InvalidArgument("it is on another machine");
  }
  if (own.processes_seen != other.processes_seen) {
    return base::InvalidArgument("it is in another container (pid namespace)");
  }
  if (own.network != other.network) {
    return base::InvalidArgument("it is in another network namespace");
  }
  return base::OkStatus();
}

}  // namespace cma
}  // namespace taco

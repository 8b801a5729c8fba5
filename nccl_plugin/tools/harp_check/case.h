// What a case is: a function that runs in a process of its own, and returns where all was well.
#ifndef NCCL_PLUGIN_TOOLS_HARP_CHECK_CASE_H_
#define NCCL_PLUGIN_TOOLS_HARP_CHECK_CASE_H_

#include <memory>
#include <string>
#include <vector>

#include "nccl_plugin/tools/harp_check/endpoint.h"
#include "nccl_plugin/tools/harp_check/net.h"
#include "nccl_plugin/tools/harp_check/plugin.h"

namespace taco {
namespace harp {

// The plugin in one version and one device, which connects to itself or to another one.
struct Subject {
  std::string path;
  int version;
  int dev;
  int to = -1;  // -1: itself
  int listens() const { return to < 0 ? dev : to; }
};

// It opened and initialised.
class Session {
 public:
  explicit Session(const Subject& subject);

  // Finalises and closes it.
  void End();

  Net* net() { return net_.get(); }
  int dev() const { return subject_.dev; }
  int listens() const { return subject_.listens(); }
  int count() const { return count_; }  // of devices
  const Properties& properties() const { return properties_; }

  // A connection of the device with itself, or with the other one. Skips the case where it needs a
  // GPU.
  Link Pair();

  // Connects, carries out each plan with a thread for either side, and closes.
  void Run(const std::vector<Plan>& plans);

 private:
  const Subject subject_;
  std::unique_ptr<Plugin> plugin_;
  std::unique_ptr<Net> net_;
  int count_ = 0;
  Properties properties_;
};

// Connects, puts 8 MiB under way, closes one side, polls the other for a while, closes that too.
void CloseInFlight(Session* session, bool sender_first);

struct Case {
  const char* name;
  const char* what;  // is checked
  void (*run)(const Subject& subject);
};

// In the order in which they run.
std::vector<Case> AllCases();

// The parts of AllCases.
std::vector<Case> SetupCases();
std::vector<Case> TransferCases();
std::vector<Case> EndCases();

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_CHECK_CASE_H_

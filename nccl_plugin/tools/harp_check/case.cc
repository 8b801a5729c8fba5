#include "nccl_plugin/tools/harp_check/case.h"

#include "nccl_plugin/tools/harp_check/board.h"

namespace taco {
namespace harp {

Session::Session(const Subject& subject)
    : subject_(subject), plugin_(std::make_unique<Plugin>(subject.path)) {
  net_ = plugin_->Find(subject.version);
  if (net_ == nullptr) Fail("ncclNetPlugin_v%d is not exported", subject.version);
  Expect(net_->Init(), "init");
  Expect(net_->Devices(&count_), "devices");
  if (subject.dev < 0 || subject.dev >= count_) {
    Fail("there is no device %d; devices gave %d", subject.dev, count_);
  }
  if (subject.listens() >= count_) {
    Fail("there is no device %d to connect to; devices gave %d", subject.to, count_);
  }
  Expect(net_->GetProperties(subject.dev, &properties_), "getProperties");
}

void Session::End() {
  Expect(net_->Finalize(), "finalize");
  net_.reset();
  plugin_.reset();
}

Link Session::Pair() {
  if (properties_.device_type == NCCL_NET_DEVICE_UNPACK) {
    Skip("device %d leaves a part of the receiver's work to GPU threads", dev());
  }
  return Connect(net(), net(), dev(), listens());
}

void Session::Run(const std::vector<Plan>& plans) {
  const Link link = Pair();
  for (const Plan& plan : plans) Transfer(net(), net(), link, plan);
  Close(net(), net(), link);
}

std::vector<Case> AllCases() {
  std::vector<Case> all = SetupCases();
  for (const auto& more : {TransferCases(), EndCases()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

}  // namespace harp
}  // namespace taco

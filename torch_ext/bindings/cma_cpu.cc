// torch.classes.taco.CmaEndpoint: cma::Endpoint for tensors. taco.lightcc.patterns.machine uses it.

#include <ATen/ATen.h>
#include <torch/custom_class.h>

#include <cstring>
#include <string>
#include <vector>

#include "torch_ext/bindings/adapter.h"
#include "torch_ext/cma/endpoint.h"

namespace taco {
namespace bindings {
namespace {

// Methods run without Python's lock.
class CmaEndpoint final : public torch::CustomClassHolder {
 public:
  CmaEndpoint(int64_t rank, int64_t size) {
    Check(cma::Endpoint::Create(static_cast<int>(rank), static_cast<int>(size), &endpoint_));
  }

  // (kCardWords,) int64.
  at::Tensor Card() const {
    const at::Tensor card = at::empty({cma::kCardWords}, at::kLong);
    std::memcpy(card.mutable_data_ptr(), &endpoint_->card(), sizeof(cma::Card));
    return card;
  }

  // (size, kCardWords) int64. Returns why the others cannot be reached; empty if they can.
  std::string Connect(const at::Tensor& cards) {
    CheckPlain(kName, "cards", cards, at::kLong);
    TORCH_CHECK(cards.dim() == 2 && cards.size(1) == cma::kCardWords, "taco::", kName,
                ": cards of shape (ranks, ", cma::kCardWords, ") are needed, not ", cards.sizes(),
                ".");
    std::vector<cma::Card> all(static_cast<size_t>(cards.size(0)));
    std::memcpy(static_cast<void*>(all.data()), cards.const_data_ptr(),
                all.size() * sizeof(cma::Card));
    return endpoint_->Connect(all).message();
  }

  void OpenNoMore() { endpoint_->OpenNoMore(); }

  int64_t Send(const at::Tensor& tensor, int64_t to, int64_t tag) {
    CheckPlain(kName, "tensor", tensor);
    cma::Endpoint::Ticket ticket = 0;
    Check(endpoint_->Send(tensor.const_data_ptr(), tensor.nbytes(), static_cast<int>(to),
                          static_cast<int32_t>(tag), Kept(tensor), &ticket));
    return ticket;
  }

  int64_t Receive(const at::Tensor& tensor, int64_t from, int64_t tag) {
    CheckPlain(kName, "tensor", tensor);
    cma::Endpoint::Ticket ticket = 0;
    Check(endpoint_->Receive(tensor.mutable_data_ptr(), tensor.nbytes(), static_cast<int>(from),
                             static_cast<int32_t>(tag), Kept(tensor), &ticket));
    return ticket;
  }

  void Wait(int64_t ticket, int64_t milliseconds) {
    Check(endpoint_->Wait(ticket, std::chrono::milliseconds(milliseconds)));
  }

  void Close() { endpoint_->Close(); }

 private:
  static constexpr const char* kName = "CmaEndpoint";

  static void Check(const base::Status& status) { ThrowIfError(kName, status); }
  static std::shared_ptr<const void> Kept(const at::Tensor& tensor) {
    return std::make_shared<at::Tensor>(tensor);
  }

  std::unique_ptr<cma::Endpoint> endpoint_;
};

}  // namespace

TORCH_LIBRARY_FRAGMENT(taco, m) {
  m.class_<CmaEndpoint>("CmaEndpoint")
      .def(torch::init<int64_t, int64_t>())
      .def("card", &CmaEndpoint::Card)
      .def("connect", &CmaEndpoint::Connect)
      .def("open_no_more", &CmaEndpoint::OpenNoMore)
      .def("send", &CmaEndpoint::Send)
      .def("receive", &CmaEndpoint::Receive)
      .def("wait", &CmaEndpoint::Wait)
      .def("close", &CmaEndpoint::Close);
}

}  // namespace bindings
}  // namespace taco

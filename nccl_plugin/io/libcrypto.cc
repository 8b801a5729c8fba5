#include "nccl_plugin/io/libcrypto.h"

#include <dlfcn.h>

namespace taco {
namespace harp {
namespace {

struct Loaded {
  Libcrypto functions = {};
  std::string error;
};

template <typename Function>
void Find(void* library, const char* name, Function** function, std::string* error) {
  *function = reinterpret_cast<Function*>(dlsym(library, name));
  if (*function == nullptr) *error = std::string("OpenSSL's libcrypto lacks ") + name;
}

// It stays in memory: others of the process may use it as well.
Loaded Load() {
  Loaded loaded;
  void* library = nullptr;
  for (const char* name : {"libcrypto.so.3", "libcrypto.so.1.1"}) {
    if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) {
    loaded.error =
        "a key is set, and OpenSSL's libcrypto.so.3 (or .1.1), which encrypts, is not found; "
        "install OpenSSL (Debian, Ubuntu: libssl3), or unset HARP_KEY and HARP_KEY_FILE";
    return loaded;
  }
  Libcrypto& to = loaded.functions;
  std::string* const error = &loaded.error;
  Find(library, "EVP_CIPHER_CTX_new", &to.EVP_CIPHER_CTX_new, error);
  Find(library, "EVP_CIPHER_CTX_free", &to.EVP_CIPHER_CTX_free, error);
  Find(library, "EVP_aes_256_gcm", &to.EVP_aes_256_gcm, error);
  Find(library, "EVP_sha256", &to.EVP_sha256, error);
  Find(library, "EVP_EncryptInit_ex", &to.EVP_EncryptInit_ex, error);
  Find(library, "EVP_EncryptUpdate", &to.EVP_EncryptUpdate, error);
  Find(library, "EVP_EncryptFinal_ex", &to.EVP_EncryptFinal_ex, error);
  Find(library, "EVP_DecryptInit_ex", &to.EVP_DecryptInit_ex, error);
  Find(library, "EVP_DecryptUpdate", &to.EVP_DecryptUpdate, error);
  Find(library, "EVP_DecryptFinal_ex", &to.EVP_DecryptFinal_ex, error);
  Find(library, "EVP_CIPHER_CTX_ctrl", &to.EVP_CIPHER_CTX_ctrl, error);
  Find(library, "HMAC", &to.HMAC, error);
  return loaded;
}

}  // namespace

const Libcrypto* LoadLibcrypto(std::string* error) {
  static const Loaded* loaded = new Loaded(Load());
  if (loaded->error.empty()) return &loaded->functions;
  *error = loaded->error;
  return nullptr;
}

}  // namespace harp
}  // namespace taco

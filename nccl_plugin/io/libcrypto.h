// OpenSSL's libcrypto, as far as HARP needs it: opened when it is asked for, so that neither
// building nor using HARP without encryption needs OpenSSL.
#ifndef NCCL_PLUGIN_IO_LIBCRYPTO_H_
#define NCCL_PLUGIN_IO_LIBCRYPTO_H_

#include <cstddef>
#include <string>

namespace taco {
namespace harp {

// Functions of the names and types of OpenSSL 1.1 and 3, which agree in them.
struct Libcrypto {
  void* (*EVP_CIPHER_CTX_new)();
  void (*EVP_CIPHER_CTX_free)(void* context);
  const void* (*EVP_aes_256_gcm)();
  const void* (*EVP_sha256)();
  int (*EVP_EncryptInit_ex)(void* context, const void* cipher, void* engine,
                            const unsigned char* key, const unsigned char* nonce);
  int (*EVP_EncryptUpdate)(void* context, unsigned char* out, int* out_bytes,
                           const unsigned char* in, int in_bytes);
  int (*EVP_EncryptFinal_ex)(void* context, unsigned char* out, int* out_bytes);
  int (*EVP_DecryptInit_ex)(void* context, const void* cipher, void* engine,
                            const unsigned char* key, const unsigned char* nonce);
  int (*EVP_DecryptUpdate)(void* context, unsigned char* out, int* out_bytes,
                           const unsigned char* in, int in_bytes);
  int (*EVP_DecryptFinal_ex)(void* context, unsigned char* out, int* out_bytes);
  int (*EVP_CIPHER_CTX_ctrl)(void* context, int what, int number, void* data);
  unsigned char* (*HMAC)(const void* digest, const void* key, int key_bytes,
                         const unsigned char* data, size_t bytes, unsigned char* out,
                         unsigned int* out_bytes);
};

inline constexpr int kGetTag = 0x10;  // EVP_CTRL_AEAD_GET_TAG
inline constexpr int kSetTag = 0x11;  // EVP_CTRL_AEAD_SET_TAG

// The same one each time. Null: `error` is a sentence.
const Libcrypto* LoadLibcrypto(std::string* error);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_LIBCRYPTO_H_

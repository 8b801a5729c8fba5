#include "nccl_plugin/io/aead.h"

#include <sys/mman.h>
#include <sys/random.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <utility>
#include <vector>

#include "nccl_plugin/io/libcrypto.h"
#include "nccl_plugin/io/packet_io_around.h"

namespace taco {
namespace harp {
namespace {

constexpr size_t kSaltBytes = 16, kCounterBytes = 8, kTagBytes = 16, kNonceBytes = 12;
constexpr size_t kPrefixBytes = kSaltBytes + kCounterBytes;
constexpr size_t kBatch = 44;
constexpr size_t kKnownSalts = 32;  // of senders whose keys are kept

using Salt = std::array<uint8_t, kSaltBytes>;
using Nonce = std::array<uint8_t, kNonceBytes>;

// Pages of its own, which the system gives when they are touched and has back when it goes: large
// blocks that come and go would leave holes in the heap.
struct Unmap {
  size_t bytes = 0;
  void operator()(uint8_t* pages) const { munmap(pages, bytes); }
};
using Pages = std::unique_ptr<uint8_t[], Unmap>;

Pages NewPages(size_t bytes) {
  void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return Pages(pages == MAP_FAILED ? nullptr : static_cast<uint8_t*>(pages), Unmap{bytes});
}

// A cipher with the key of one salt.
class Cipher {
 public:
  Cipher(const Libcrypto* crypto, bool encrypts)
      : crypto_(crypto), encrypts_(encrypts), context_(crypto->EVP_CIPHER_CTX_new()) {}
  Cipher(Cipher&& other) noexcept
      : crypto_(other.crypto_),
        encrypts_(other.encrypts_),
        context_(std::exchange(other.context_, nullptr)),
        salt_(other.salt_) {}
  Cipher& operator=(Cipher&& other) noexcept {
    std::swap(context_, other.context_);
    std::swap(salt_, other.salt_);
    return *this;
  }
  ~Cipher() {
    if (context_ != nullptr) crypto_->EVP_CIPHER_CTX_free(context_);
  }

  const Salt& salt() const { return salt_; }

  bool SetSalt(const AeadKey& key, const Salt& salt) {
    salt_ = salt;
    static constexpr char kPurpose[] = "HARP packet key";
    unsigned char text[sizeof(kPurpose) + kSaltBytes];
    std::memcpy(text, kPurpose, sizeof(kPurpose));
    std::copy(salt.begin(), salt.end(), text + sizeof(kPurpose));
    AeadKey own;
    unsigned int bytes = own.size();
    if (context_ == nullptr ||
        crypto_->HMAC(crypto_->EVP_sha256(), key.data(), static_cast<int>(key.size()), text,
                      sizeof(text), own.data(), &bytes) == nullptr) {
      return false;
    }
    const auto init = encrypts_ ? crypto_->EVP_EncryptInit_ex : crypto_->EVP_DecryptInit_ex;
    return init(context_, crypto_->EVP_aes_256_gcm(), nullptr, own.data(), nullptr) == 1;
  }

  // The packet's prefix is written already; head and body follow it encrypted, and the tag.
  bool Encrypt(const PacketIo::Outgoing& packet, uint8_t* out) {
    const Nonce nonce = NonceOf(out);
    int bytes = 0;
    if (crypto_->EVP_EncryptInit_ex(context_, nullptr, nullptr, nullptr, nonce.data()) != 1) {
      return false;
    }
    if (crypto_->EVP_EncryptUpdate(context_, nullptr, &bytes, out, kPrefixBytes) != 1) return false;
    uint8_t* to = out + kPrefixBytes;
    const std::pair<const uint8_t*, uint32_t> parts[] = {{packet.head, packet.head_bytes},
                                                         {packet.body, packet.body_bytes}};
    for (const auto& [from, size] : parts) {
      if (size == 0) continue;
      if (crypto_->EVP_EncryptUpdate(context_, to, &bytes, from, static_cast<int>(size)) != 1) {
        return false;
      }
      to += size;
    }
    return crypto_->EVP_EncryptFinal_ex(context_, to, &bytes) == 1 &&
           crypto_->EVP_CIPHER_CTX_ctrl(context_, kGetTag, kTagBytes, to) == 1;
  }

  // `size` bytes with prefix and tag. False: they were not made with this key.
  bool Decrypt(const uint8_t* in, size_t size, uint8_t* out) {
    const Nonce nonce = NonceOf(in);
    const size_t inner = size - kAeadBytes;
    uint8_t tag[kTagBytes];
    std::memcpy(tag, in + size - kTagBytes, kTagBytes);
    int bytes = 0;
    if (crypto_->EVP_DecryptInit_ex(context_, nullptr, nullptr, nullptr, nonce.data()) != 1 ||
        crypto_->EVP_DecryptUpdate(context_, nullptr, &bytes, in, kPrefixBytes) != 1) {
      return false;
    }
    if (inner != 0 && crypto_->EVP_DecryptUpdate(context_, out, &bytes, in + kPrefixBytes,
                                                 static_cast<int>(inner)) != 1) {
      return false;
    }
    return crypto_->EVP_CIPHER_CTX_ctrl(context_, kSetTag, kTagBytes, tag) == 1 &&
           crypto_->EVP_DecryptFinal_ex(context_, out + inner, &bytes) == 1;
  }

 private:
  static Nonce NonceOf(const uint8_t* packet) {
    Nonce nonce = {};
    std::memcpy(nonce.data() + kNonceBytes - kCounterBytes, packet + kSaltBytes, kCounterBytes);
    return nonce;
  }

  const Libcrypto* crypto_;
  bool encrypts_;
  void* context_;
  Salt salt_ = {};
};

class AeadIo final : public PacketIoAround {
 public:
  AeadIo(std::unique_ptr<PacketIo> io, const AeadKey& key, const Libcrypto* crypto)
      : PacketIoAround(std::move(io)),
        key_(key),
        most_(io_->max_packet()),
        sends_(crypto, true),
        tries_(crypto, false),
        crypto_(crypto),
        out_(NewPages(kBatch * most_)),
        in_(NewPages(kBatch * most_)) {
    known_.reserve(kKnownSalts);
  }

  // False: there is no memory or no randomness, or OpenSSL refuses.
  bool Begin() {
    if (out_ == nullptr || in_ == nullptr) return false;
    Salt salt;
    if (getrandom(salt.data(), salt.size(), 0) != static_cast<ssize_t>(salt.size())) return false;
    return sends_.SetSalt(key_, salt);
  }

  size_t Send(const Outgoing* packets, size_t count) override {
    size_t done = 0;
    while (done < count) {
      const size_t some = std::min(count - done, kBatch);
      Outgoing encrypted[kBatch];
      for (size_t i = 0; i < some; ++i) {
        const Outgoing& packet = packets[done + i];
        uint8_t* const out = out_.get() + i * most_;
        const size_t size = size_t{packet.head_bytes} + packet.body_bytes + kAeadBytes;
        encrypted[i] = packet;
        encrypted[i].body = nullptr;
        encrypted[i].body_bytes = 0;
        encrypted[i].head = out;
        // One that is too large is lost, as below.
        encrypted[i].head_bytes = 0;
        if (size > most_) continue;
        std::copy(sends_.salt().begin(), sends_.salt().end(), out);
        ++counter_;
        std::memcpy(out + kSaltBytes, &counter_, kCounterBytes);
        if (sends_.Encrypt(packet, out)) encrypted[i].head_bytes = static_cast<uint32_t>(size);
        copied_ += size;
      }
      const size_t sent = SendSome(encrypted, some);
      done += sent;
      if (sent < some) return done;
    }
    return done;
  }

  // What is sent lies in memory of ours.
  std::unique_ptr<Memory> Register(const void*, size_t) override { return nullptr; }

  size_t Receive(Incoming* packets, size_t most) override {
    most = std::min(most, kBatch);
    size_t kept = 0;
    for (;;) {
      const size_t room = most - kept;
      const size_t count = io_->Receive(packets + kept, room);
      kept += OpenAll(packets + kept, count, in_.get() + kept * most_);
      // What was refused must not make it look as if nothing were left.
      if (kept == most || kept >= kLeft || count < std::min(kLeft, room)) return kept;
    }
  }

  size_t max_packet() const override { return most_ - kAeadBytes; }
  const Stats& stats() const override {
    stats_ = io_->stats();
    stats_.refused += refused_;
    stats_.user_copied_bytes += copied_;
    return stats_;
  }

 private:
  // Opens packets into memory that has room for all of them, and puts those that are genuine
  // first. Returns how many.
  size_t OpenAll(Incoming* packets, size_t count, uint8_t* memory) {
    size_t kept = 0;
    for (size_t i = 0; i < count; ++i) {
      const Incoming& packet = packets[i];
      uint8_t* const in = memory + kept * most_;
      if (!Open(packet, in)) {
        ++refused_;
        continue;
      }
      packets[kept] = packet;
      packets[kept].bytes = in;
      packets[kept].size = static_cast<uint32_t>(packet.size - kAeadBytes);
      copied_ += packets[kept].size;
      ++kept;
    }
    return kept;
  }

  // Those that could not be encrypted count as sent, and are not.
  size_t SendSome(const Outgoing* packets, size_t count) {
    size_t done = 0;
    while (done < count) {
      if (packets[done].head_bytes == 0) {
        ++done;
        continue;
      }
      size_t run = 1;
      while (done + run < count && packets[done + run].head_bytes != 0) ++run;
      const size_t sent = io_->Send(packets + done, run);
      done += sent;
      if (sent < run) return done;
    }
    return done;
  }

  bool Open(const Incoming& packet, uint8_t* out) {
    if (packet.size < kAeadBytes || packet.size > most_) return false;
    Salt salt;
    std::memcpy(salt.data(), packet.bytes, salt.size());
    for (Cipher& known : known_) {
      if (known.salt() == salt) return known.Decrypt(packet.bytes, packet.size, out);
    }
    // A salt is kept once a packet has proved that its sender has the key.
    if (!tries_.SetSalt(key_, salt) || !tries_.Decrypt(packet.bytes, packet.size, out))
      return false;
    if (known_.size() < kKnownSalts) {
      known_.push_back(std::exchange(tries_, Cipher(crypto_, false)));
    } else {
      std::swap(known_[next_known_++ % kKnownSalts], tries_);
    }
    return true;
  }

  const AeadKey key_;
  const size_t most_;  // below
  Cipher sends_;
  Cipher tries_;  // for a salt that is not known
  const Libcrypto* const crypto_;
  std::vector<Cipher> known_;
  size_t next_known_ = 0;
  uint64_t counter_ = 0;
  uint64_t refused_ = 0;
  uint64_t copied_ = 0;  // what is encrypted is written to another place
  const Pages out_, in_;
  mutable Stats stats_;
};

}  // namespace

std::optional<AeadKey> ParseAeadKey(const std::string& text) {
  std::string digits;
  for (const char c : text) {
    if (std::isspace(static_cast<unsigned char>(c)) == 0) {
      digits += c;
    } else if (!digits.empty() && digits.size() < 64) {
      return std::nullopt;  // in the middle
    }
  }
  AeadKey key;
  if (digits.size() != 2 * key.size()) return std::nullopt;
  for (size_t i = 0; i < digits.size(); ++i) {
    const auto digit = static_cast<unsigned char>(digits[i]);
    if (std::isxdigit(digit) == 0) return std::nullopt;
    const int value = std::isdigit(digit) != 0 ? digit - '0' : std::tolower(digit) - 'a' + 10;
    key[i / 2] = static_cast<uint8_t>(i % 2 == 0 ? value << 4 : key[i / 2] | value);
  }
  return key;
}

std::unique_ptr<PacketIo> WithAead(std::unique_ptr<PacketIo> io, const AeadKey& key,
                                   std::string* error) {
  const Libcrypto* crypto = LoadLibcrypto(error);
  if (crypto == nullptr) return nullptr;
  auto made = std::make_unique<AeadIo>(std::move(io), key, crypto);
  if (made->Begin()) return made;
  *error = "OpenSSL cannot encrypt with AES-256-GCM here (is it restricted by its configuration?)";
  return nullptr;
}

}  // namespace harp
}  // namespace taco

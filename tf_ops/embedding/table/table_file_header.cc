#include "tf_ops/embedding/table/table_file_header.h"

#include <algorithm>
#include <cmath>

namespace taco {
namespace embedding {
namespace {

// Where the fields of the header begin.
enum Offset : size_t {
  kMagicAt = 0,
  kVersionAt = 8,
  kHeaderBytesAt = 12,
  kDimAt = 16,
  kValueTypeAt = 20,
  kNumSlotsAt = 24,
  kNumScalarsAt = 28,
  kStrideAt = 32,
  kOptimizerKindAt = 36,
  kOptimizerFlagsAt = 40,
  kSlotInitAt = 44,
  kInitializerKindAt = 56,
  kInitializerAAt = 60,
  kInitializerBAt = 64,
  kReservedAt = 68,
  kSeedAt = 72,
  kRowsAt = 80,
  kNameBytesAt = 88,
};
static_assert(kNameBytesAt + 4 == kFixedHeaderBytes, "the name follows its length");

constexpr uint32_t kMaxFileDim = 4096;  // as Table::kMaxDim
constexpr uint32_t kKnownFlags =
    kNesterov | kLrOutsideMomentum | kAmsgrad | kCentered | kHasMomentum | kDecayInDirection;

template <class Enum>
bool Between(Enum value, Enum first, Enum last) {
  return value >= first && value <= last;
}

bool KnownEnums(const TableFileInfo& info) {
  return Between(info.layout.value_type, ValueType::kFloat32, ValueType::kFloat16) &&
         Between(info.optimizer.kind, OptimizerKind::kNone, kLastOptimizerKind) &&
         (info.optimizer.flags & ~kKnownFlags) == 0 &&
         Between(info.initializer.kind, InitializerKind::kZeros, InitializerKind::kTruncatedNormal);
}

}  // namespace

Status ValidateTableFileInfo(const TableFileInfo& info) {
  const RowLayout& layout = info.layout;
  if (!KnownEnums(info)) {
    return InvalidArgument("the value type, optimizer or initializer is none that is known");
  }
  if (layout.dim < 1 || static_cast<uint32_t>(layout.dim) > kMaxFileDim) {
    return InvalidArgument("the dim is " + std::to_string(layout.dim) + ", not 1 to 4096");
  }
  if (layout.num_slots != info.optimizer.num_slots() ||
      layout.num_scalars != info.optimizer.num_scalars()) {
    return InvalidArgument("rows have " + std::to_string(layout.num_slots) + " slots and " +
                           std::to_string(layout.num_scalars) + " scalars, which is not what " +
                           info.optimizer.Name() + " has");
  }
  const RowLayout expected(layout.dim, layout.value_type, layout.num_slots, layout.num_scalars);
  if (layout.stride != expected.stride) {
    return InvalidArgument("a row is said to take " + std::to_string(layout.stride) +
                           " bytes and should take " + std::to_string(expected.stride));
  }
  for (float init : info.optimizer.slot_init) {
    if (!std::isfinite(init)) return InvalidArgument("the first value of a slot is not finite");
  }
  if (info.rows < 0) return InvalidArgument("the number of rows is negative");
  if (info.table_name.size() > kMaxTableNameBytes) {
    return InvalidArgument("the table's name has " + std::to_string(info.table_name.size()) +
                           " bytes; at most " + std::to_string(kMaxTableNameBytes) + " may be");
  }
  return ValidateInitializer(info.initializer);
}

std::vector<uint8_t> EncodeTableFileHeader(const TableFileInfo& info) {
  const std::string& name = info.table_name;
  std::vector<uint8_t> bytes(kFixedHeaderBytes + name.size() + kCrcBytes);
  uint8_t* at = bytes.data();
  std::memcpy(at + kMagicAt, kTableFileMagic, sizeof kTableFileMagic);
  PutNumber<uint32_t>(kTableFileVersion, at + kVersionAt);
  PutNumber<uint32_t>(bytes.size(), at + kHeaderBytesAt);
  PutNumber<uint32_t>(info.layout.dim, at + kDimAt);
  PutNumber<int32_t>(static_cast<int32_t>(info.layout.value_type), at + kValueTypeAt);
  PutNumber<uint32_t>(info.layout.num_slots, at + kNumSlotsAt);
  PutNumber<uint32_t>(info.layout.num_scalars, at + kNumScalarsAt);
  PutNumber<uint32_t>(info.layout.stride, at + kStrideAt);
  PutNumber<int32_t>(static_cast<int32_t>(info.optimizer.kind), at + kOptimizerKindAt);
  PutNumber<uint32_t>(info.optimizer.flags, at + kOptimizerFlagsAt);
  std::memcpy(at + kSlotInitAt, info.optimizer.slot_init, sizeof info.optimizer.slot_init);
  PutNumber<int32_t>(static_cast<int32_t>(info.initializer.kind), at + kInitializerKindAt);
  PutNumber<float>(info.initializer.a, at + kInitializerAAt);
  PutNumber<float>(info.initializer.b, at + kInitializerBAt);
  PutNumber<uint32_t>(0, at + kReservedAt);
  PutNumber<uint64_t>(info.initializer.seed, at + kSeedAt);
  PutNumber<int64_t>(info.rows, at + kRowsAt);
  PutNumber<uint32_t>(name.size(), at + kNameBytesAt);
  std::copy(name.begin(), name.end(), at + kFixedHeaderBytes);
  const size_t covered = bytes.size() - kCrcBytes;
  PutNumber<uint32_t>(Crc32c(0, at, covered), at + covered);
  return bytes;
}

Status DecodePreamble(const uint8_t* fixed, const std::string& file_name, size_t* name_bytes) {
  if (std::memcmp(fixed + kMagicAt, kTableFileMagic, sizeof kTableFileMagic) != 0) {
    return InvalidArgument("\"" + file_name +
                           "\" is not a file of an embedding table: it does not begin as one. "
                           "Check the path.");
  }
  const uint32_t version = GetNumber<uint32_t>(fixed + kVersionAt);
  if (version != kTableFileVersion) {
    return FailedPrecondition("\"" + file_name + "\" has format version " +
                              std::to_string(version) + " and this build reads version " +
                              std::to_string(kTableFileVersion) +
                              ". Read it with the release of TACO that wrote it, or a newer one; "
                              "if there is none, the file is corrupt.");
  }
  const uint64_t length = GetNumber<uint32_t>(fixed + kNameBytesAt);
  const uint64_t header_bytes = GetNumber<uint32_t>(fixed + kHeaderBytesAt);
  if (length > kMaxTableNameBytes || header_bytes != kFixedHeaderBytes + length + kCrcBytes) {
    return DataLoss("\"" + file_name +
                    "\" is corrupt: the lengths in its header disagree. Restore from another "
                    "checkpoint.");
  }
  *name_bytes = length;
  return OkStatus();
}

Status DecodeTableFileHeader(const uint8_t* fixed, const std::string& name,
                             const std::string& file_name, TableFileInfo* info) {
  const uint32_t dim = GetNumber<uint32_t>(fixed + kDimAt);
  const uint32_t num_slots = GetNumber<uint32_t>(fixed + kNumSlotsAt);
  const uint32_t num_scalars = GetNumber<uint32_t>(fixed + kNumScalarsAt);
  const Status inconsistent =
      DataLoss("\"" + file_name +
               "\" contradicts itself in its header, although the checksum is right: another "
               "program wrote it, or the writer was at fault. Restore from another checkpoint.");
  // Small enough that a layout can be computed from them.
  if (dim < 1 || dim > kMaxFileDim || num_slots > 3 || num_scalars > 1) return inconsistent;

  TableFileInfo decoded;
  decoded.table_name = name;
  decoded.optimizer.kind = static_cast<OptimizerKind>(GetNumber<int32_t>(fixed + kOptimizerKindAt));
  decoded.optimizer.flags = GetNumber<uint32_t>(fixed + kOptimizerFlagsAt);
  std::memcpy(decoded.optimizer.slot_init, fixed + kSlotInitAt, sizeof decoded.optimizer.slot_init);
  decoded.initializer.kind =
      static_cast<InitializerKind>(GetNumber<int32_t>(fixed + kInitializerKindAt));
  decoded.initializer.a = GetNumber<float>(fixed + kInitializerAAt);
  decoded.initializer.b = GetNumber<float>(fixed + kInitializerBAt);
  decoded.initializer.seed = GetNumber<uint64_t>(fixed + kSeedAt);
  decoded.rows = GetNumber<int64_t>(fixed + kRowsAt);
  const auto type = static_cast<ValueType>(GetNumber<int32_t>(fixed + kValueTypeAt));
  decoded.layout = RowLayout(static_cast<int>(dim), type, static_cast<int>(num_slots),
                             static_cast<int>(num_scalars));
  if (!KnownEnums(decoded) || GetNumber<uint32_t>(fixed + kReservedAt) != 0) {
    return FailedPrecondition("\"" + file_name +
                              "\" holds rows of a value type, optimizer or initializer that this "
                              "build does not know. Read it with a newer release of TACO.");
  }
  if (GetNumber<uint32_t>(fixed + kStrideAt) != decoded.layout.stride ||
      !ValidateTableFileInfo(decoded).ok()) {
    return inconsistent;
  }
  *info = decoded;
  return OkStatus();
}

int64_t RowsPerBlock(const RowLayout& layout) {
  return std::max<int64_t>(1, static_cast<int64_t>(kMaxBlockBytes / layout.stride));
}

uint32_t BlockCrc(const uint8_t* block_header, const uint8_t* rows, size_t bytes) {
  return Crc32c(Crc32c(0, block_header, 8), rows, bytes);
}

}  // namespace embedding
}  // namespace taco

// The header, block headers and footer of a table file as bytes. Little-endian throughout.
#ifndef TF_OPS_EMBEDDING_TABLE_TABLE_FILE_HEADER_H_
#define TF_OPS_EMBEDDING_TABLE_TABLE_FILE_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "tf_ops/embedding/table/status.h"
#include "tf_ops/embedding/table/table_file.h"

namespace taco {
namespace embedding {

// Rows and numbers are copied as they lie in memory.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file is little-endian");

inline constexpr uint8_t kTableFileMagic[8] = {0x89, 'T', 'A', 'C', 'O', 'E', 'M', 'B'};
inline constexpr uint32_t kTableFileVersion = 1;

inline constexpr size_t kFixedHeaderBytes = 92;  // up to the table's name
inline constexpr size_t kCrcBytes = 4;
inline constexpr size_t kBlockHeaderBytes = 12;
inline constexpr size_t kFooterBytes = 28;  // of which the first 12 lie where a block header would

template <class Number>
Number GetNumber(const uint8_t* bytes) {
  Number number;
  std::memcpy(&number, bytes, sizeof number);
  return number;
}

template <class Number>
void PutNumber(Number number, uint8_t* bytes) {
  std::memcpy(bytes, &number, sizeof number);
}

// The whole header, its CRC included.
std::vector<uint8_t> EncodeTableFileHeader(const TableFileInfo& info);

// What the first kFixedHeaderBytes say about how to read on: whether this is a table file, its
// version, and the length of the name. Nothing else in them may be trusted before the CRC agrees.
Status DecodePreamble(const uint8_t* fixed, const std::string& file_name, size_t* name_bytes);

// The fields of a header whose CRC is right.
Status DecodeTableFileHeader(const uint8_t* fixed, const std::string& name,
                             const std::string& file_name, TableFileInfo* info);

// InvalidArgument, saying what is wrong, if no file may have this header.
Status ValidateTableFileInfo(const TableFileInfo& info);

// How many rows a block may hold: kMaxBlockBytes' worth, and always one.
int64_t RowsPerBlock(const RowLayout& layout);

// The checksum of a block: over the first 8 bytes of its header, then its rows.
uint32_t BlockCrc(const uint8_t* block_header, const uint8_t* rows, size_t bytes);

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_TABLE_FILE_HEADER_H_

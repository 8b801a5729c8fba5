#include "nccl_plugin/tools/harp_check/plugin.h"

#include <dlfcn.h>
#include <elf.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "nccl_plugin/tools/harp_check/board.h"

namespace taco {
namespace harp {
namespace {

void* Open(const std::string& path) {
  ScopedCall call("dlopen");
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) Fail("dlopen: %s", dlerror());
  return library;
}

// `count` objects at an offset of the file; empty where they are not all inside.
template <class T>
std::vector<T> Read(const std::string& file, uint64_t offset, uint64_t count) {
  std::vector<T> objects;
  if (offset > file.size() || count > (file.size() - offset) / sizeof(T)) return objects;
  objects.resize(count);
  if (count != 0) std::memcpy(objects.data(), file.data() + offset, count * sizeof(T));
  return objects;
}

bool StartsWith(const char* text, const char* prefix) {
  return std::strncmp(text, prefix, std::strlen(prefix)) == 0;
}

bool IsLookedFor(const char* name) {
  for (const char* prefix :
       {"ncclNet", "ncclCollNet", "ncclTuner", "ncclProfiler", "ncclGin", "ncclEnv", "ncclRma"}) {
    if (StartsWith(name, prefix)) return true;
  }
  // What linkers put into every library.
  for (const char* known : {"_init", "_fini", "_edata", "_end", "__bss_start"}) {
    if (std::strcmp(name, known) == 0) return true;
  }
  return false;
}

// NAME of libnccl-net-NAME.so, which nobody else has in the names of symbols; empty: it has none.
std::string OwnName(const std::string& path) {
  const std::string file = path.substr(path.rfind('/') + 1);
  const std::string prefix = "libnccl-net-";
  if (file.compare(0, prefix.size(), prefix) != 0) return "";
  return file.substr(prefix.size(), file.find('.') - prefix.size());
}

}  // namespace

Plugin::Plugin(const std::string& path) : library_(Open(path)) {}

Plugin::~Plugin() {
  ScopedCall call("dlclose");
  dlclose(library_);
}

std::unique_ptr<Net> Plugin::Find(int version) const {
  const std::string symbol = "ncclNetPlugin_v" + std::to_string(version);
  const void* table = dlsym(library_, symbol.c_str());
  return table == nullptr ? nullptr : Adapt(version, table);
}

std::vector<std::string> StrangeExports(const std::string& path, std::string* error) {
  std::ifstream stream(path, std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(stream), {}};
  const std::vector<Elf64_Ehdr> header = Read<Elf64_Ehdr>(file, 0, 1);
  if (header.empty() || std::memcmp(header[0].e_ident, ELFMAG, SELFMAG) != 0 ||
      header[0].e_ident[EI_CLASS] != ELFCLASS64) {
    *error = "no ELF file of 64 bits";
    return {};
  }
  const auto sections = Read<Elf64_Shdr>(file, header[0].e_shoff, header[0].e_shnum);
  const std::string own = OwnName(path);
  std::vector<std::string> strange;
  bool found = false;
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_DYNSYM || section.sh_link >= sections.size()) continue;
    found = true;
    const Elf64_Shdr& strings = sections[section.sh_link];
    std::vector<char> names = Read<char>(file, strings.sh_offset, strings.sh_size);
    names.push_back(0);
    for (const Elf64_Sym& symbol :
         Read<Elf64_Sym>(file, section.sh_offset, section.sh_size / sizeof(Elf64_Sym))) {
      const int visibility = ELF64_ST_VISIBILITY(symbol.st_other);
      if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx == SHN_ABS ||
          symbol.st_name >= names.size() || ELF64_ST_BIND(symbol.st_info) == STB_LOCAL ||
          visibility == STV_HIDDEN || visibility == STV_INTERNAL) {
        continue;
      }
      const char* name = names.data() + symbol.st_name;
      const bool is_own = own.size() >= 3 && std::string(name).find(own) != std::string::npos;
      if (!IsLookedFor(name) && !is_own) strange.push_back(name);
    }
  }
  if (!found) *error = "it has no table of dynamic symbols";
  return strange;
}

}  // namespace harp
}  // namespace taco

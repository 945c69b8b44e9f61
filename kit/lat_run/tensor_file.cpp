#include "tensor_file.h"

#include <algorithm>
#include <optional>

#include "error.h"
#include "json.h"

namespace lat_run {
namespace {

// The format's own limit.
constexpr std::uint64_t kLongestHeader = 100'000'000;

struct Spelled {
  const char* name;
  DType dtype;
};

constexpr Spelled kKnown[] = {{"F32", DType::kFloat32}, {"F16", DType::kFloat16}, {"BF16", DType::kBFloat16},
                              {"F64", DType::kFloat64}, {"I32", DType::kInt32},   {"I64", DType::kInt64},
                              {"U8", DType::kUInt8}};

// Nothing for a type that the format has and this program does not.
std::optional<DType> known(const std::string& name) {
  for (const Spelled& type : kKnown)
    if (name == type.name) return type.dtype;
  return std::nullopt;
}

}  // namespace

TensorFile::TensorFile(const std::string& path) : path_(path), stream_(path, std::ios::binary) {
  if (!stream_) throw Error("cannot be read: " + path);
  stream_.seekg(0, std::ios::end);
  const std::streamoff file_bytes = stream_.tellg();
  if (file_bytes < 0) fail("no plain file");
  try {
    read_header(static_cast<std::uint64_t>(file_bytes));
    check_places(static_cast<std::uint64_t>(file_bytes) - data_at_);
  } catch (const Error& error) {
    fail(error.what());
  }
}

void TensorFile::fail(const std::string& why) const {
  const std::string name = path_ + ": ";
  throw Error(why.rfind(name, 0) == 0 ? why : name + why);
}

void TensorFile::read_header(std::uint64_t file_bytes) {
  unsigned char size[8];
  stream_.seekg(0);
  if (file_bytes < sizeof size || !stream_.read(reinterpret_cast<char*>(size), sizeof size))
    fail("truncated: no header");
  std::uint64_t header_bytes = 0;
  for (int at = 7; at >= 0; --at) header_bytes = header_bytes << 8 | size[at];
  if (header_bytes > kLongestHeader)
    fail("no safetensors file: a header of " + std::to_string(header_bytes) + " bytes");
  if (header_bytes > file_bytes - sizeof size) fail("truncated: the header is longer than the file");
  std::string text(header_bytes, '\0');
  if (!stream_.read(text.data(), static_cast<std::streamsize>(header_bytes))) fail("truncated: the header ends early");
  data_at_ = sizeof size + header_bytes;

  const Json header = Json::parse(text);
  for (const std::string& name : header.names()) {
    if (name == "__metadata__") continue;
    const Json& found = header.at(name);
    const std::vector<std::int64_t> offsets = found.at("data_offsets").wholes();
    Entry entry{found.at("dtype").text(), found.at("shape").wholes()};
    if (offsets.size() != 2 || offsets[0] < 0 || offsets[1] < offsets[0]) fail(name + ": no place in the data");
    entry.begin = static_cast<std::uint64_t>(offsets[0]);
    entry.end = static_cast<std::uint64_t>(offsets[1]);
    const std::size_t count = count_of(entry.shape);
    const std::optional<DType> dtype = known(entry.dtype);
    if (dtype && entry.end - entry.begin != count * bytes_of(*dtype))
      fail(name + ": " + std::to_string(entry.end - entry.begin) + " bytes for " + entry.dtype + " of " +
           text_of(entry.shape));
    entries_.emplace(name, std::move(entry));
  }
}

// One after the other, without gaps, to the end: then nothing is missing, and no two share a byte.
void TensorFile::check_places(std::uint64_t data_bytes) const {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> places;
  for (const auto& [name, entry] : entries_) places.emplace_back(entry.begin, entry.end);
  std::sort(places.begin(), places.end());
  std::uint64_t end = 0;
  for (const auto& [begin, place_end] : places) {
    if (begin != end) fail("tensors overlap, or leave a gap, at byte " + std::to_string(end) + " of the data");
    end = place_end;
  }
  if (end > data_bytes)
    fail("truncated: " + std::to_string(data_bytes) + " bytes of data, expected " + std::to_string(end));
  if (end < data_bytes) fail("more data than tensors");
}

std::vector<std::string> TensorFile::names() const {
  std::vector<std::string> found;
  for (const auto& [name, entry] : entries_) found.push_back(name);
  return found;
}

Array TensorFile::read(const std::string& name) {
  const auto place = entries_.find(name);
  if (place == entries_.end()) fail("no tensor " + name);
  const Entry& entry = place->second;
  const std::optional<DType> dtype = known(entry.dtype);
  if (!dtype) fail(name + ": elements of type " + entry.dtype + ", which lat_run does not read");
  Array array{*dtype, entry.shape, std::vector<char>(entry.end - entry.begin)};
  stream_.clear();
  stream_.seekg(static_cast<std::streamoff>(data_at_ + entry.begin));
  if (!stream_.read(array.bytes.data(), static_cast<std::streamsize>(array.bytes.size()))) fail(name + ": truncated");
  return array;
}

}  // namespace lat_run

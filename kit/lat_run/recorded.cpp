// Outputs of a file, from whatever computed them.
#include <stdexcept>

#include "error.h"
#include "subject.h"
#include "tensor_file.h"

namespace lat_run {
namespace {

class Recorded final : public Subject {
 public:
  explicit Recorded(const std::string& path) : path_(path), tensors_(path) {}

  std::string title() const override { return "outputs in " + path_; }

  Arrays run(const Case& one, const Arrays&) override {
    Arrays found;
    for (const auto& [name, bar] : one.outputs) {
      const std::string tensor = one.prefix + ".outputs." + name;
      if (tensors_.has(tensor)) found.emplace(name, tensors_.read(tensor));
    }
    return found;
  }

 private:
  std::string path_;
  TensorFile tensors_;
};

}  // namespace

std::unique_ptr<Subject> open_recorded(const std::string& path) { return std::make_unique<Recorded>(path); }

}  // namespace lat_run

// In place of engine.cpp where there are no headers of TensorRT: comparing works, running an engine does not.
#include "error.h"
#include "subject.h"

namespace lat_run {

std::unique_ptr<Subject> open_engine(const std::string&, const std::vector<std::string>&) {
  throw Error("this lat_run was built without TensorRT's headers: it compares --outputs FILE only", kMissing);
}

}  // namespace lat_run

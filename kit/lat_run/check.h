// The golden cases of a folder through what is compared, and the table and verdict that are printed of it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "error.h"
#include "subject.h"

namespace lat_run {

// `folder` holds kit.json and golden.safetensors; `open` is called once both were read. kPassed: every output of every
// case is within its tolerance; kFailed: one is not, or a case did not run.
ExitCode check(const std::string& folder, const std::function<std::unique_ptr<Subject>()>& open);

}  // namespace lat_run

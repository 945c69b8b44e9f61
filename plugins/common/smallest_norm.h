// What stands for the L2 norm of a row that has a smaller one, as in torch.nn.functional.normalize.
#pragma once

namespace lat {

constexpr float kSmallestNorm = 1e-12f;

}  // namespace lat

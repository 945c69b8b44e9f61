// What liblat_cuda has beside the kernels; libraries that hold other kernels too have it from there.
#include "common/kernel_abi.h"

int32_t lat_abi_version(void) { return LAT_ABI_VERSION; }

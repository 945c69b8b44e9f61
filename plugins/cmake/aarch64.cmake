# For aarch64 on another machine: Debian's g++-aarch64-linux-gnu, and qemu-user to run the kernels' tests where it is.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
find_program(LAT_QEMU qemu-aarch64)
if(LAT_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${LAT_QEMU} -L /usr/aarch64-linux-gnu)
endif()

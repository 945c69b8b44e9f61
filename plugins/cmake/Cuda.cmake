# liblat_cuda.so: the CUDA kernels' C ABI. `lat_cuda_kernels` are its objects, for libraries that carry the kernels too.
#
# LAT_CUDA_ARCHS  empty (the default): no CUDA. native: this machine's GPU. all: every arch that is supported, and PTX of
#                 the last. Or a list of CMake's own: 80-real;90-real;120.
set(LAT_CUDA_ARCHS "" CACHE STRING "CUDA architectures: native, all, a list such as 80;90, or nothing")
file(GLOB LAT_CUDA_SOURCES CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} */kernel_cuda.cu)
set(LAT_CUDA_LACK "")

# The kernels' index arithmetic runs on the host too: its tests need no CUDA.
if(LAT_CUDA_ARCHS OR LAT_SANITIZE)
  enable_testing()
  file(GLOB LAT_INDEX_TESTS CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} common/*_test.cpp)
  foreach(test IN LISTS LAT_INDEX_TESTS)
    get_filename_component(name ${test} NAME_WE)
    add_executable(${name} ${test})
    target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    add_test(NAME ${name} COMMAND ${name})
  endforeach()
endif()

if(LAT_CUDA_ARCHS)
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(LAT_CUDA_LACK "no nvcc: it comes with the CUDA toolkit; -DCMAKE_CUDA_COMPILER names one that is not on the PATH")
  endif()
endif()

if(LAT_CUDA_LACK)
  message(WARNING "liblat_cuda is left out: ${LAT_CUDA_LACK}")
elseif(LAT_CUDA_ARCHS)
  if(LAT_CUDA_ARCHS STREQUAL "all")
    set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 87-real 89-real 90-real 100-real 120)
  else()
    set(CMAKE_CUDA_ARCHITECTURES ${LAT_CUDA_ARCHS})
  endif()
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)

  add_library(lat_cuda_kernels OBJECT ${LAT_CUDA_SOURCES} common/cuda_entry.cpp)
  target_include_directories(lat_cuda_kernels PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(lat_cuda_kernels PUBLIC CUDA::cudart_static)
  # --threads: architectures of one file side by side.
  target_compile_options(lat_cuda_kernels PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v --threads=2>)

  add_library(lat_cuda SHARED $<TARGET_OBJECTS:lat_cuda_kernels> common/arguments.cpp common/cuda_library.cpp)
  target_include_directories(lat_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  # The static runtime's symbols stay inside.
  target_link_libraries(lat_cuda PRIVATE CUDA::cudart_static)
  target_link_options(lat_cuda PRIVATE -Wl,--exclude-libs,ALL)
endif()

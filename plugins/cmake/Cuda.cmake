# liblat_cuda.so: the CUDA kernels' C ABI. `lat_cuda_kernels` are its objects, for libraries that carry the kernels too.
#
# LAT_CUDA_ARCHS  empty (the default): no CUDA. native: this machine's GPU. all: every arch that is supported, and PTX for
#                 those to come. Or a list of CMake's own: 80-real;90-real;120.
set(LAT_CUDA_ARCHS "" CACHE STRING "CUDA architectures: native, all, a list such as 80;90, or nothing")
file(GLOB LAT_CUDA_SOURCES CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} */kernel_cuda.cu)
set(LAT_CUDA_LACK "")
set(LAT_CUDA_LEAST 80)  # mma with bfloat16, cp.async
set(LAT_CUDA_COMPILED_FOR "")  # sm_90 runs there, compute_120 is PTX
set(LAT_CUDA_COMPILER "")

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

foreach(arch IN LISTS LAT_CUDA_ARCHS)
  string(REGEX MATCH "^[0-9]+" number "${arch}")
  if(number AND number LESS LAT_CUDA_LEAST)
    message(FATAL_ERROR "LAT_CUDA_ARCHS: got ${arch}, expected ${LAT_CUDA_LEAST} or later")
  endif()
endforeach()

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
    # No kernel uses what only one arch has, so many are assembled from one PTX: half the time of one PTX an arch. Those
    # that hold more blocks of threads have one of their own (mma_blocks in common/cuda_collision_rate.cuh).
    set(LAT_CUDA_COMPILED_FOR sm_80 sm_86 sm_87 sm_89 sm_90 sm_100 sm_120 compute_80)
    set(arch_options --generate-code=arch=compute_80,code=[sm_80,sm_86,sm_87,sm_89,sm_120,compute_80]
                     --generate-code=arch=compute_90,code=[sm_90,sm_100])
    set(CMAKE_CUDA_ARCHITECTURES OFF)
  else()
    set(arch_options "")
    set(CMAKE_CUDA_ARCHITECTURES ${LAT_CUDA_ARCHS})
  endif()
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  set(LAT_CUDA_COMPILER "${CMAKE_CUDA_COMPILER_ID} ${CMAKE_CUDA_COMPILER_VERSION}")
  set(named "")
  if(LAT_CUDA_ARCHS STREQUAL "native")
    set(named ${CMAKE_CUDA_ARCHITECTURES_NATIVE})
  elseif(NOT LAT_CUDA_ARCHS STREQUAL "all")
    set(named ${LAT_CUDA_ARCHS})
  endif()
  foreach(arch IN LISTS named)
    string(REGEX REPLACE "-.*" "" number ${arch})
    if(NOT arch MATCHES "-virtual$")
      list(APPEND LAT_CUDA_COMPILED_FOR sm_${number})
    endif()
    if(NOT arch MATCHES "-real$")
      list(APPEND LAT_CUDA_COMPILED_FOR compute_${number})
    endif()
  endforeach()

  add_library(lat_cuda_kernels OBJECT ${LAT_CUDA_SOURCES} common/cuda_entry.cpp)
  target_include_directories(lat_cuda_kernels PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(lat_cuda_kernels PUBLIC CUDA::cudart_static)
  # --threads: architectures of one file side by side.
  target_compile_options(lat_cuda_kernels PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v --threads=2 ${arch_options}>)

  add_library(lat_cuda SHARED $<TARGET_OBJECTS:lat_cuda_kernels> common/arguments.cpp common/cuda_library.cpp)
  target_include_directories(lat_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(lat_cuda PRIVATE CUDA::cudart_static)
  lat_export_only(lat_cuda kernel_exports)
endif()

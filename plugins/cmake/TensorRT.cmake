# liblat_trt.so: a TensorRT plugin for every op with a tensorrt_plugin.cpp, its CUDA kernels inside. TensorRT is not
# linked, only its headers are needed. Left out, with LAT_TENSORRT_LACK as the reason, without these or the kernels.
file(GLOB LAT_TENSORRT_PLUGINS CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} */tensorrt_plugin.cpp)
include(${CMAKE_CURRENT_LIST_DIR}/TensorrtHeaders.cmake)

if(NOT TARGET lat_cuda_kernels)
  set(lack "no CUDA kernels to put into it: -DLAT_CUDA_ARCHS builds them")
  if(LAT_CUDA_LACK)
    set(lack "no CUDA kernels to put into it: ${LAT_CUDA_LACK}")
  endif()
  if(LAT_TENSORRT_LACK)
    string(APPEND lack ", and ${LAT_TENSORRT_LACK}")
  endif()
  set(LAT_TENSORRT_LACK "${lack}")
endif()

if(LAT_TENSORRT_LACK)
  message(STATUS "liblat_trt is left out: ${LAT_TENSORRT_LACK}")
else()
  add_library(lat_trt SHARED ${LAT_TENSORRT_PLUGINS} common/tensorrt_op.cpp common/tensorrt_library.cpp
                             common/contract.cpp common/arguments.cpp $<TARGET_OBJECTS:lat_cuda_kernels>)
  target_include_directories(lat_trt PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_include_directories(lat_trt SYSTEM PRIVATE ${LAT_TENSORRT_INCLUDE} ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(lat_trt PRIVATE lat_cudart ${CMAKE_DL_LIBS})
  # Two names go out, and nothing but the system's libraries is asked for: a call into TensorRT would not link.
  lat_export_only(lat_trt tensorrt_exports)
  if(NOT LAT_SANITIZE)
    target_link_options(lat_trt PRIVATE -Wl,-z,defs)
  endif()
endif()

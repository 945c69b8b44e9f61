# CUDA's runtime for the machine that is built for, where that is not this one: LAT_CUDA_TARGET, a folder with
# lib/libcudart_static.a, or nothing and LAT_CUDA_TARGET_LACK as the reason. nvcc needs no more: device code is the same
# everywhere, and so are CUDA's headers.
set(LAT_CUDA_TARGET "" CACHE PATH "Folder with lib/libcudart_static.a for the machine that is built for")
set(LAT_CUDA_TARGET_LACK "")
if(LAT_CUDA_TARGET)
  if(NOT EXISTS ${LAT_CUDA_TARGET}/lib/libcudart_static.a)
    set(LAT_CUDA_TARGET_LACK "no lib/libcudart_static.a in LAT_CUDA_TARGET=${LAT_CUDA_TARGET}")
  endif()
else()
  set(LAT_CUDA_TARGET ${CMAKE_BINARY_DIR}/cuda_runtime/nvidia/cu13)
  if(NOT EXISTS ${LAT_CUDA_TARGET}/lib/libcudart_static.a)
    message(STATUS "Fetching CUDA's runtime for ${CMAKE_SYSTEM_PROCESSOR} (PyPI's nvidia-cuda-runtime)")
    execute_process(COMMAND ${CMAKE_CURRENT_LIST_DIR}/fetch_cuda_runtime.sh ${CMAKE_CUDA_COMPILER}
                            ${CMAKE_SYSTEM_PROCESSOR} ${CMAKE_BINARY_DIR}/cuda_runtime
                    RESULT_VARIABLE failed ERROR_VARIABLE why OUTPUT_QUIET)
    if(failed)
      string(STRIP "${why}" why)
      string(REGEX REPLACE "\n.*" "" why "${why}")
      file(REMOVE_RECURSE ${CMAKE_BINARY_DIR}/cuda_runtime)
      set(LAT_CUDA_TARGET_LACK "no CUDA runtime for ${CMAKE_SYSTEM_PROCESSOR}: -DLAT_CUDA_TARGET names its folder")
      string(APPEND LAT_CUDA_TARGET_LACK " (fetching it failed: ${why})")
    endif()
  endif()
endif()

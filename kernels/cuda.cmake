# SPDX-License-Identifier: Apache-2.0
#
# Looks for what the CUDA back-end needs, in the scope of the whole project. TRAINFARE_CUDA=AUTO takes what is there and says so in
# one line, ON fails where something is missing, OFF looks for nothing. Sets TRAINFARE_CUDA_FOUND.
set(TRAINFARE_CUDA AUTO CACHE STRING "CUDA back-end of the training step: AUTO (where a toolkit is found), ON or OFF")
set(TRAINFARE_CUDA_FOUND OFF)
set(missing "")
if(TRAINFARE_CUDA STREQUAL "OFF")
  set(missing "nothing was looked for (TRAINFARE_CUDA=OFF)")
else()
  find_package(CUDAToolkit 12.9 QUIET) # looks beyond PATH, which check_language does not
  if(CUDAToolkit_FOUND)
    find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    find_library(CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
    find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
    if(NOT CUDNN_INCLUDE_DIR OR NOT CUDNN_LIBRARY)
      set(missing "cuDNN 9")
    endif()
  else()
    set(missing "the CUDA Toolkit (12.9 or later)")
  endif()
endif()

if(missing)
  if(TRAINFARE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "TRAINFARE_CUDA=ON, but ${missing} is missing; install it or configure with TRAINFARE_CUDA=AUTO")
  endif()
  message(STATUS "CUDA back-end: not built, ${missing}")
  return()
endif()

if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90a) # Hopper with wgmma; the shorthand -arch=sm_90a would add a plain sm_90 pass
endif()
set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
if(CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
enable_language(CUDA)
if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION) # CMake 3.25 does not know that nvcc can
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
set(TRAINFARE_CUDA_FOUND ON)

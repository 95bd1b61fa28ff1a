// SPDX-License-Identifier: Apache-2.0
//
// Stands in for back-end `cuda` where the program is built without CUDA, so that callers need no #if.
#include "kernels/backend.hpp"

#include "model/error.hpp"

namespace trainfare::kernels {

std::unique_ptr<Backend> make_cuda_backend(int)
{
    throw InputError("cuda: this program was built without CUDA; use back-end cpu, or build it where CMake finds the "
                     "CUDA Toolkit (12.9 or later) and cuDNN 9");
}

bool cuda_available(std::string* why)
{
    if (why != nullptr) *why = "this program was built without CUDA";
    return false;
}

} // namespace trainfare::kernels

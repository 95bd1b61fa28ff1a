// SPDX-License-Identifier: Apache-2.0
//
// Stands in for communicator `nccl` where the program is built without NCCL, so that callers need no #if.
#include "kernels/comm/communicator.hpp"
#include "model/error.hpp"

namespace trainfare::kernels {

bool nccl_available(std::string* why)
{
    if (why != nullptr) *why = "this program was built without NCCL";
    return false;
}

std::string nccl_version() { return ""; }

std::unique_ptr<Communicator> make_nccl_communicator(Backend&, Rendezvous const&, int)
{
    throw InputError(
        "nccl: this program was built without NCCL; use --communicator threads, or build it where CMake finds "
        "CUDA and NCCL");
}

} // namespace trainfare::kernels

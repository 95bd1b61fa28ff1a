// SPDX-License-Identifier: Apache-2.0
//
// Where the shipped models, clusters, prices and examples are.
#include <cstdlib>
#include <filesystem>

#include "scenarios/load.hpp"

namespace trainfare {

/// $TRAINFARE_SCENARIOS, else ../share/trainfare/scenarios beside the program, else the source tree.
std::string shipped_folder()
{
    namespace fs = std::filesystem;
    if (char const* folder = std::getenv("TRAINFARE_SCENARIOS"); folder && *folder) return folder;
    std::error_code error;
    auto const program = fs::read_symlink("/proc/self/exe", error);
    if (!error) {
        auto const installed = program.parent_path().parent_path() / "share/trainfare/scenarios";
        if (fs::is_directory(installed, error)) return installed.string();
    }
    return TRAINFARE_SOURCE_DIR "/scenarios";
}

} // namespace trainfare

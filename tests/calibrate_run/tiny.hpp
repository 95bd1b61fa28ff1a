// SPDX-License-Identifier: Apache-2.0
//
// A model of DeepSeek-V3's family that a host measures in seconds, and a folder that goes away again.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "calibrate/run/points.hpp"
#include "model/hf_config.hpp"

namespace trainfare::measure {

inline Request tiny_request()
{
    Request r;
    r.model = read_hf_config(TRAINFARE_SOURCE_DIR "/calibrate/run/tiny.json");
    r.ep = 4, r.seq = 32, r.sms = 32;
    r.sizes = host_sizes();
    return r;
}

class Folder {
public:
    explicit Folder(std::string const& name)
        : path_{std::filesystem::temp_directory_path() / ("trainfare-" + name + "-" + std::to_string(::getpid()))}
    {
        std::filesystem::remove_all(path_);
    }
    ~Folder() { std::filesystem::remove_all(path_); }
    Folder(Folder const&) = delete;
    Folder& operator=(Folder const&) = delete;

    [[nodiscard]] std::string path() const { return path_.string(); }
    [[nodiscard]] std::string file(char const* name) const { return (path_ / name).string(); }
    [[nodiscard]] std::string text(char const* name) const
    {
        std::ostringstream out;
        out << std::ifstream{file(name), std::ios::binary}.rdbuf();
        return out.str();
    }
    void write(char const* name, std::string const& text) const
    {
        std::filesystem::create_directories(path_);
        std::ofstream{file(name), std::ios::binary} << text;
    }

private:
    std::filesystem::path path_;
};

} // namespace trainfare::measure

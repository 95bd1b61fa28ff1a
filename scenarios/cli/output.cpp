// SPDX-License-Identifier: Apache-2.0
//
// Writes go straight to the file descriptor, so that the reason of a failure is known.
#include "scenarios/cli/output.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include <fmt/format.h>
#include <unistd.h>

#include "model/error.hpp"

namespace trainfare {

void write_result(std::string const& text)
{
    for (std::size_t done = 0; done < text.size();) {
        auto const n = ::write(STDOUT_FILENO, text.data() + done, text.size() - done);
        if (n >= 0) {
            done += static_cast<std::size_t>(n);
        } else if (errno == EPIPE) {
            return;
        } else if (errno != EINTR) {
            throw InputError(SourcePlace{"standard output"},
                             fmt::format("cannot be written ({})", std::strerror(errno)));
        }
    }
}

void write_file(std::string const& path, std::function<void(std::ostream&)> const& write)
{
    auto const fail = [&] {
        throw InputError(SourcePlace{path},
                         fmt::format("cannot be written ({}); try another place", std::strerror(errno)));
    };
    errno = 0;
    std::ofstream file{path, std::ios::binary};
    if (!file) fail();
    write(file);
    file.close();
    if (!file) fail();
}

void note(bool quiet, std::string const& line)
{
    if (!quiet && ::isatty(STDERR_FILENO)) fmt::print(stderr, "trainfare: {}\n", line);
}

} // namespace trainfare

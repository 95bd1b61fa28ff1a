// SPDX-License-Identifier: Apache-2.0
//
// Errors that a user can cause. Grammar: `file:line: what is wrong (why it matters); what to try`.
#pragma once

#include <stdexcept>
#include <string>

namespace trainfare {

/// Where a value was read: file, 1-based line and column; 0 = not known. Prints as `file:line:column`.
struct SourcePlace {
    std::string file;
    int line = 0;
    int column = 0;

    [[nodiscard]] std::string text() const
    {
        std::string out = file;
        if (line > 0) out.append(":").append(std::to_string(line));
        if (line > 0 && column > 0) out.append(":").append(std::to_string(column));
        return out;
    }
};

/// Bad input: exit code 3.
class InputError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
    InputError(SourcePlace const& where, std::string const& message)
        : std::runtime_error(where.file.empty() ? message : where.text() + ": " + message) {}
};

/// A number has no measured cost behind it and --strict forbids guessing: exit code 4.
class MissingCalibration : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Our own failure (the simulation child died, an invariant broke): exit code 5.
class InternalError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

} // namespace trainfare

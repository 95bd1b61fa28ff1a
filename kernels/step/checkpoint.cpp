// SPDX-License-Identifier: Apache-2.0
//
// The checkpoint format, version 1, little-endian: "TFCHECK1", length and text of the fingerprint, number of tensors,
// of each the length and text of its name and its size in bytes; then all bytes, and FNV-1a (64 bits) of everything
// before.
#include "kernels/step/checkpoint.hpp"

#include <bit>
#include <cstring>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "kernels/step/random.hpp"
#include "model/error.hpp"

namespace trainfare::kernels {
namespace {

static_assert(std::endian::native == std::endian::little, "the file is written in the machine's byte order");

constexpr std::string_view magic = "TFCHECK1";

std::size_t bytes_of(Tensor const& t) { return static_cast<std::size_t>(t.size()) * t.bytes_each; }

std::string number(std::uint64_t n)
{
    std::string s(sizeof n, '\0');
    std::memcpy(s.data(), &n, sizeof n);
    return s;
}

std::string with_length(std::string const& text) { return number(text.size()) + text; }

std::string header(std::string const& fingerprint, std::vector<NamedTensor> const& tensors)
{
    std::string h{magic};
    h += with_length(fingerprint) + number(tensors.size());
    for (auto const& t : tensors) h += with_length(t.name) + number(bytes_of(t.tensor));
    return h;
}

std::string_view chars(std::vector<std::byte> const& b) { return {reinterpret_cast<char const*>(b.data()), b.size()}; }

/// The first line of @p found that is not in @p wanted, and what stands there instead.
std::string difference(std::string const& found, std::string const& wanted)
{
    std::istringstream a{found}, b{wanted};
    std::string x, y;
    do {
        x.clear(), y.clear();
        std::getline(a, x), std::getline(b, y);
    } while (x == y && (a || b));
    return fmt::format("it was written with \"{}\", this run has \"{}\"", x, y);
}

/// Fingerprint of a file that does not begin as expected; empty if it has none.
std::string fingerprint_in(std::ifstream& in, std::uintmax_t file_size)
{
    std::string start(magic.size() + sizeof(std::uint64_t), '\0');
    in.clear();
    in.seekg(0);
    if (!in.read(start.data(), std::ssize(start)) || !start.starts_with(magic)) return {};
    std::uint64_t length = 0;
    std::memcpy(&length, start.data() + magic.size(), sizeof length);
    if (length > 65536 || length > file_size) return {};
    std::string text(length, '\0');
    return in.read(text.data(), std::ssize(text)) ? text : std::string{};
}

[[noreturn]] void refuse(std::filesystem::path const& path, std::string const& what, std::string const& advice)
{
    throw InputError(fmt::format("{}: {}; {}", path.string(), what, advice));
}

} // namespace

void save_checkpoint(std::filesystem::path const& path, std::string const& fingerprint, Backend& backend,
                     std::vector<NamedTensor> const& tensors)
{
    auto temporary = path;
    temporary += ".tmp";
    std::ofstream out{temporary, std::ios::binary | std::ios::trunc};
    auto hash = fnv1a("");
    auto write = [&](std::string_view part) {
        out.write(part.data(), std::ssize(part));
        hash = fnv1a(part, hash);
    };
    write(header(fingerprint, tensors));
    for (auto const& t : tensors) write(chars(backend.download_bytes(t.tensor)));
    auto const end = number(hash);
    out.write(end.data(), std::ssize(end));
    out.close();
    std::error_code failed;
    if (out) std::filesystem::rename(temporary, path, failed);
    if (!out || failed) {
        std::error_code ignored;
        std::filesystem::remove(temporary, ignored);
        refuse(path,
               "the checkpoint could not be written (the disk is full, or the folder does not exist or is read-only)",
               "free space or name another file; the last checkpoint is untouched");
    }
}

void restore_checkpoint(std::filesystem::path const& path, std::string const& fingerprint, Backend& backend,
                        std::vector<NamedTensor> const& tensors)
{
    std::error_code failed;
    auto const size = std::filesystem::file_size(path, failed);
    std::ifstream in{path, std::ios::binary};
    if (failed || !in)
        refuse(path, "the checkpoint cannot be read (it does not exist or is no file)", "check the name");
    auto const expected = header(fingerprint, tensors);
    std::string found(expected.size(), '\0');
    if (!in.read(found.data(), std::ssize(found)) || found != expected) {
        auto const other = fingerprint_in(in, size);
        if (other.empty()) refuse(path, "this is no checkpoint (or cut off within its first lines)", "check the name");
        if (other != fingerprint)
            refuse(path, "the checkpoint does not fit (" + difference(other, fingerprint) + ")",
                   "restore with the configuration it was saved with");
        refuse(path, "the checkpoint's list of tensors is damaged", "use an older checkpoint");
    }
    std::uintmax_t wanted = expected.size() + sizeof(std::uint64_t);
    for (auto const& t : tensors) wanted += bytes_of(t.tensor);
    if (size != wanted)
        refuse(path, fmt::format("the checkpoint has {} bytes instead of {} (it was cut off)", size, wanted),
               "use an older checkpoint");

    auto hash = fnv1a(expected);
    std::vector<std::vector<std::byte>> contents;
    for (auto const& t : tensors) {
        contents.emplace_back(bytes_of(t.tensor));
        in.read(reinterpret_cast<char*>(contents.back().data()), std::ssize(contents.back()));
        hash = fnv1a(chars(contents.back()), hash);
    }
    std::string end(sizeof(std::uint64_t), '\0');
    in.read(end.data(), std::ssize(end));
    if (!in || end != number(hash))
        refuse(path, "the checkpoint's contents are damaged (wrong checksum)", "use an older checkpoint");
    for (std::size_t i = 0; i < tensors.size(); ++i) backend.upload_bytes(tensors[i].tensor, contents[i]);
}

} // namespace trainfare::kernels

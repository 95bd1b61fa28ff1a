// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "kernels/step/checkpoint.hpp"
#include "model/error.hpp"
#include "tests/catch.hpp"

using namespace trainfare;
using namespace trainfare::kernels;
using Catch::Matchers::Contains;

namespace {

struct Fixture {
    std::unique_ptr<Backend> backend = make_host_backend(false);
    std::filesystem::path path = std::filesystem::temp_directory_path() /
                                 ("trainfare_checkpoint_" + std::to_string(::getpid()) + ".bin"); // tests run side by side
    std::vector<NamedTensor> tensors{{"a", backend->make(Element::f32, 2, 3)},
                                     {"b", backend->make(Element::i32, 1, 4)}};

    Fixture()
    {
        backend->normal(tensors[0].tensor, 0, 1, 5);
        backend->upload(tensors[1].tensor, std::vector<std::int32_t>{1, 2, 3, 4});
    }
    ~Fixture() { std::filesystem::remove(path); }
    Fixture(Fixture const&) = delete;
    Fixture& operator=(Fixture const&) = delete;

    [[nodiscard]] std::string file() const
    {
        std::ifstream in{path, std::ios::binary};
        std::ostringstream text;
        text << in.rdbuf();
        return text.str();
    }
    void write(std::string const& content) const { std::ofstream{path, std::ios::binary} << content; }
    void restore() { restore_checkpoint(path, "model x\nrank 0\n", *backend, tensors); }
};

} // namespace

TEST_CASE_METHOD(Fixture, "a checkpoint brings back every byte", "[step]")
{
    auto const before = backend->download_bytes(tensors[0].tensor);
    save_checkpoint(path, "model x\nrank 0\n", *backend, tensors);
    backend->fill(tensors[0].tensor, 0);
    backend->fill(tensors[1].tensor, 0);
    restore();
    CHECK(backend->download_bytes(tensors[0].tensor) == before);
    CHECK(backend->download_ints(tensors[1].tensor) == std::vector<std::int32_t>{1, 2, 3, 4});
}

TEST_CASE_METHOD(Fixture, "a checkpoint cut off anywhere is refused and changes nothing", "[step]")
{
    save_checkpoint(path, "model x\nrank 0\n", *backend, tensors);
    auto const whole = file();
    auto const before = backend->download_bytes(tensors[0].tensor);
    for (std::size_t n = 0; n < whole.size(); ++n) {
        write(whole.substr(0, n));
        REQUIRE_THROWS_AS(restore(), InputError);
    }
    write(whole + "x");
    CHECK_THROWS_WITH(restore(), Contains("instead of"));
    CHECK(backend->download_bytes(tensors[0].tensor) == before);
}

TEST_CASE_METHOD(Fixture, "any damaged byte of a checkpoint is noticed", "[step]")
{
    save_checkpoint(path, "model x\nrank 0\n", *backend, tensors);
    auto const whole = file();
    for (std::size_t i = 0; i < whole.size(); ++i) {
        auto damaged = whole;
        damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
        write(damaged);
        REQUIRE_THROWS_AS(restore(), InputError);
    }
}

TEST_CASE_METHOD(Fixture, "a checkpoint of another run says what differs", "[step]")
{
    save_checkpoint(path, "model x\nrank 3\n", *backend, tensors);
    CHECK_THROWS_WITH(restore(), Contains("\"rank 3\"") && Contains("\"rank 0\""));
    write("something else entirely");
    CHECK_THROWS_WITH(restore(), Contains("no checkpoint"));
    write(std::string{"TFCHECK1"} + std::string(8, '\xff'));
    CHECK_THROWS_WITH(restore(), Contains("no checkpoint"));
    std::filesystem::remove(path);
    CHECK_THROWS_WITH(restore(), Contains("does not exist"));
}

TEST_CASE_METHOD(Fixture, "a failed save leaves the last checkpoint and no other file", "[step]")
{
    auto const folder = std::filesystem::temp_directory_path() / "trainfare_no_such_folder" / "x";
    CHECK_THROWS_AS(save_checkpoint(folder, "model x\n", *backend, tensors), InputError);
    CHECK(!std::filesystem::exists(folder.string() + ".tmp"));
}

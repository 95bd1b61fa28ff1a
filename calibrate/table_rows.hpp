// SPDX-License-Identifier: Apache-2.0
//
// One row of each table as a value. Every name in a row is checked here, so that a typing error is reported with its line and
// never becomes a row that silently fits nothing. Private to calibrate/tables.cpp.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "calibrate/csv.hpp"
#include "calibrate/tables.hpp"

namespace trainfare {

/// Enumerator of [0, last] with that name.
template <class Enum>
std::optional<Enum> enum_from(std::string_view text, Enum last)
{
    for (int i = 0; i <= static_cast<int>(last); ++i)
        if (auto const value = static_cast<Enum>(i); name(value) == text) return value;
    return {};
}

/// A row of a table, with the checks that all tables share.
class Row {
public:
    Row(CsvTable const& table, std::size_t index) : table_{&table}, index_{index} {}

    [[nodiscard]] SourcePlace place() const { return table_->place(index_); }
    [[nodiscard]] std::string text(std::string_view column) const { return table_->text(index_, column).value_or(""); }
    [[nodiscard]] std::string need_text(std::string_view column) const { return table_->need_text(index_, column); }

    [[nodiscard]] std::optional<double> positive(std::string_view column) const
    {
        auto const value = table_->number(index_, column);
        if (value && !(*value > 0 && *value < 1e18))
            throw InputError(place(),
                             fmt::format("column {}: {} is not between 0 and 1e18; correct it or leave it empty",
                                         column, shortest(*value)));
        return value;
    }

    [[nodiscard]] std::optional<long> count(std::string_view column, long most = 1'000'000'000'000) const
    {
        auto const value = table_->integer(index_, column);
        if (value && (*value < 0 || *value > most))
            throw InputError(place(),
                             fmt::format("column {}: {} is not between 0 and {}; correct it", column, *value, most));
        return value;
    }
    [[nodiscard]] std::optional<int> small(std::string_view column) const
    {
        auto const value = count(column, std::numeric_limits<int>::max());
        return value ? std::optional<int>{static_cast<int>(*value)} : std::nullopt;
    }
    [[nodiscard]] std::optional<bool> boolean(std::string_view column) const { return table_->boolean(index_, column); }

    template <class T>
    [[nodiscard]] T known(std::string_view column, std::optional<T> value) const
    {
        if (!value)
            throw InputError(place(),
                             fmt::format("column {}: {} is unknown; the allowed words are in the tables' README.md",
                                         column, printable(text(column))));
        return *value;
    }

    [[nodiscard]] std::string one_of(std::string_view column, std::initializer_list<std::string_view> words) const
    {
        auto const value = text(column);
        bool const found = std::find(words.begin(), words.end(), value) != words.end();
        return known(column, found ? std::optional{value} : std::nullopt);
    }

private:
    CsvTable const* table_;
    std::size_t index_;
};

template <class Quantity>
std::optional<Quantity> quantity(std::optional<double> value, Quantity unit)
{
    return value ? std::optional{*value * unit} : std::nullopt;
}

/// Rows of other tables name their source and their accelerator; both must exist.
class Names {
public:
    explicit Names(Tables const& tables) : tables_{&tables}
    {
        for (std::size_t i = 0; i < tables.sources.size(); ++i) by_id_[tables.sources[i].id] = static_cast<int>(i);
    }

    /// Sources that were added after construction are known too.
    void add(std::string const& id, int index) { by_id_.insert_or_assign(id, index); }

    [[nodiscard]] int source(Row const& row) const
    {
        auto const found = by_id_.find(row.need_text("source_id"));
        if (found == by_id_.end())
            throw InputError(
                row.place(),
                fmt::format("source_id {} is not in sources.csv (every number names its source); add it there",
                            printable(row.text("source_id"))));
        return found->second;
    }

    [[nodiscard]] bool measured(int source) const
    {
        auto const provenance = tables_->sources[static_cast<std::size_t>(source)].provenance;
        return provenance == Provenance::measured || provenance == Provenance::imported;
    }

    void check_accelerator(Row const& row, std::string const& key) const
    {
        if (!tables_->accelerators.contains(key))
            throw InputError(
                row.place(),
                fmt::format("accelerator {} is not in hardware.csv; correct it or add it there", printable(key)));
    }

private:
    Tables const* tables_;
    std::map<std::string, int> by_id_;
};

template <class Use>
void each_row(std::string const& file, std::vector<std::string> const& required, Use use)
{
    auto const table = read_csv(file, required);
    for (std::size_t i = 0; i < table.rows(); ++i) use(Row{table, i});
}

Source source_from(Row const&);
/// Absent where the row lacks what every accelerator needs (memory size and bandwidth): such a row is for reading, not
/// for simulation.
std::optional<Accelerator> accelerator_from(Row const&);
OpRow op_from(Row const&, Names const&);
CollRow coll_from(Row const&, Names const&);
RateRow rate_from(Row const&, Names const&);
FitRow fit_from(Row const&, Names const&);

} // namespace trainfare

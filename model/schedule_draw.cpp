// SPDX-License-Identifier: Apache-2.0
//
// A schedule as the papers draw it, in text: what a test can compare and a person can check by eye.
#include <algorithm>
#include <cmath>
#include <cstddef>

#include <fmt/format.h>

#include "model/error.hpp"
#include "model/schedule.hpp"

namespace trainfare {

namespace {

constexpr double most_columns = 500;

std::string pass_label(char kind, int micro_batch, int chunk)
{
    return fmt::format("{}{}{}", kind, micro_batch, std::string(static_cast<std::size_t>(chunk), '\''));
}

std::string label(Slot const& slot)
{
    switch (slot.kind) {
    case SlotKind::forward: return pass_label('F', slot.micro_batch, slot.chunk);
    case SlotKind::backward: return pass_label('B', slot.micro_batch, slot.chunk);
    case SlotKind::backward_input: return pass_label('I', slot.micro_batch, slot.chunk);
    case SlotKind::backward_weight: return pass_label('W', slot.micro_batch, slot.chunk);
    case SlotKind::overlapped:
        return pass_label('F', slot.micro_batch, slot.chunk) + "&" +
               pass_label('B', slot.backward_micro_batch, slot.backward_chunk);
    }
    throw InternalError{"a slot of no kind"};
}

/// A slot on the grid of time units.
struct Cell {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::string label;
};

std::vector<std::vector<Cell>> cells(PipelineSchedule const& schedule, SlotTiming const& timing)
{
    std::vector<std::vector<Cell>> rows;
    auto const column = [](double time) { return static_cast<std::size_t>(std::lround(time)); };
    for (std::size_t rank = 0; rank < schedule.slots.size(); ++rank) {
        auto& row = rows.emplace_back();
        for (std::size_t i = 0; i < schedule.slots[rank].size(); ++i) {
            Cell cell{column(timing.start[rank][i]), column(timing.end[rank][i]), label(schedule.slots[rank][i])};
            if (cell.end > cell.begin) row.push_back(std::move(cell)); // shorter than half a unit: nothing to see
        }
    }
    return rows;
}

/// Characters per time unit so that each label and a space fit its slot.
std::size_t column_width(std::vector<std::vector<Cell>> const& rows)
{
    std::size_t width = 2;
    for (auto const& row : rows)
        for (auto const& cell : row) {
            auto const units = cell.end - cell.begin;
            width = std::max(width, (cell.label.size() + units) / units);
        }
    return width;
}

std::string draw_row(std::vector<Cell> const& row, std::size_t columns, std::size_t width)
{
    std::string line;
    for (std::size_t i = 0; i < columns; ++i) line += "." + std::string(width - 1, ' ');
    for (auto const& [begin, end, text] : row) {
        auto const room = (end - begin) * width - 1;
        line.replace(begin * width, room + 1, fmt::format("{:-<{}} ", text, room));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    return line + "\n";
}

} // namespace

std::string draw(PipelineSchedule const& schedule, SlotTimes const& times)
{
    auto const timing = time_slots(schedule, times);
    if (!(timing.makespan <= most_columns))
        throw InputError{fmt::format("a schedule of {} time units (more than {} columns are not readable); try fewer "
                                     "micro-batches or a longer unit",
                                     timing.makespan, most_columns)};
    auto const rows = cells(schedule, timing);
    auto const width = column_width(rows);
    std::string text;
    for (auto const& row : rows) text += draw_row(row, static_cast<std::size_t>(std::lround(timing.makespan)), width);
    return text;
}

} // namespace trainfare

// SPDX-License-Identifier: Apache-2.0
//
// Calibration tables with round numbers: G-1 (100 SMs, 100 TFLOP/s, 2 TB/s), G-1X of the same die with half the NVLink,
// and G-1S, cut from G-1 to 50 SMs.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "calibrate/tables.hpp"

namespace trainfare {

/// Loads a folder of its own, removed again at the end.
class SyntheticTables {
public:
    /// @param ops, coll, rates  rows below the header rows
    explicit SyntheticTables(std::string const& ops, std::string const& coll = "s,G-1,all_reduce,8,1,,,,100,bus,\n",
                             std::string const& rates = usual_rates)
        : path_{std::filesystem::temp_directory_path() / ("trainfare-synthetic-" + std::to_string(::getpid()))}
    {
        std::filesystem::create_directories(path_);
        write("sources.csv", "source_id,provenance,title\ns,measured,A run\nlater,measured,A later run\n"
                             "paper,published,A paper\n");
        write("hardware.csv",
              "accelerator,dense_bf16_tflops,dense_fp8_tflops,hbm_gb,hbm_tb_per_s,sm_count,restricted_variant_of\n"
              "G-1,100,200,80,2,100,\nG-1X,100,200,80,2,100,G-1\nG-1S,50,100,80,2,50,G-1\nG-2,,,80,2,,\n");
        write(
            "ops.csv",
            "source_id,accelerator,op,pass,dtype,m,n,k,groups,batch,seq,heads,d_qk,d_v,comm_sms,tflops,gbps,status\n" +
                ops);
        write("coll.csv", "source_id,accelerator,op,ranks,nodes,tokens,hidden,time_us,bw_gbps,bw_kind,sms\n" + coll);
        write("rates.csv", "source_id,accelerator,precision,quantity,value,unit,spread\n" + rates);
        load();
    }
    ~SyntheticTables() { std::filesystem::remove_all(path_); }
    SyntheticTables(SyntheticTables const&) = delete;
    SyntheticTables& operator=(SyntheticTables const&) = delete;

    /// Adds a folder measured/NAME as trainfare-calibrate writes it and loads again.
    /// @param ops  rows of source `run`; the published ones of this fixture are then to come from source `paper`
    void measure(std::string const& ops, std::string const& folder = "one")
    {
        auto const to = std::filesystem::path{"measured"} / folder;
        std::filesystem::create_directories(path_ / to);
        write((to / "sources.csv").c_str(), "source_id,provenance,title\n" + folder + ",measured,A GPU\n");
        write((to / "ops.csv").c_str(), "source_id,accelerator,op,pass,dtype,m,n,k,groups,seq,heads,d_qk,d_v,comm_sms,sm_budget,"
                                        "load_cv,bytes,tflops,gbps,status,rel_err\n" + ops);
        load();
    }
    [[nodiscard]] std::string folder() const { return path_.string(); }

    Tables tables;

    inline static std::string const usual_rates = "s,*,*,gemm,0.5,peak,0.2\n"
                                                  "s,G-1,*,gemm.wgrad,0.4,peak,0.1\n"
                                                  "s,*,*,norm,0.25,hbm,0.3\n"
                                                  "s,G-1,*,norm.dgrad,0.5,hbm,0.1\n"
                                                  "s,*,*,attention,0.6,peak,0.2\n"
                                                  "s,*,*,launch.gap,1e-06,s,0.2\n";

private:
    void load() { tables = load_tables(path_.string()); }
    void write(char const* file, std::string const& text) const
    {
        std::ofstream{path_ / file, std::ios::binary} << text;
    }

    std::filesystem::path path_;
};

} // namespace trainfare

//! Fuzz target: `agent_tests::hostile::imu_csv`.
#![no_main]

agent_fuzz::target!(imu_csv);

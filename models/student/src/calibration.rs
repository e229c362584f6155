//! Calibration of the label: Platt scaling and the prior of the field.

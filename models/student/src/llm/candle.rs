//! The language half on candle: any device, f32, f16 or quantised weights.

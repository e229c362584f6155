//! Writes `SYNTHETIC` and the time into a frame, so that no copy of it passes for a real one.

use crate::limits::FRAME_WIDTH;
use crate::raster::Canvas;

/// Size of a dot of a letter, pixels.
const DOT: usize = 2;
const WHERE: (usize, usize) = (8, 8);

/// Five by seven dots, a row per byte from the top, the highest of five bits to the left.
pub(crate) const fn glyph(letter: u8) -> [u8; 7] {
    match letter {
        b'0' => [14, 17, 19, 21, 25, 17, 14],
        b'1' => [4, 12, 4, 4, 4, 4, 14],
        b'2' => [14, 17, 1, 6, 8, 16, 31],
        b'3' => [14, 17, 1, 6, 1, 17, 14],
        b'4' => [2, 6, 10, 18, 31, 2, 2],
        b'5' => [31, 16, 30, 1, 1, 17, 14],
        b'6' => [6, 8, 16, 30, 17, 17, 14],
        b'7' => [31, 1, 2, 4, 8, 8, 8],
        b'8' => [14, 17, 17, 14, 17, 17, 14],
        b'9' => [14, 17, 17, 15, 1, 2, 12],
        b'S' => [15, 16, 16, 14, 1, 1, 30],
        b'Y' => [17, 17, 10, 4, 4, 4, 4],
        b'N' => [17, 25, 21, 19, 17, 17, 17],
        b'T' => [31, 4, 4, 4, 4, 4, 4],
        b'H' => [17, 17, 17, 31, 17, 17, 17],
        b'E' => [31, 16, 16, 30, 16, 16, 31],
        b'I' => [14, 4, 4, 4, 4, 4, 14],
        b'C' => [14, 17, 16, 16, 16, 17, 14],
        b's' => [0, 0, 15, 16, 14, 1, 30],
        b'.' => [0, 0, 0, 0, 0, 12, 12],
        _ => [0; 7],
    }
}

pub(crate) fn draw(canvas: &mut Canvas, ms: usize) {
    let mut text = *b"SYNTHETIC 00.00 s";
    let centi = ms / 10;
    for (at, value) in [(10, centi / 1000), (11, centi / 100), (13, centi / 10), (14, centi)] {
        if let Some(slot) = text.get_mut(at) {
            *slot = b'0' + (value % 10) as u8;
        }
    }
    let (x0, y0) = WHERE;
    let (right, low) = ((x0 + text.len() * 6 * DOT + 2) as f64, (y0 + 7 * DOT + 4) as f64);
    let (left, top) = (x0 as f64 - 4.0, y0 as f64 - 4.0);
    canvas.fill(&[(left, top), (right, top), (right, low), (left, low)], [12, 14, 18], 0.55);
    for (i, letter) in text.iter().enumerate() {
        for (row, bits) in glyph(*letter).iter().enumerate() {
            for column in (0..5).filter(|c| bits >> (4 - c) & 1 == 1) {
                dot(canvas, x0 + (i * 6 + column) * DOT, y0 + row * DOT);
            }
        }
    }
}

fn dot(canvas: &mut Canvas, x: usize, y: usize) {
    for dy in 0..DOT {
        let start = ((y + dy) * FRAME_WIDTH + x) * 3;
        if let Some(pixels) = canvas.rgb.get_mut(start..start + DOT * 3) {
            pixels.fill(244);
        }
    }
}

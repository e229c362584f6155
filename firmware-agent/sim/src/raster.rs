//! Polygons on a canvas.

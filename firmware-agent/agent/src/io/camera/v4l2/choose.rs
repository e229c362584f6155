//! Which format, size and rate of those that a camera offers.
//!
//! The format is the configured one or, for `auto`, the first offered of H.264 (nothing to do), MJPEG (nothing to
//! encode) and YUYV (encoded here). The size is the wanted one or the nearest offered; the rate the slowest that is not
//! slower than wanted, or else the fastest. Pure: what a driver makes of the wish it says itself.

use crate::config::camera::PixelFormat;

/// A format as V4L2 names it: four characters.
pub(crate) type FourCc = [u8; 4];

/// Sizes of one format.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sizes {
    /// These alone.
    Each(Vec<[u32; 2]>),
    /// From, to and step of width and height.
    Steps([[u32; 3]; 2]),
}

/// One format that a camera offers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Offer {
    pub(crate) fourcc: FourCc,
    pub(crate) sizes: Sizes,
}

/// The format to ask the driver for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) format: PixelFormat,
    pub(crate) fourcc: FourCc,
    pub(crate) size: [u32; 2],
}

/// What each format is called by drivers.
const NAMES: [(PixelFormat, &[FourCc]); 3] =
    [(PixelFormat::H264, &[*b"H264"]), (PixelFormat::Mjpeg, &[*b"MJPG", *b"JPEG"]), (PixelFormat::Yuyv, &[*b"YUYV"])];

/// Chooses among the offers.
///
/// # Errors
/// What is offered instead, in words.
pub(crate) fn choose(offers: &[Offer], wanted: PixelFormat, size: [u32; 2]) -> Result<Choice, String> {
    let fits = |format: PixelFormat| wanted == PixelFormat::Auto || wanted == format;
    for (format, names) in NAMES.iter().filter(|(f, _)| fits(*f)) {
        for offer in offers.iter().filter(|o| names.contains(&o.fourcc)) {
            if let Some(size) = nearest(&offer.sizes, size) {
                return Ok(Choice { format: *format, fourcc: offer.fourcc, size });
            }
        }
    }
    let mut have: Vec<String> = offers.iter().map(|o| printable(o.fourcc)).collect();
    have.dedup();
    let have = if have.is_empty() { "nothing that is a picture".to_owned() } else { have.join(", ") };
    Err(format!("it offers {have}; {} is wanted", wanted.name()))
}

/// A four-character code as it is printed.
pub(crate) fn printable(fourcc: FourCc) -> String {
    fourcc.iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '?' }).collect()
}

/// The offered size nearest to the wanted one: by the sum of the differences of the sides.
fn nearest(sizes: &Sizes, wanted: [u32; 2]) -> Option<[u32; 2]> {
    match sizes {
        Sizes::Each(sizes) => {
            let far = |s: &[u32; 2]| s[0].abs_diff(wanted[0]).saturating_add(s[1].abs_diff(wanted[1]));
            sizes.iter().copied().filter(|s| s[0] >= 16 && s[1] >= 16).min_by_key(far)
        }
        Sizes::Steps(ranges) => {
            let mut out = [0; 2];
            for ((out, [from, to, step]), wanted) in out.iter_mut().zip(*ranges).zip(wanted) {
                let (to, step) = (to.max(from), step.max(1));
                let steps = (wanted.clamp(from, to) - from + step / 2) / step;
                *out = (from + steps * step).min(to);
            }
            (out[0] >= 16 && out[1] >= 16).then_some(out)
        }
    }
}

/// The interval to ask for: seconds as a fraction. `offered` are discrete intervals; none means the driver takes any.
pub(crate) fn interval(offered: &[[u32; 2]], fps: u32) -> [u32; 2] {
    let rate = |i: &[u32; 2]| f64::from(i[1]) / f64::from(i[0].max(1));
    let wanted = f64::from(fps.max(1));
    // 29.97 is 30 for everybody who asks for 30.
    let enough = offered.iter().filter(|i| rate(i) >= wanted * 0.99).min_by(|a, b| rate(a).total_cmp(&rate(b)));
    let fastest = offered.iter().max_by(|a, b| rate(a).total_cmp(&rate(b)));
    enough.or(fastest).copied().unwrap_or([1, fps.max(1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webcam() -> Vec<Offer> {
        let sizes = Sizes::Each(vec![[640, 480], [1280, 720], [1920, 1080]]);
        vec![
            Offer { fourcc: *b"YUYV", sizes: Sizes::Each(vec![[640, 480]]) },
            Offer { fourcc: *b"MJPG", sizes: sizes.clone() },
            Offer { fourcc: *b"H264", sizes },
        ]
    }

    #[test]
    fn auto_takes_what_costs_least_and_a_named_format_is_taken_by_its_name() {
        let auto = choose(&webcam(), PixelFormat::Auto, [1280, 720]).unwrap();
        assert_eq!(auto, Choice { format: PixelFormat::H264, fourcc: *b"H264", size: [1280, 720] });
        assert_eq!(choose(&webcam()[..2], PixelFormat::Auto, [1280, 720]).unwrap().fourcc, *b"MJPG");
        let yuyv = choose(&webcam(), PixelFormat::Yuyv, [1280, 720]).unwrap();
        assert_eq!((yuyv.fourcc, yuyv.size), (*b"YUYV", [640, 480]), "the nearest that there is");
    }

    #[test]
    fn what_is_not_offered_is_refused_with_what_is() {
        let error = choose(&webcam()[..1], PixelFormat::H264, [640, 480]).unwrap_err();
        assert_eq!(error, "it offers YUYV; h264 is wanted");
        let metadata = [Offer { fourcc: [0xFF, b'U', b'V', b'C'], sizes: Sizes::Each(vec![]) }];
        assert_eq!(choose(&metadata, PixelFormat::Auto, [1, 1]).unwrap_err(), "it offers ?UVC; auto is wanted");
        assert!(choose(&[], PixelFormat::Auto, [1, 1]).unwrap_err().contains("nothing that is a picture"));
    }

    #[test]
    fn sizes_in_steps_are_rounded_to_a_step_within_the_range() {
        let steps = Sizes::Steps([[320, 1920, 16], [240, 1080, 8]]);
        assert_eq!(nearest(&steps, [1280, 721]), Some([1280, 720]));
        assert_eq!(nearest(&steps, [9999, 1]), Some([1920, 240]));
        assert_eq!(nearest(&Sizes::Steps([[0, 0, 0], [0, 0, 0]]), [640, 480]), None, "no size at all");
        let odd = Sizes::Steps([[100, 50, 0], [100, u32::MAX, 0]]);
        assert_eq!(nearest(&odd, [640, 480]), Some([100, 480]), "a driver that confuses its bounds");
    }

    #[test]
    fn the_rate_is_the_slowest_that_suffices_or_the_fastest() {
        let offered = [[1, 60], [1001, 30_000], [1, 15], [1, 5]];
        assert_eq!(interval(&offered, 30), [1001, 30_000]);
        assert_eq!(interval(&offered, 31), [1, 60]);
        assert_eq!(interval(&offered[2..], 30), [1, 15]);
        assert_eq!(interval(&[], 25), [1, 25]);
        assert_eq!(interval(&[[0, 0]], 0), [0, 0], "the driver's own, however odd: it answers what it makes of it");
    }
}

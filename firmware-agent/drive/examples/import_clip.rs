//! Imports one video with the telemetry of a comma2k19 segment: `import_clip VIDEO SEGMENT OUT`.

use agent_drive::DriveInfo;
use agent_drive::import::{Input, InputKind, Offset, import};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, video, segment, out] = args.as_slice() else { return Err("usage: import_clip VIDEO SEGMENT OUT".into()) };
    let inputs = [
        Input { path: video.into(), kind: InputKind::Video, offset: Offset::FirstAt(0.0) },
        Input { path: segment.into(), kind: InputKind::Comma2k19(None), offset: Offset::FirstAt(0.0) },
    ];
    let report = import(&inputs, out.as_ref(), DriveInfo::new(format!("{video} with {segment}")), false)?;
    std::fs::write(format!("{out}.txt"), format!("{report:#?}"))?;
    Ok(())
}

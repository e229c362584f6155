//! The schemas of a drive's channels. All are ones that Foxglove, rerun and PlotJuggler know by name: ROS 2 messages
//! (`ros2msg` schema, `cdr` messages) for telemetry, Foxglove's protobuf messages for pictures.
//!
//! Sources: common_interfaces (`sensor_msgs`, `geometry_msgs`, `std_msgs`), ros_canopen (`can_msgs/Frame`), ros2_socketcan
//! (`ros2_socketcan_msgs/FdFrame`), Foxglove's schema reference (`CompressedVideo`, `CompressedImage`).

use crate::cdr::{put_bytes, put_uint};

pub(crate) const IMU: &str = "sensor_msgs/msg/Imu";
pub(crate) const FIX: &str = "sensor_msgs/msg/NavSatFix";
pub(crate) const TWIST: &str = "geometry_msgs/msg/TwistStamped";
pub(crate) const TIME_REF: &str = "sensor_msgs/msg/TimeReference";
pub(crate) const CAN: &str = "can_msgs/msg/Frame";
pub(crate) const CAN_FD: &str = "ros2_socketcan_msgs/msg/FdFrame";
pub(crate) const VIDEO: &str = "foxglove.CompressedVideo";
pub(crate) const IMAGE: &str = "foxglove.CompressedImage";

const RULE: &str = "================================================================================\n";
const HEADER: &str = "MSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n";
const TIME: &str = "MSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n";
const VECTOR3: &str = "MSG: geometry_msgs/Vector3\nfloat64 x\nfloat64 y\nfloat64 z\n";

/// The `ros2msg` text of a schema: the message, then every message it uses.
pub(crate) fn ros2msg(name: &str) -> String {
    let (own, uses): (&str, &[&str]) = match name {
        IMU => (
            "std_msgs/Header header\ngeometry_msgs/Quaternion orientation\nfloat64[9] orientation_covariance\n\
             geometry_msgs/Vector3 angular_velocity\nfloat64[9] angular_velocity_covariance\n\
             geometry_msgs/Vector3 linear_acceleration\nfloat64[9] linear_acceleration_covariance\n",
            &["MSG: geometry_msgs/Quaternion\nfloat64 x\nfloat64 y\nfloat64 z\nfloat64 w\n", VECTOR3],
        ),
        FIX => (
            "uint8 COVARIANCE_TYPE_UNKNOWN=0\nuint8 COVARIANCE_TYPE_APPROXIMATED=1\n\
             uint8 COVARIANCE_TYPE_DIAGONAL_KNOWN=2\nuint8 COVARIANCE_TYPE_KNOWN=3\n\
             std_msgs/Header header\nsensor_msgs/NavSatStatus status\nfloat64 latitude\nfloat64 longitude\n\
             float64 altitude\nfloat64[9] position_covariance\nuint8 position_covariance_type\n",
            &["MSG: sensor_msgs/NavSatStatus\nint8 STATUS_NO_FIX=-1\nint8 STATUS_FIX=0\nint8 STATUS_SBAS_FIX=1\n\
               int8 STATUS_GBAS_FIX=2\nuint16 SERVICE_GPS=1\nuint16 SERVICE_GLONASS=2\nuint16 SERVICE_COMPASS=4\n\
               uint16 SERVICE_GALILEO=8\nint8 status\nuint16 service\n"],
        ),
        TWIST => (
            "std_msgs/Header header\ngeometry_msgs/Twist twist\n",
            &["MSG: geometry_msgs/Twist\ngeometry_msgs/Vector3 linear\ngeometry_msgs/Vector3 angular\n", VECTOR3],
        ),
        TIME_REF => ("std_msgs/Header header\nbuiltin_interfaces/Time time_ref\nstring source\n", &[]),
        CAN => (
            "std_msgs/Header header\nuint32 id\nbool is_rtr\nbool is_extended\nbool is_error\nuint8 dlc\nuint8[8] data\n",
            &[],
        ),
        _ => ("std_msgs/Header header\nuint32 id\nbool is_extended\nbool is_error\nuint8 len\nuint8[<=64] data\n", &[]),
    };
    let mut text = own.to_owned();
    for part in uses.iter().chain(&[HEADER, TIME]) {
        text.push_str(RULE);
        text.push_str(part);
    }
    text
}

/// Field numbers of a picture message: frame id, data, format. The time is field 1 in both.
pub(crate) const fn picture_fields(video: bool) -> [u32; 3] {
    if video { [2, 3, 4] } else { [4, 2, 3] }
}

/// The serialised `FileDescriptorSet` of a picture message, which MCAP asks for as the data of a protobuf schema.
pub(crate) fn picture_descriptor(video: bool) -> Vec<u8> {
    const INT64: u64 = 3;
    const INT32: u64 = 5;
    const STRING: u64 = 9;
    const MESSAGE: u64 = 11;
    const BYTES: u64 = 12;
    let timestamp = message("Timestamp", &[("seconds", 1, INT64, None), ("nanos", 2, INT32, None)]);
    let [frame_id, data, format] = picture_fields(video);
    let name = if video { "CompressedVideo" } else { "CompressedImage" };
    let mut fields = [
        ("timestamp", 1, MESSAGE, Some(".google.protobuf.Timestamp")),
        ("frame_id", frame_id, STRING, None),
        ("data", data, BYTES, None),
        ("format", format, STRING, None),
    ];
    fields.sort_by_key(|f| f.1);
    let time_file = "google/protobuf/timestamp.proto";
    let mut set = Vec::new();
    put_bytes(&mut set, 1, &file(time_file, "google.protobuf", None, &timestamp));
    put_bytes(
        &mut set,
        1,
        &file(&format!("foxglove/{name}.proto"), "foxglove", Some(time_file), &message(name, &fields)),
    );
    set
}

fn file(name: &str, package: &str, dependency: Option<&str>, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, name.as_bytes());
    put_bytes(&mut out, 2, package.as_bytes());
    if let Some(d) = dependency {
        put_bytes(&mut out, 3, d.as_bytes());
    }
    put_bytes(&mut out, 4, message);
    put_bytes(&mut out, 12, b"proto3");
    out
}

fn message(name: &str, fields: &[(&str, u32, u64, Option<&str>)]) -> Vec<u8> {
    const OPTIONAL: u64 = 1;
    let mut out = Vec::new();
    put_bytes(&mut out, 1, name.as_bytes());
    for (name, number, kind, type_name) in fields {
        let mut field = Vec::new();
        put_bytes(&mut field, 1, name.as_bytes());
        put_uint(&mut field, 3, u64::from(*number));
        put_uint(&mut field, 4, OPTIONAL);
        put_uint(&mut field, 5, *kind);
        if let Some(t) = type_name {
            put_bytes(&mut field, 6, t.as_bytes());
        }
        put_bytes(&mut out, 2, &field);
    }
    out
}

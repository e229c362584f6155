//! One publish by a connection of its own: the fleet's side of a command.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, Packet, QoS};

use crate::broker::Broker;
use crate::connection::end_of;
use crate::limits::{EVENTS, OUTGOING_PACKET_BYTES, UNIT_PACKET_BYTES};
use crate::publisher::LinkError;
use crate::tls::Tls;

/// Why a payload is not with the broker.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Address, certificates or the system.
    #[error(transparent)]
    Start(#[from] LinkError),
    /// The connection ended first.
    #[error("the broker: {0}")]
    Ended(String),
    /// The broker did not acknowledge it in time.
    #[error("the broker did not acknowledge it within {0:?}")]
    Timeout(Duration),
}

/// Publishes `payload` once and waits for the acknowledgement, for at most `within`.
///
/// # Errors
/// It is not known to be with the broker: see [`SendError`].
pub fn send(
    broker: &Broker,
    tls: Option<&Tls>,
    topic: &str,
    payload: &[u8],
    retain: bool,
    within: Duration,
) -> Result<(), SendError> {
    let secure = broker.secure(tls).map_err(LinkError::from)?;
    let id = format!("command-{}", std::process::id());
    let mut options = broker.options(&id, Duration::from_secs(15), secure.as_ref()).map_err(LinkError::from)?;
    options.set_clean_session(true).set_max_packet_size(UNIT_PACKET_BYTES, OUTGOING_PACKET_BYTES);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(LinkError::from)?;
    let sending = async {
        let (client, mut event_loop) = AsyncClient::new(options, EVENTS);
        loop {
            match event_loop.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    let handed = client.try_publish(topic, QoS::AtLeastOnce, retain, payload);
                    handed.map_err(|e| SendError::Ended(e.to_string()))?;
                }
                Ok(Event::Incoming(Packet::PubAck(_))) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(SendError::Ended(end_of(&error).why)),
            }
        }
    };
    runtime.block_on(async { tokio::time::timeout(within, sending).await.unwrap_or(Err(SendError::Timeout(within))) })
}

//! Who is written to: every frame that crosses the bridge between hosts, as
//! the kernel shows it to a packet socket, with the address it is meant for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, eth, recv, socket_with};

use super::enter;
use crate::command::Trouble;

/// The head of a frame, up to the addresses of IPv6, is all that is read.
const HEAD_BYTES: usize = 64;
/// How long the listener waits for a frame before it looks whether to end.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// What the kernel keeps for the listener.
const BEHIND_BYTES: usize = 64 * 1024 * 1024;
/// Different targets that are remembered.
const MOST_TARGETS: usize = 1_000;
/// Protocols of IP that the kernel speaks by itself.
const IGMP: u8 = 2;
const HOP_BY_HOP: u8 = 0;
const ICMP_6: u8 = 58;
/// Below this, the field of the frame's type is a length: frames of bridges.
const FIRST_TYPE: u16 = 0x0600;

/// What a frame is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// A packet to this address.
    Packet(IpAddr),
    /// A question which machine has this address.
    Question(IpAddr),
    /// Something else, by the frame's type.
    Other(u16),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Packet(address) => write!(f, "{address}"),
            Self::Question(address) => write!(f, "who has {address}"),
            Self::Other(kind) => write!(f, "type {kind:#06x}"),
        }
    }
}

/// Listens on the bridge until it is asked what it saw.
pub(crate) struct Wire {
    over: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<Target, u64>>,
}

impl Wire {
    /// Listens in the namespace `hub`; when this returns, nothing is missed,
    /// as long as the listener is not [`BEHIND_BYTES`] behind.
    pub(super) fn listen(hub: String) -> Result<Self, Trouble> {
        let over = Arc::new(AtomicBool::new(false));
        let (ready, told) = sync_channel(1);
        let ends = over.clone();
        let thread = std::thread::spawn(move || match open(&hub) {
            Ok(socket) => {
                let _ = ready.send(Ok(()));
                count(&socket, &ends)
            }
            Err(trouble) => {
                let _ = ready.send(Err(trouble));
                BTreeMap::new()
            }
        });
        told.recv().map_err(|_| Trouble::Unexpected("the listener ended".to_owned()))??;
        Ok(Self { over, thread })
    }

    /// Ends; how many frames were meant for whom.
    pub(crate) fn seen(self) -> BTreeMap<Target, u64> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn open(hub: &str) -> Result<OwnedFd, Trouble> {
    enter(hub)?;
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, Some(eth::ALL));
    let socket = socket.map_err(Trouble::at("packet socket"))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(LOOK_AGAIN)).map_err(Trouble::at("packet socket"))?;
    set_socket_recv_buffer_size_force(&socket, BEHIND_BYTES).map_err(Trouble::at("packet socket"))?;
    Ok(socket)
}

fn count(socket: &OwnedFd, over: &AtomicBool) -> BTreeMap<Target, u64> {
    let mut seen = BTreeMap::new();
    let mut head = [0; HEAD_BYTES];
    loop {
        // At the end, what waits is still counted; on a busy wire more comes for ever.
        let ends = over.load(Ordering::Relaxed);
        let flags = if ends { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
        match recv(socket, &mut head, flags) {
            Ok((length, _)) => {
                let target = target(&head[..length.min(HEAD_BYTES)]);
                if let Some(target) = target
                    && (seen.len() < MOST_TARGETS || seen.contains_key(&target))
                {
                    *seen.entry(target).or_default() += 1;
                }
            }
            Err(Errno::AGAIN) if ends => return seen,
            Err(_) => {}
        }
    }
}

/// What a frame is meant for; nothing if the kernel sends such frames by itself.
fn target(frame: &[u8]) -> Option<Target> {
    let kind = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    match kind {
        0x0800 => {
            let address = four(frame.get(30..34)?)?;
            // Bridges tell each other by IGMP which groups they listen to.
            let of_kernel = *frame.get(23)? == IGMP && address.is_multicast();
            (!of_kernel).then_some(Target::Packet(address))
        }
        0x0806 => four(frame.get(38..42)?).map(Target::Question),
        0x86dd => {
            let next = *frame.get(20)?;
            let address: [u8; 16] = frame.get(38..54)?.try_into().ok()?;
            let address = Ipv6Addr::from(address);
            // Neighbours and groups: ICMPv6, or behind hop-by-hop options.
            let of_kernel = matches!(next, HOP_BY_HOP | ICMP_6) && address.is_multicast();
            (!of_kernel).then_some(Target::Packet(address.into()))
        }
        ..FIRST_TYPE => None,
        other => Some(Target::Other(other)),
    }
}

fn four(bytes: &[u8]) -> Option<IpAddr> {
    let bytes: [u8; 4] = bytes.try_into().ok()?;
    Some(Ipv4Addr::from(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::{Target, target};

    fn frame(kind: u16, at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    }

    #[test]
    fn frames_say_whom_they_are_meant_for() {
        let address = std::net::IpAddr::from([198, 51, 100, 7]);
        assert_eq!(target(&frame(0x0800, 30, &[198, 51, 100, 7])), Some(Target::Packet(address)));
        assert_eq!(target(&frame(0x0806, 38, &[198, 51, 100, 7])), Some(Target::Question(address)));
        assert_eq!(target(&frame(0x88cc, 14, &[1])), Some(Target::Other(0x88cc)));
        assert_eq!(target(&frame(38, 14, &[1])), None, "a bridge's own");
        let mut group = frame(0x0800, 30, &[224, 0, 0, 22]);
        assert!(matches!(target(&group), Some(Target::Packet(_))));
        group[23] = 2;
        assert_eq!(target(&group), None);
        let mut neighbour = frame(0x86dd, 38, &[0xff, 2]);
        neighbour[20] = 58;
        assert_eq!(target(&neighbour), None);
        neighbour[20] = 17;
        assert!(matches!(target(&neighbour), Some(Target::Packet(_))), "UDP is nobody's but a program's");
        assert_eq!(target(&[1, 2]), None);
    }
}

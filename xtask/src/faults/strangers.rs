//! Whom three nodes under load write to: nobody but each other. Each is on a
//! host of its own that has a way to everywhere, and everything that crosses
//! the wires between them is looked at, from before the first of them starts.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use super::cluster::{Cluster, NODES};
use super::load::Load;
use crate::command::Trouble;
use crate::hosts::wire::Target;
use crate::hosts::{Hosts, address, enter, nats_door};
use crate::nats::Client;

/// An address for documentation (RFC 5737): we write to it ourselves, at the
/// end, so that a listener that sees nothing is noticed.
const OUTSIDE: [u8; 4] = [198, 51, 100, 7];
/// How long a client waits for a door.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages from each node to all.
const MESSAGES: usize = 1_000;

/// What crossed the wires.
#[derive(Debug)]
pub(crate) struct Crossed {
    /// Frames for the nodes.
    pub(crate) among: u64,
    /// Frames for others, by whom they were meant for.
    pub(crate) outside: Vec<(String, u64)>,
    /// Whether the packet that we sent ourselves was seen.
    pub(crate) control: bool,
}

/// Runs three nodes under load for `length`, cuts one off meanwhile, and says
/// what crossed the wires.
pub(crate) fn crossed(length: Duration) -> Result<Crossed, Trouble> {
    let hosts = Hosts::make(NODES)?;
    let wire = hosts.watch()?;
    let cluster = Cluster::start_on(hosts)?;
    let load = Load::start(&cluster.hosts(), 0);
    let talked = talk(&cluster);
    std::thread::sleep(length / 2);
    // A node that looks for others must not look elsewhere.
    cluster.links().cut(NODES)?;
    std::thread::sleep(length / 2);
    cluster.links().heal(NODES)?;
    load.stop();
    talked?;
    cluster.wait_until_whole()?;
    let first = cluster.links().name(1);
    on(move || write_outside(&first))?;
    let nodes: Vec<IpAddr> = (1..=NODES).filter_map(|n| address(n).parse().ok()).collect();
    let mut crossed = Crossed { among: 0, outside: Vec::new(), control: false };
    for (target, count) in wire.seen() {
        match target {
            Target::Packet(address) | Target::Question(address) if nodes.contains(&address) => {
                crossed.among += count;
            }
            Target::Packet(address) if address == IpAddr::from(OUTSIDE) => crossed.control = true,
            // The way to our own packet.
            Target::Question(address) if address == crate::hosts::gateway() => {}
            other => crossed.outside.push((other.to_string(), count)),
        }
    }
    Ok(crossed)
}

/// Sends messages from each node to a subscriber on each.
fn talk(cluster: &Cluster) -> Result<(), Trouble> {
    let hosts = cluster.hosts();
    on(move || {
        let mut clients = Vec::new();
        for (_, host) in &hosts {
            enter(host)?;
            let mut client = Client::open(nats_door(), PATIENCE).map_err(Trouble::at("NATS door"))?;
            client.subscribe("all.>").and_then(|()| client.flush()).map_err(Trouble::at("subscribe"))?;
            clients.push(client);
        }
        for client in &mut clients {
            for _ in 0..MESSAGES {
                client.publish("all.of.you", "", b"hello").map_err(Trouble::at("publish"))?;
            }
            client.flush().map_err(Trouble::at("publish"))?;
        }
        Ok(())
    })
}

fn write_outside(host: &str) -> Result<(), Trouble> {
    enter(host)?;
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(Trouble::at("socket"))?;
    socket.send_to(b"seen?", (IpAddr::from(OUTSIDE), 9)).map_err(Trouble::at("a packet to outside"))?;
    // The kernel first asks for the machine on the way, then sends.
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}

/// Runs on a thread of its own: a thread that has entered a host stays there.
fn on(work: impl FnOnce() -> Result<(), Trouble> + Send + 'static) -> Result<(), Trouble> {
    let joined = std::thread::spawn(work).join();
    joined.map_err(|_| Trouble::Unexpected("a thread panicked".to_owned()))?
}

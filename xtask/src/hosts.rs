//! Several hosts on one machine: network namespaces joined by a bridge, so
//! that a link can really be cut, and everything on the wires be seen. Needs
//! root and iproute2.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{Trouble, command, run};

pub(crate) mod wire;

use wire::Wire;

/// Where the bridge itself is reached: hosts take it for the way to everywhere.
const GATEWAY: [u8; 4] = [10, 213, 77, 254];

/// Hosts, numbered from 1; all gone when dropped.
pub(crate) struct Hosts {
    tag: String,
    count: usize,
}

impl Hosts {
    /// Makes `count` hosts, each with a link to all others.
    pub(crate) fn make(count: usize) -> Result<Self, Trouble> {
        let hosts = Self { tag: format!("trine{}", std::process::id()), count };
        let hub = hosts.hub();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge", "forward_delay", "0"])?;
        ip(&["-n", &hub, "link", "set", "bridge", "up"])?;
        for n in 1..=count {
            let (name, port) = (hosts.name(n), format!("port{n}"));
            ip(&["netns", "add", &name])?;
            ip(&["-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "wire", "netns", &name])?;
            ip(&["-n", &hub, "link", "set", &port, "master", "bridge"])?;
            ip(&["-n", &hub, "link", "set", &port, "up"])?;
            ip(&["-n", &name, "address", "add", &format!("{}/24", address(n)), "dev", "wire"])?;
            ip(&["-n", &name, "link", "set", "dev", "wire", "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
        }
        Ok(hosts)
    }

    /// Gives every host a way to everywhere, and listens who takes it: packets
    /// to other addresses than the hosts' end at the bridge.
    pub(crate) fn watch(&self) -> Result<Wire, Trouble> {
        let gateway = gateway().to_string();
        let own = format!("{gateway}/24");
        ip(&["-n", &self.hub(), "address", "add", &own, "dev", "bridge"])?;
        let wire = Wire::listen(self.hub())?;
        for n in 1..=self.count {
            ip(&["-n", &self.name(n), "route", "add", "default", "via", &gateway])?;
        }
        Ok(wire)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.tag)
    }

    /// The name of host `n`'s namespace.
    pub(crate) fn name(&self, n: usize) -> String {
        format!("{}-{n}", self.tag)
    }

    /// Cuts host `n` off from all others.
    pub(crate) fn cut(&self, n: usize) -> Result<(), Trouble> {
        ip(&["-n", &self.hub(), "link", "set", &format!("port{n}"), "down"])
    }

    /// Undoes [`Hosts::cut`].
    pub(crate) fn heal(&self, n: usize) -> Result<(), Trouble> {
        ip(&["-n", &self.hub(), "link", "set", &format!("port{n}"), "up"])
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for n in 1..=self.count {
            let _ = ip(&["netns", "delete", &self.name(n)]);
        }
        let _ = ip(&["netns", "delete", &self.hub()]);
    }
}

/// The address of host `n` on the bridge.
pub(crate) fn address(n: usize) -> String {
    format!("10.213.77.{n}")
}

/// Where a client on the host of a node finds its Redis door.
pub(crate) fn door() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 6379))
}

/// Where a client on the host of a node finds its NATS door.
pub(crate) fn nats_door() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4222))
}

/// The way to everywhere of hosts that are watched.
pub(crate) fn gateway() -> IpAddr {
    IpAddr::from(GATEWAY)
}

/// Moves the calling thread onto a host: sockets that it opens from now on
/// are that host's.
pub(crate) fn enter(name: &str) -> Result<(), Trouble> {
    let path = format!("/run/netns/{name}");
    let file = File::open(&path).map_err(Trouble::at(path.clone()))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(Trouble::at(path))
}

fn ip(arguments: &[&str]) -> Result<(), Trouble> {
    run(&mut command("ip", arguments), Duration::from_secs(20))?.required().map(drop)
}

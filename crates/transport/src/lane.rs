//! Lanes and services: what a connection is for and who a call is for.
//! Lanes exist so that a heartbeat never waits behind a snapshot: each lane
//! to a peer is a connection of its own, ordered in itself only.

/// What a connection carries. One connection per peer and lane and direction
/// of dialling; nothing is ordered between lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, liveness, membership: small and urgent.
    Control,
    /// Replication of the log.
    Log,
    /// Everything that users wait for.
    Request,
    /// Snapshots and blocks: large and patient.
    Bulk,
}

impl Lane {
    /// Every lane, in the order of their wire numbers.
    pub const ALL: [Self; 4] = [Self::Control, Self::Log, Self::Request, Self::Bulk];

    /// The lane's number on the wire (0 to 3).
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Log => 1,
            Self::Request => 2,
            Self::Bulk => 3,
        }
    }

    /// The lane with this wire number, if there is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Control),
            1 => Some(Self::Log),
            2 => Some(Self::Request),
            3 => Some(Self::Bulk),
            _ => None,
        }
    }

    /// The position in [`Lane::ALL`].
    pub(crate) const fn index(self) -> usize {
        self.number() as usize
    }
}

/// Names the handler that a call is for. Ranges: replication from `0x01`,
/// cluster from `0x20`, database from `0x40`, mesh from `0x60`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service(pub u16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_survive_their_wire_numbers() {
        for (index, lane) in Lane::ALL.into_iter().enumerate() {
            assert_eq!(lane.index(), index);
            assert_eq!(Lane::from_number(lane.number()), Some(lane));
        }
        assert_eq!(Lane::from_number(4), None);
    }
}

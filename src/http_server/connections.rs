//! How many connections there may be, and which gives way to a new one when there are so many.
//!
//! A connection on which nothing is asked gives way first, the one that has waited longest, of the address that holds
//! most. Then one whose request is still coming, of an address that holds more than the new one's. What is being
//! answered is never given up: a new connection that nobody gives way to is refused.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::task::AbortHandle;

/// The connections of one or of several listeners.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    state: Mutex<State>,
}

/// How many there are, and what became of those that there was no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Open now.
    pub open: usize,
    /// How many may be open.
    pub most: usize,
    /// Closed to make room for others.
    pub gave_way: u64,
    /// Answered with 503 and closed at once, for want of room.
    pub refused: u64,
    /// Closed because their clients were too slow with a request, or in taking an answer.
    pub too_slow: u64,
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was asked yet, or everything is answered.
    Waiting,
    /// A request's body is coming.
    Receiving,
    /// A request is being answered.
    Working,
}

/// Who holds a connection. A network of an IPv6 provider's customer counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address => address,
        })
    }
}

impl Connections {
    /// None yet, and at most so many.
    pub fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    /// How many there are.
    pub fn counts(&self) -> ConnectionCounts {
        let state = self.lock();
        ConnectionCounts { open: state.open.len(), most: self.most, ..state.counts }
    }

    /// Room for a new connection, for which another may have to be closed. `None`: nobody gives way.
    pub fn admit(self: &Arc<Self>, source: Source) -> Option<Place> {
        let mut state = self.lock();
        let mut closed = None;
        if state.open.len() >= self.most {
            closed = state.close_one_for(Some(source));
            if closed.is_none() {
                state.counts.refused += 1;
                return None;
            }
        }
        state.last_id += 1;
        let id = state.last_id;
        state.open.insert(id, Connection { source, index: None, abort: None });
        state.change(source, |holder| holder.count += 1);
        drop(state);
        // Not while locked: what is aborted gives its place back.
        closed.inspect(AbortHandle::abort);
        Some(Place { connections: self.clone(), id })
    }

    /// Closes a connection on which nothing is asked, if there is one: the process has no descriptors left.
    pub fn close_one(&self) {
        let closed = self.lock().close_one_for(None);
        closed.inspect(AbortHandle::abort);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among the others, given back when dropped.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    id: u64,
}

impl Place {
    /// What ends the connection: from now on it may have to give way.
    pub fn closed_by(connections: &Connections, id: u64, abort: AbortHandle) {
        let mut state = connections.lock();
        if let Some(connection) = state.open.get_mut(&id) {
            connection.abort = Some(abort);
            state.set_phase(id, Phase::Waiting);
        }
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Says what the connection is at from now on.
    pub fn set_phase(&self, phase: Phase) {
        self.connections.lock().set_phase(self.id, phase);
    }

    /// Notes that the client was too slow.
    pub fn count_too_slow(&self) {
        self.connections.lock().counts.too_slow += 1;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().remove(self.id);
    }
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<u64, Connection>,
    holders: HashMap<Source, Holder>,
    /// Who has connections that give way, by how many connections of all kinds they hold.
    giving_way: [BTreeSet<(usize, Source)>; GIVING_WAY],
    last_id: u64,
    last_turn: u64,
    /// Apart from those that are open.
    counts: ConnectionCounts,
}

/// Phases in which connections give way: [`Phase::Waiting`] and [`Phase::Receiving`].
const GIVING_WAY: usize = 2;

#[derive(Debug)]
struct Connection {
    source: Source,
    /// Phase in which it gives way, and its turn there.
    index: Option<(usize, u64)>,
    /// There is none before its task was started.
    abort: Option<AbortHandle>,
}

/// What an address holds.
#[derive(Debug, Default)]
struct Holder {
    count: usize,
    /// Numbers of connections that give way, the longest first.
    giving_way: [BTreeMap<u64, u64>; GIVING_WAY],
}

impl State {
    /// Changes what an address holds, and keeps the order of addresses.
    fn change(&mut self, source: Source, change: impl FnOnce(&mut Holder)) {
        let holder = self.holders.entry(source).or_default();
        for (order, list) in self.giving_way.iter_mut().zip(&holder.giving_way) {
            if !list.is_empty() {
                order.remove(&(holder.count, source));
            }
        }
        change(holder);
        for (order, list) in self.giving_way.iter_mut().zip(&holder.giving_way) {
            if !list.is_empty() {
                order.insert((holder.count, source));
            }
        }
        if holder.count == 0 {
            self.holders.remove(&source);
        }
    }

    fn set_phase(&mut self, id: u64, phase: Phase) {
        self.last_turn += 1;
        let turn = self.last_turn;
        let Some(connection) = self.open.get_mut(&id).filter(|connection| connection.abort.is_some()) else {
            return;
        };
        let index = match phase {
            Phase::Waiting => Some((0, turn)),
            Phase::Receiving => Some((1, turn)),
            Phase::Working => None,
        };
        let (source, before) = (connection.source, std::mem::replace(&mut connection.index, index));
        self.change(source, |holder| {
            if let Some((list, turn)) = before {
                holder.giving_way[list].remove(&turn);
            }
            if let Some((list, turn)) = index {
                holder.giving_way[list].insert(turn, id);
            }
        });
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        let connection = self.open.remove(&id)?;
        self.change(connection.source, |holder| {
            holder.count -= 1;
            if let Some((list, turn)) = connection.index {
                holder.giving_way[list].remove(&turn);
            }
        });
        Some(connection)
    }

    /// Takes the connection that gives way to a new one of an address (`None`: to anybody's) off the list; what closes it.
    fn close_one_for(&mut self, source: Option<Source>) -> Option<AbortHandle> {
        let held = source.and_then(|source| self.holders.get(&source)).map_or(0, |holder| holder.count);
        let [waiting, receiving] = &self.giving_way;
        let victim = match (waiting.last(), receiving.last()) {
            (Some((count, holder)), _) if *count >= held => Some((0, *holder)),
            (_, Some((count, holder))) if source.is_some() && *count > held + 1 => Some((1, *holder)),
            _ => None,
        };
        let first = victim.and_then(|(list, holder)| {
            self.holders.get(&holder)?.giving_way[list].first_key_value().map(|(_, id)| *id)
        });
        let closed = first.and_then(|id| self.remove(id)).and_then(|connection| connection.abort);
        self.counts.gave_way += u64::from(closed.is_some());
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Source {
        IpAddr::from([192, 0, 2, last]).into()
    }

    struct Table {
        connections: Arc<Connections>,
        runtime: tokio::runtime::Runtime,
        places: Vec<Place>,
    }

    impl Table {
        fn new(most: usize) -> Self {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            Self { connections: Arc::new(Connections::new(most)), runtime, places: Vec::new() }
        }

        fn open(&mut self, from: u8, phase: Phase) -> bool {
            let Some(place) = self.connections.admit(source(from)) else { return false };
            let abort = self.runtime.spawn(std::future::pending::<()>()).abort_handle();
            Place::closed_by(&self.connections, place.id(), abort);
            place.set_phase(phase);
            self.places.push(place);
            true
        }

        /// Numbers of the connections that are left, in the order in which they were opened.
        fn left(&self) -> Vec<u64> {
            let mut left: Vec<u64> = self.connections.lock().open.keys().copied().collect();
            left.sort_unstable();
            left
        }
    }

    use Phase::{Receiving, Waiting, Working};

    #[test]
    fn whoever_has_waited_longest_gives_way() {
        let mut table = Table::new(3);
        assert!([Waiting, Waiting, Waiting].into_iter().all(|phase| table.open(1, phase)));
        table.places[0].set_phase(Working);
        table.places[0].set_phase(Waiting);
        assert!(table.open(2, Waiting) && table.left() == [1, 3, 4]);
        assert!(table.open(3, Waiting) && table.left() == [1, 4, 5]);
        let counts = table.connections.counts();
        assert_eq!((counts.open, counts.gave_way, counts.refused), (3, 2, 0));
    }

    #[test]
    fn an_address_that_holds_many_gives_way_before_one_that_holds_few() {
        let mut table = Table::new(5);
        assert!([1, 2, 2, 2, 2].into_iter().all(|from| table.open(from, Waiting)));
        for _ in 0..20 {
            assert!(table.open(2, Waiting), "its own give way");
        }
        assert!(table.left().contains(&1));
        assert!(table.open(1, Waiting) && table.open(3, Waiting));
        assert!(table.left().contains(&1), "{:?}", table.left());
    }

    #[test]
    fn bodies_that_are_coming_give_way_only_to_addresses_that_hold_less_and_work_never() {
        let mut table = Table::new(3);
        assert!(table.open(1, Receiving) && table.open(1, Receiving) && table.open(1, Working));
        assert!(!table.open(1, Waiting));
        assert!(table.open(2, Receiving) && table.left() == [2, 3, 4]);
        assert!(!table.open(2, Waiting), "it would hold as much");
        table.places.iter().for_each(|place| place.set_phase(Working));
        assert!(!table.open(3, Waiting));
        assert_eq!(table.connections.counts().refused, 3);
    }

    #[test]
    fn a_place_that_is_given_back_leaves_nothing_behind() {
        let mut table = Table::new(2);
        for round in 0..10 {
            table.open(round, Waiting);
            table.open(round, Receiving);
            table.places.clear();
        }
        let state = table.connections.lock();
        assert!(state.open.is_empty() && state.holders.is_empty());
        assert!(state.giving_way.iter().all(BTreeSet::is_empty));
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_a_mapped_address_is_its_own() {
        let of = |text: &str| Source::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}

//! Whether states that count as one are one: by visiting all of them, each for itself.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::Model;

use super::check::Check;
use super::promises::broken;
use super::world::World;

/// What was visited.
pub struct Visited {
    pub states: usize,
    /// States that count as one, counted once.
    pub essences: usize,
}

/// Visits every state of `check`, none of which counts as another; every promise must hold in each. States of one essence must
/// lead to states of the same essences: then nothing is lost by looking at one of them.
pub fn visit(check: &Check) -> Visited {
    let check = Check { is_exact: true, ..check.clone() };
    let mut pending = check.init_states();
    let mut seen: HashSet<u64> = pending.iter().map(exactly).collect();
    let mut futures: HashMap<u64, (BTreeSet<u64>, World)> = HashMap::new();
    while let Some(world) = pending.pop() {
        assert_eq!(broken(&check, &world), [""; 0], "{world:?}");
        let mut actions = Vec::new();
        check.actions(&world, &mut actions);
        let next = actions.into_iter().filter_map(|action| check.next_state(&world, action));
        let next: Vec<World> = next.collect();
        let own = essence(&world);
        let future: BTreeSet<u64> = next.iter().map(essence).filter(|next| *next != own).collect();
        pending.extend(next.into_iter().filter(|next| seen.insert(exactly(next))));
        let (of_others, first) = futures.entry(own).or_insert_with(|| (future.clone(), world.clone()));
        assert!(*of_others == future, "these count as one:\n{first:?}\n{world:?}");
    }
    Visited { states: seen.len(), essences: futures.len() }
}

fn exactly(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

fn essence(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash_essence(&mut hasher);
    hasher.finish()
}

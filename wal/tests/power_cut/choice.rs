//! Which of the states at a moment are made: the extremes always, and of the rest as many as are asked for.

use std::collections::BTreeSet;

use crate::recording::Node;
use crate::state::{Data, Names, Spec};
use crate::world::{World, file_of};

/// A disk writes a sector or none of it; a page cache writes pages.
const PIECES: [u64; 2] = [512, 4096];

/// Random states of each kind at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) torn: u64,
    pub(crate) scattered: u64,
    pub(crate) names: u64,
}

/// States at a moment. `seed` decides what is random in them.
pub(crate) fn states(world: &World<'_>, moment: u64, effort: Effort, seed: u64) -> Vec<Spec> {
    let all = Names::First(world.renames.len());
    let mut states: Vec<_> =
        datas(world, effort, seed).into_iter().map(|data| Spec { moment, data, names: all }).collect();
    for names in name_choices(world, effort, seed) {
        let few = [
            Data::Dropped,
            Data::Kept,
            Data::Scattered { piece: 512, seed },
            Data::Torn { kept: world.writes.len().saturating_sub(1), piece: 4096, seed },
        ];
        states.extend(few.map(|data| Spec { moment, data, names }));
    }
    states
}

fn datas(world: &World<'_>, effort: Effort, seed: u64) -> Vec<Data> {
    let count = world.writes.len();
    if count == 0 {
        return vec![Data::Kept];
    }
    let mut datas = vec![Data::Dropped, Data::Kept, Data::Lengths];
    let files: BTreeSet<Node> = world.writes.iter().map(|op| file_of(&op.kind)).collect();
    if files.len() > 1 {
        datas
            .extend(files.iter().flat_map(|node| [Data::Only { node: *node }, Data::Except { node: *node }]));
    }
    for piece in PIECES {
        // The last write is what a power cut tears first; then any other, behind which nothing is there.
        let last = (0..effort.torn).map(|n| (count - 1, n));
        let other = (0..effort.torn / 2).map(|n| (pick(seed + n, count), effort.torn + n));
        datas.extend(last.chain(other).map(|(kept, n)| Data::Torn { kept, piece, seed: seed + n }));
        datas.extend((0..effort.scattered).map(|n| Data::Scattered { piece, seed: seed + n }));
    }
    if count > 1 {
        datas.push(Data::Without { write: pick(seed, count - 1) });
    }
    datas
}

fn name_choices(world: &World<'_>, effort: Effort, seed: u64) -> Vec<Names> {
    let count = world.renames.len();
    let mut names: Vec<_> = (0..count).map(Names::First).collect();
    if count > 1 {
        names.extend((0..effort.names).map(|n| Names::Any { seed: seed + n }));
    }
    names
}

fn pick(seed: u64, below: usize) -> usize {
    usize::try_from(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33).unwrap() % below
}

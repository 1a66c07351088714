//! The pairs of several runs in order, each with how often it is gained more than lost.
//!
//! ```text
//! run 1, gained  [ . . . . | . . ]            of each input one block is open; the one that ends first is the bound:
//! run 1, lost    [ . . | . . . . . . ]        whatever is not above it comes in this round
//! run 2, gained  [ . . . ] <-- bound
//! ```
//! A round sorts what its inputs give, which is sorted piece by piece already, so that a pair costs some nanoseconds: a start walks tens of millions.
//! The last pair of a round may go on in the next and is held back until then.

use std::rc::Rc;

use super::run::{BlockStream, ReadAhead, Run};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::run::{Block, BlockKind, PairLayout, pair_of, pair_order};
use crate::ids::SegmentId;

/// A pair, and how often it is gained more than lost.
pub(super) type NetPair = ((u64, u64), i64);

/// The walk.
pub(super) struct NetPairs<D: Device> {
    inputs: Vec<PairInput<D>>,
    /// Of the present round: what [`pair_order`] says of a pair, and 1 or -1 for gained or lost.
    gathered: Vec<((u64, u64), i64)>,
    netted: Vec<NetPair>,
    /// The last pair so far, of which there may be more.
    last: Option<NetPair>,
}

/// A section of a run.
struct PairInput<D: Device> {
    stream: BlockStream<D>,
    /// `None` at the end.
    block: Option<Rc<Block>>,
    at: usize,
    sign: i64,
}

impl<D: Device> NetPairs<D> {
    /// Before the first pair. Reads of all runs begin at once.
    pub(super) async fn of(runs: &[Rc<Run<D>>], ahead: ReadAhead) -> Self {
        let mut inputs = Vec::with_capacity(2 * runs.len());
        for run in runs {
            for (kind, sign) in [(BlockKind::Added, 1), (BlockKind::Removed, -1)] {
                let mut stream = BlockStream::new(run.clone(), kind, ahead);
                stream.begin().await;
                inputs.push(PairInput { stream, block: None, at: 0, sign });
            }
        }
        NetPairs { inputs, gathered: Vec::new(), netted: Vec::new(), last: None }
    }

    /// The next pairs, none of which comes again; `None` at the end.
    ///
    /// # Errors
    /// Those of reading the runs; [`Error::Corrupt`] when the pairs of one are not in order.
    pub(super) async fn next(&mut self) -> Result<Option<&[NetPair]>> {
        self.netted.clear();
        while self.netted.is_empty() {
            for input in &mut self.inputs {
                input.settle().await?;
            }
            let Some(bound) = self.inputs.iter().filter_map(PairInput::end).min() else {
                self.netted.extend(self.last.take());
                return Ok((!self.netted.is_empty()).then_some(&self.netted));
            };
            self.gather(bound);
            self.net();
        }
        Ok(Some(&self.netted))
    }

    fn gather(&mut self, bound: (u64, u64)) {
        self.gathered.clear();
        for input in &mut self.inputs {
            let sign = input.sign;
            self.gathered.extend(input.take(bound).iter().map(|pair| (pair_order(&pair.get()), sign)));
        }
        // A stable sort finds the pieces that are in order and merges them.
        self.gathered.sort_by_key(|(order, _)| *order);
    }

    fn net(&mut self) {
        for (order, sign) in &self.gathered {
            let pair = pair_of(order);
            match &mut self.last {
                Some((last, net)) if *last == pair => *net += sign,
                last => self.netted.extend(last.replace((pair, *sign)).filter(|(_, net)| *net != 0)),
            }
        }
    }
}

impl<D: Device> PairInput<D> {
    /// Where the last pair of the open block stands in the order.
    fn end(&self) -> Option<(u64, u64)> {
        Some(pair_order(&self.block.as_ref()?.pairs().last()?.get()))
    }

    /// The pairs of the open block that are not above the bound, and passes them.
    fn take(&mut self, bound: (u64, u64)) -> &[PairLayout] {
        let Some(block) = &self.block else { return &[] };
        let left = &block.pairs()[self.at..];
        let is_in = |pair: &PairLayout| pair_order(&pair.get()) <= bound;
        let count = if left.last().is_none_or(is_in) { left.len() } else { left.partition_point(is_in) };
        self.at += count;
        &left[..count]
    }

    /// Opens the next block when the present one is used up.
    async fn settle(&mut self) -> Result<()> {
        while self.block.as_ref().is_none_or(|block| self.at == block.pairs().len()) {
            let end = self.end();
            self.block = self.stream.next().await?;
            self.at = 0;
            let Some(block) = &self.block else { return Ok(()) };
            let first = block.pairs().first().map(|pair| pair_order(&pair.get()));
            if first.zip(end).is_some_and(|(first, end)| first < end) {
                return Err(corrupt(self.stream.run(), "the pairs of a run are not in order"));
            }
        }
        Ok(())
    }
}

/// What a run holds contradicts itself or another.
pub(super) fn corrupt<D: Device>(run: &Run<D>, what: &'static str) -> Error {
    let extent = run.extents().first();
    let segment = extent.map_or(SegmentId(0), |extent| extent.segment);
    Error::Corrupt { segment, offset: extent.map_or(0, |extent| extent.offset()), what }
}

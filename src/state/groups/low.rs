//! The lowest of the marks of all members, without a look at all of them.
//!
//! Marks stand side by side, each at the *place* of its member. Sixteen of them share a node, which
//! knows the lowest and how many of its own stand there; sixteen nodes share one of the next level,
//! and so on. A mark that rises costs a step per level at the most, and only while it was the last
//! one to stand lowest: a hundred thousand members have four levels. Up to sixteen have none.

/// Marks or nodes below one node: a node is looked at as a whole, so they are few, and levels too.
const WIDTH: usize = 16;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Low {
    marks: Vec<u64>,
    /// Each above the one before; the last has at most [`WIDTH`] nodes.
    levels: Vec<Vec<Node>>,
}

/// What is known of those below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    least: u64,
    /// How many of those directly below stand there: at least one.
    count: u32,
}

impl Node {
    /// Of these; none: there are none.
    fn of(below: impl Iterator<Item = u64>) -> Option<Self> {
        below.fold(None, |known: Option<Self>, least| match known {
            Some(node) if node.least < least => known,
            Some(node) if node.least == least => Some(Self { least, count: node.count + 1 }),
            _ => Some(Self { least, count: 1 }),
        })
    }
}

impl Low {
    /// The lowest mark; none: there are no members.
    #[must_use]
    pub fn least(&self) -> Option<u64> {
        self.top().map(|node| node.least)
    }

    /// The place of the only one who stands lowest; none: there are several, or nobody at all.
    #[must_use]
    pub fn lone(&self) -> Option<u32> {
        let Node { least, count } = self.top()?;
        if count != 1 {
            return None;
        }
        let mut from = 0;
        for nodes in self.levels.iter().rev() {
            let mut below = nodes.iter().enumerate().skip(from).take(WIDTH);
            let (at, node) = below.find(|(_, node)| node.least == least)?;
            if node.count != 1 {
                return None;
            }
            from = at * WIDTH;
        }
        let place = self.marks.get(from..)?.iter().position(|mark| *mark == least)?;
        u32::try_from(from + place).ok()
    }

    /// The lowest mark of all but the one at `place`; none: there are no others.
    #[must_use]
    pub fn least_but(&self, place: u32) -> Option<u64> {
        let mut at = place as usize;
        let mut least = None;
        for level in 0..=self.levels.len() {
            let from = at / WIDTH * WIDTH;
            let others = (from..from + WIDTH).filter(|other| *other != at);
            let others = others.filter_map(|other| self.mark(level, other));
            least = others.chain(least).min();
            at /= WIDTH;
        }
        least
    }

    /// One more, at the place behind the last.
    pub fn push(&mut self, mark: u64) {
        self.marks.push(mark);
        self.renew(self.marks.len() - 1);
    }

    /// The one at `place` goes; the last one takes its place.
    pub fn swap_remove(&mut self, place: u32) {
        let place = place as usize;
        if place >= self.marks.len() {
            return;
        }
        self.marks.swap_remove(place);
        self.renew(self.marks.len());
        if place < self.marks.len() {
            self.renew(place);
        }
    }

    /// The mark at `place` moves.
    pub fn set(&mut self, place: u32, mark: u64) {
        let mut at = place as usize;
        let Some(known) = self.marks.get_mut(at) else { return };
        let (mut former, mut mark) = (std::mem::replace(known, mark), mark);
        for level in 0..self.levels.len() {
            at /= WIDTH;
            let node = self.levels[level][at];
            if former == mark || (former > node.least && mark > node.least) {
                return;
            }
            let fresh = if former > node.least && mark == node.least {
                Some(Node { count: node.count + 1, ..node })
            } else if former == node.least && mark > node.least && node.count > 1 {
                Some(Node { count: node.count - 1, ..node })
            } else {
                self.look_below(level, at)
            };
            let fresh = fresh.unwrap_or(node); // there is one: the mark itself is below
            self.levels[level][at] = fresh;
            (former, mark) = (node.least, fresh.least);
        }
    }

    /// Looks anew at all nodes above the place `at`, which came or went.
    fn renew(&mut self, mut at: usize) {
        for level in 0..self.levels.len() {
            at /= WIDTH;
            let fresh = self.look_below(level, at);
            let nodes = &mut self.levels[level];
            match fresh {
                Some(fresh) if at < nodes.len() => nodes[at] = fresh,
                Some(fresh) => nodes.push(fresh),
                None => nodes.truncate(at),
            }
        }
        while self.levels.last().map_or(self.marks.len(), Vec::len) > WIDTH {
            let level = self.levels.len();
            self.levels.push(Vec::new());
            let nodes = (0..).map_while(|at| self.look_below(level, at)).collect();
            self.levels[level] = nodes;
        }
        while let Some(level) = self.levels.len().checked_sub(1)
            && self.width_below(level) <= WIDTH
        {
            self.levels.pop();
        }
    }

    /// How many marks or nodes there are below this level.
    fn width_below(&self, level: usize) -> usize {
        level.checked_sub(1).map_or(self.marks.len(), |below| self.levels[below].len())
    }

    /// What the node `at` of this level should say.
    fn look_below(&self, level: usize, at: usize) -> Option<Node> {
        let from = at * WIDTH;
        Node::of((from..from + WIDTH).map_while(|below| self.mark(level, below)))
    }

    /// The mark, or the lowest of the node, `at` this place below a level.
    fn mark(&self, level: usize, at: usize) -> Option<u64> {
        match level.checked_sub(1) {
            None => self.marks.get(at).copied(),
            Some(below) => self.levels[below].get(at).map(|node| node.least),
        }
    }

    /// A node above all others.
    fn top(&self) -> Option<Node> {
        self.look_below(self.levels.len(), 0)
    }
}

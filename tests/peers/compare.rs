// SPDX-License-Identifier: BSD-2-Clause
//! Two multisets, and what explains their difference.

use std::collections::BTreeMap;
use std::collections::HashMap;

use crate::holes::Hole;
use crate::model::Item;
use crate::model::Multiset;

/// One of hello's events, as a peer would show it.
#[derive(Debug, Clone)]
pub(crate) struct Ours {
    /// In the order they are tried; the first as the peer should show it, the others as
    /// it does for a reason.
    pub(crate) views: Vec<(Option<Hole>, Item)>,
    /// What the peer's text may begin or end with where it was cut short for a reason
    /// that depends on the moment.
    pub(crate) partly: Option<(Hole, Partly)>,
    /// Why the peer may not show it at all.
    pub(crate) may_miss: Option<Hole>,
    pub(crate) times: u64,
}

/// How a text may be less than the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Partly {
    /// It may end early.
    Begins(String),
    /// It may be the whole's beginning: hello cut it.
    Longer(String),
}

/// A comparison's result.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    pub(crate) ours: u64,
    pub(crate) theirs: u64,
    pub(crate) common: u64,
    pub(crate) only_ours: u64,
    pub(crate) only_theirs: u64,
    /// How often which hole explains one of the last two, or a text that differs.
    pub(crate) explained: BTreeMap<Hole, u64>,
    /// What nothing explains: hello's bugs, or holes that nobody has described yet.
    pub(crate) unexplained: Vec<String>,
}

/// Losses that each side has told.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Losses {
    pub(crate) ours: u64,
    pub(crate) theirs: u64,
    /// The peer is known to lose and not to tell.
    pub(crate) silent: bool,
}

const SHOWN: usize = 12;

impl Difference {
    pub(crate) fn explain(&mut self, hole: Hole, times: u64) {
        if times > 0 {
            *self.explained.entry(hole).or_default() += times;
        }
    }

    pub(crate) fn complain(&mut self, text: String) {
        match self.unexplained.len() {
            0..SHOWN => self.unexplained.push(text),
            SHOWN => self.unexplained.push("and more".into()),
            _ => {}
        }
    }

    /// What is left on either side after all else, against what was told as lost.
    fn settle(&mut self, left: Vec<(String, u64)>, told: &mut u64, hole: Hole, who: &str) {
        for (text, times) in left {
            let lost = times.min(*told);
            *told -= lost;
            self.explain(hole, lost);
            if times > lost {
                self.complain(format!("only {who} ({}): {text}", times - lost));
            }
        }
    }
}

fn take(theirs: &mut Multiset<Item>, item: &Item, wanted: u64) -> u64 {
    let Some(there) = theirs.get_mut(item) else {
        return 0;
    };
    let taken = wanted.min(*there);
    *there -= taken;
    if *there == 0 {
        theirs.remove(item);
    }
    taken
}

/// Compares events. Views are tried one after the other for all events, so that an exact
/// match is never taken by one that needs an excuse. `may_make_up`: what the peer may show
/// that did not happen so, and why.
pub(crate) fn events(
    mut ours: Vec<Ours>,
    mut theirs: Multiset<Item>,
    losses: Losses,
    may_make_up: impl Fn(&Item) -> Option<Hole>,
) -> Difference {
    let mut result = Difference {
        ours: ours.iter().map(|event| event.times).sum(),
        theirs: theirs.values().sum(),
        ..Difference::default()
    };
    // Of two that look the same, one of them by a call that the peer cannot see, it has
    // seen the other.
    ours.sort_by_key(|event| event.may_miss.is_some());
    let most = ours
        .iter()
        .map(|event| event.views.len())
        .max()
        .unwrap_or(0);
    for at in 0..most {
        for event in &mut ours {
            if let Some((hole, item)) = event.views.get(at) {
                let taken = take(&mut theirs, item, event.times);
                event.times -= taken;
                result.common += taken;
                if let Some(hole) = hole {
                    result.explain(*hole, taken);
                }
            }
        }
    }
    ours.retain(|event| event.times > 0);
    partly(&mut ours, &mut theirs, &mut result);
    ours.retain(|event| event.times > 0);

    result.only_ours = ours.iter().map(|event| event.times).sum();
    result.only_theirs = theirs.values().sum();
    let mut left = Vec::new();
    for event in ours {
        if let Some(hole) = event.may_miss {
            result.explain(hole, event.times);
        } else {
            let text = event.views.first().map(|view| format!("{:?}", view.1));
            left.push((text.unwrap_or_default(), event.times));
        }
    }
    let (mut told, hole) = if losses.silent {
        (u64::MAX, Hole::Silent)
    } else {
        (losses.theirs, Hole::PeerTold)
    };
    result.settle(left, &mut told, hole, "hello");
    let mut left = Vec::new();
    for (item, times) in theirs {
        match may_make_up(&item) {
            Some(hole) => result.explain(hole, times),
            None => left.push((format!("{item:?}"), times)),
        }
    }
    let mut told = losses.ours;
    result.settle(left, &mut told, Hole::HelloTold, "the peer");
    result
}

/// Texts cut at a place that only the peer knows: the longest that fits.
fn partly(ours: &mut [Ours], theirs: &mut Multiset<Item>, result: &mut Difference) {
    let mut places: HashMap<(u32, i64), Vec<String>> = HashMap::new();
    for item in theirs.keys() {
        let texts = places.entry((item.pid, item.ret)).or_default();
        texts.push(item.text.clone());
    }
    for texts in places.values_mut() {
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    }
    for event in ours {
        let (Some((hole, partly)), Some((_, whole))) = (&event.partly, event.views.first()) else {
            continue;
        };
        for text in places.get(&(whole.pid, whole.ret)).into_iter().flatten() {
            let fits = match partly {
                Partly::Begins(whole) => whole.starts_with(text.as_str()),
                Partly::Longer(start) => text.starts_with(start.as_str()),
            };
            if fits {
                let item = Item {
                    text: text.clone(),
                    ..*whole
                };
                let taken = take(theirs, &item, event.times);
                event.times -= taken;
                result.common += taken;
                result.explain(*hole, taken);
            }
            if event.times == 0 {
                break;
            }
        }
    }
}

/// What a peer may count for a name where hello has counted a number.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) least: u64,
    pub(crate) most: u64,
    pub(crate) hole: Hole,
}

/// Compares counts; `expected` says what to expect for a name where that is not the same.
pub(crate) fn counts(
    ours: &Multiset<String>,
    theirs: &Multiset<String>,
    losses: Losses,
    expected: impl Fn(&str, u64) -> Option<Expected>,
) -> Difference {
    let mut result = Difference {
        ours: ours.values().sum(),
        theirs: theirs.values().sum(),
        ..Difference::default()
    };
    let mut names: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
    names.sort();
    names.dedup();
    let (mut left_ours, mut left_theirs) = (Vec::new(), Vec::new());
    for name in names {
        let mine = ours.get(name).copied().unwrap_or(0);
        let peers = theirs.get(name).copied().unwrap_or(0);
        result.common += mine.min(peers);
        result.only_ours += mine.saturating_sub(peers);
        result.only_theirs += peers.saturating_sub(mine);
        if mine == peers {
            continue;
        }
        if let Some(range) = expected(name, mine)
            && (range.least..=range.most).contains(&peers)
        {
            result.explain(range.hole, mine.abs_diff(peers));
        } else if mine > peers {
            left_ours.push((format!("{name}: {mine}, {peers} by the peer"), mine - peers));
        } else {
            left_theirs.push((format!("{name}: {peers}, {mine} by hello"), peers - mine));
        }
    }
    let mut told = losses.theirs;
    result.settle(left_ours, &mut told, Hole::PeerTold, "hello");
    let mut told = losses.ours;
    result.settle(left_theirs, &mut told, Hole::HelloTold, "the peer");
    result
}

//! The wire on which nodes wake each other. It is slow, and loses what it likes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sexton::daemon::engine::OpenWire;
use sexton::store::wakeups::{Heard, News, Wakeups};

use super::super::dice::Dice;
use super::super::time::Course;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<State>>);

struct State {
    course: Course,
    dice: Dice,
    nodes: usize,
    /// How many of a hundred messages are lost.
    loses: u64,
    listeners: BTreeMap<usize, Heard>,
    under_way: Vec<Message>,
}

struct Message {
    to: usize,
    news: News,
    arrives_at: Duration,
}

impl Wire {
    pub(super) fn new(course: Course, dice: Dice, nodes: usize, loses: u64) -> Self {
        let (listeners, under_way) = (BTreeMap::new(), Vec::new());
        let state = State { course, dice, nodes, loses, listeners, under_way };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node's end of it.
    pub(super) fn end_of(&self, node: usize) -> OpenWire {
        let wire = self.clone();
        Box::new(move |heard| {
            wire.state().listeners.insert(node, heard);
            Ok(Wakeups::through(move |news| wire.state().tell(node, news)))
        })
    }

    /// A node hears nothing any more.
    pub(super) fn unplug(&self, node: usize) {
        let mut state = self.state();
        state.listeners.remove(&node);
        state.under_way.retain(|message| message.to != node);
    }

    /// Hands a node what has arrived for it; where the node is cut off, nothing does.
    pub(super) fn deliver(&self, node: usize, is_cut_off: bool) {
        let mut state = self.state();
        let now = state.course.now();
        let (arrived, under_way) = std::mem::take(&mut state.under_way)
            .into_iter()
            .partition(|message| message.to == node && message.arrives_at <= now);
        state.under_way = under_way;
        if let Some(heard) = state.listeners.get(&node).filter(|_| !is_cut_off) {
            let arrived: Vec<Message> = arrived;
            arrived.into_iter().for_each(|message| heard(message.news));
        }
    }
}

impl State {
    fn tell(&mut self, from: usize, news: News) {
        for to in (0..self.nodes).filter(|to| *to != from) {
            if !self.dice.chance(self.loses) {
                let slow = if self.dice.chance(10) { 4000 } else { 50 };
                let takes = Duration::from_millis(self.dice.between(0, slow));
                let arrives_at = self.course.now() + takes;
                self.under_way.push(Message { to, news, arrives_at });
            }
        }
    }
}

//! The rules against a model: a map of strings with expiries, changed in the
//! most obvious way.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::stories::{START_MS, Story, shown};

#[derive(Debug, Clone)]
enum Step {
    Set(u8, String),
    SetPx(u8, u64),
    SetNx(u8, String),
    KeepTtl(u8, String),
    Append(u8, String),
    Incr(u8, i64),
    Del(u8),
    Get(u8),
    Exists(u8),
    Pttl(u8),
    PExpire(u8, u64),
    Persist(u8),
    Rename(u8, u8),
    Copy(u8, u8),
    Flush,
    Sweep,
    Collect,
    Wait(u64),
    Keys,
}

fn any_step() -> impl Strategy<Value = Step> {
    let key = || 0_u8..6;
    let text = || "[0-9]{1,3}|[a-z]{1,3}";
    prop_oneof![
        (key(), text()).prop_map(|(k, v)| Step::Set(k, v)),
        (key(), 1_u64..300).prop_map(|(k, ms)| Step::SetPx(k, ms)),
        (key(), text()).prop_map(|(k, v)| Step::SetNx(k, v)),
        (key(), text()).prop_map(|(k, v)| Step::KeepTtl(k, v)),
        (key(), text()).prop_map(|(k, v)| Step::Append(k, v)),
        (key(), -9_i64..9).prop_map(|(k, n)| Step::Incr(k, n)),
        key().prop_map(Step::Del),
        key().prop_map(Step::Get),
        key().prop_map(Step::Exists),
        key().prop_map(Step::Pttl),
        (key(), 1_u64..300).prop_map(|(k, ms)| Step::PExpire(k, ms)),
        key().prop_map(Step::Persist),
        (key(), key()).prop_map(|(a, b)| Step::Rename(a, b)),
        (key(), key()).prop_map(|(a, b)| Step::Copy(a, b)),
        Just(Step::Flush),
        Just(Step::Sweep),
        Just(Step::Collect),
        (1_u64..200).prop_map(Step::Wait),
        Just(Step::Keys),
    ]
}

#[derive(Default)]
struct Model {
    keys: BTreeMap<u8, (String, Option<u64>)>,
    now_ms: u64,
}

const NOT_INTEGER: &str = "-ERR value is not an integer or out of range";

impl Model {
    fn get(&mut self, key: u8) -> Option<(String, Option<u64>)> {
        let now_ms = self.now_ms;
        self.keys.retain(|_, (_, at)| at.is_none_or(|at| at > now_ms));
        self.keys.get(&key).cloned()
    }

    /// The command for the step and the reply to it.
    #[allow(clippy::too_many_lines, reason = "one arm per command, nothing else")]
    fn step(&mut self, step: &Step) -> Option<(String, String)> {
        let flag = |flag: bool| format!(":{}", u8::from(flag));
        Some(match step.clone() {
            Step::Set(k, v) => {
                self.keys.insert(k, (v.clone(), None));
                (format!("SET {k} {v}"), "+OK".into())
            }
            Step::SetPx(k, ms) => {
                self.keys.insert(k, ("px".into(), Some(self.now_ms + ms)));
                (format!("SET {k} px PX {ms}"), "+OK".into())
            }
            Step::SetNx(k, v) => {
                let free = self.get(k).is_none();
                if free {
                    self.keys.insert(k, (v.clone(), None));
                }
                (format!("SETNX {k} {v}"), flag(free))
            }
            Step::KeepTtl(k, v) => {
                let at = self.get(k).and_then(|(_, at)| at);
                self.keys.insert(k, (v.clone(), at));
                (format!("SET {k} {v} KEEPTTL"), "+OK".into())
            }
            Step::Append(k, v) => {
                let (mut text, at) = self.get(k).unwrap_or_default();
                text.push_str(&v);
                let length = text.len();
                self.keys.insert(k, (text, at));
                (format!("APPEND {k} {v}"), format!(":{length}"))
            }
            Step::Incr(k, n) => {
                let (text, at) = self.get(k).unwrap_or(("0".into(), None));
                let canonical = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
                let reply = match canonical {
                    None => NOT_INTEGER.to_owned(),
                    Some(number) => {
                        self.keys.insert(k, ((number + n).to_string(), at));
                        format!(":{}", number + n)
                    }
                };
                (format!("INCRBY {k} {n}"), reply)
            }
            Step::Del(k) => {
                let there = self.get(k).is_some();
                self.keys.remove(&k);
                (format!("DEL {k}"), flag(there))
            }
            Step::Get(k) => (format!("GET {k}"), self.get(k).map_or("(nil)".into(), |(text, _)| text)),
            Step::Exists(k) => (format!("EXISTS {k}"), flag(self.get(k).is_some())),
            Step::Pttl(k) => {
                let left = match self.get(k) {
                    None => "-2".to_owned(),
                    Some((_, None)) => "-1".to_owned(),
                    Some((_, Some(at))) => (at - self.now_ms).to_string(),
                };
                (format!("PTTL {k}"), format!(":{left}"))
            }
            Step::PExpire(k, ms) => {
                let old = self.get(k);
                let there = old.is_some();
                old.map(|(text, _)| self.keys.insert(k, (text, Some(self.now_ms + ms))));
                (format!("PEXPIRE {k} {ms}"), flag(there))
            }
            Step::Persist(k) => {
                let old = self.get(k).filter(|(_, at)| at.is_some());
                let there = old.is_some();
                old.map(|(text, _)| self.keys.insert(k, (text, None)));
                (format!("PERSIST {k}"), flag(there))
            }
            Step::Rename(a, b) => {
                let old = self.get(a);
                let reply = if old.is_some() { "+OK" } else { "-ERR no such key" };
                if let Some(old) = old {
                    self.keys.remove(&a);
                    self.keys.insert(b, old);
                }
                (format!("RENAME {a} {b}"), reply.into())
            }
            Step::Copy(a, b) if a != b => {
                let old = self.get(a);
                let there = old.is_some();
                old.map(|old| self.keys.insert(b, old));
                (format!("COPY {a} {b} REPLACE"), flag(there))
            }
            Step::Flush => {
                self.keys.clear();
                ("FLUSHDB".into(), "+OK".into())
            }
            Step::Copy(..) | Step::Sweep | Step::Collect | Step::Wait(_) | Step::Keys => return None,
        })
    }
}

fn sorted_keys(story: &Story) -> Vec<String> {
    let mut keys: Vec<String> = story.keys(&Bytes::new()).iter().map(shown).collect();
    keys.sort();
    keys
}

proptest! {
    #[test]
    fn a_partition_behaves_like_a_map(steps in proptest::collection::vec(any_step(), 1..80)) {
        let mut story = Story::new();
        let mut model = Model { now_ms: START_MS, ..Model::default() };
        for step in &steps {
            if let Some((line, reply)) = model.step(step) {
                prop_assert_eq!(shown(&story.run(&line).value()), reply, "{}", line);
            }
            match step {
                Step::Wait(ms) => {
                    story.wait(*ms);
                    model.now_ms += ms;
                }
                Step::Sweep => {
                    story.propose(&crate::codec::delete_due(2));
                }
                Step::Collect => {
                    story.propose(&crate::codec::collect(2));
                }
                Step::Keys => {
                    model.get(0);
                    let expected: Vec<String> = model.keys.keys().map(ToString::to_string).collect();
                    prop_assert_eq!(sorted_keys(&story), expected);
                }
                _ => {}
            }
        }
        story.propose(&crate::codec::delete_due(1000));
        story.propose(&crate::codec::collect(1000));
        model.get(0);
        prop_assert_eq!(shown(&story.run("DBSIZE").value()), format!(":{}", model.keys.len()));
        let expiring = model.keys.values().filter(|(_, at)| at.is_some()).count();
        // The counts, once there was a key, and how far was swept.
        let counts = usize::from(story.rows() > 1) + 1;
        prop_assert_eq!(story.rows() - counts, model.keys.len() + expiring, "no row is left over");
    }
}
